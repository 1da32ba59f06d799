//! The text format of Prometheus, version 0.0.4, for scrapers that do not support OpenMetrics.

/// Converts metrics from OpenMetrics, where names of counters lack `_total`, units have their own lines, and there is
/// an end marker.
pub(crate) fn from_open_metrics(metrics: &str) -> String {
    let mut text = String::with_capacity(metrics.len());
    let mut help = "";
    for line in metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            let help = help.strip_prefix(name).unwrap_or_default();
            text += &format!("# HELP {name}{suffix}{help}\n# TYPE {name}{suffix} {kind}\n");
        } else if !line.starts_with('#') {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// Whether an `Accept` header prefers this format to OpenMetrics.
pub(crate) fn is_preferred(accept: &str) -> bool {
    let weight = |kind: &str| {
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|range| range.eq_ignore_ascii_case(kind));
            is_it.then(|| parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0))
        });
        ranges.fold(0.0, f32::max)
    };
    weight("text/plain") > weight("application/openmetrics-text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_counters_are_complete_and_units_are_removed() {
        let metrics = "# HELP a Of a.\n# TYPE a counter\na_total{b=\"# c\"} 1\n\
                       # HELP d_seconds Of d.\n# TYPE d_seconds histogram\n# UNIT d_seconds seconds\nd_seconds_sum 0.5\n# EOF\n";
        let text = "# HELP a_total Of a.\n# TYPE a_total counter\na_total{b=\"# c\"} 1\n\
                    # HELP d_seconds Of d.\n# TYPE d_seconds histogram\nd_seconds_sum 0.5\n";
        assert_eq!(from_open_metrics(metrics), text);
    }

    #[test]
    fn the_text_format_is_used_if_it_is_preferred() {
        for accept in
            ["text/plain", "text/plain; version=0.0.4", "application/openmetrics-text;q=0.5, Text/Plain;q=0.7"]
        {
            assert!(is_preferred(accept), "{accept}");
        }
        // The last one is sent by Prometheus.
        for accept in [
            "",
            "*/*",
            "text/html,*/*;q=0.8",
            "text/plain;q=0",
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
        ] {
            assert!(!is_preferred(accept), "{accept}");
        }
    }
}

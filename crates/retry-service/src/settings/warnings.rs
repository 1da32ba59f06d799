//! Settings that were given but have no effect, or not the expected one.

use retry_client::{GrpcCode, HedgeAfter};

use super::{
    dump::Dump,
    flags::{self, GATEWAY_ONLY, Settings},
};

/// Returns a warning for each of them, unless the value is the default.
pub(super) fn find(settings: &Settings, dump: &Dump, command: &clap::Command) -> Vec<String> {
    let Settings { forward, retries, timeouts, operations, .. } = settings;
    let mut warnings = Vec::new();
    let mut no_effect = |name: &str, reason: String| {
        warnings.extend(dump.given(name).map(|given| format!("{given} has no effect: {reason}")));
    };
    if let Some((attempt, deadline)) = timeouts.attempt_timeout.0.zip(timeouts.deadline.0)
        && attempt >= deadline
    {
        let reason = format!("an attempt of {attempt:?} does not end before the deadline of {deadline:?} (--deadline)");
        no_effect("attempt-timeout", reason);
    }
    if *forward {
        no_effect("path", "with --forward, every request keeps its own path".to_owned());
        check_endpoints(settings, &mut no_effect);
        if let Some(reason) = without_grpc(settings) {
            no_effect("grpc-status-codes", reason);
        }
        if operations.admin.0.is_none() {
            no_effect("ready-needs-upstream", "/readyz is not served (--admin)".to_owned());
        }
    } else {
        for name in flags::names(command, GATEWAY_ONLY) {
            no_effect(name, "without --forward, no request is forwarded".to_owned());
        }
    }
    let retries_throttled = retries.status_codes.0.contains(&429)
        || *forward && retries.grpc_status_codes.0.contains(&GrpcCode::ResourceExhausted);
    if !retries_throttled {
        let reason = "neither 429 (--status-codes) nor RESOURCE_EXHAUSTED (--grpc-status-codes) is retried";
        no_effect("throttled-interval", reason.to_owned());
    }
    if !settings.upstreams().iter().any(|url| url.is_https()) {
        no_effect("upstream-ca", "the URL of the upstream starts with http:// (--upstream)".to_owned());
    }
    if retries.budget_ratio.0.is_none() {
        no_effect("budget-min-per-sec", "there is no budget (--budget-ratio)".to_owned());
    }
    if let Some((wait, deadline)) = settings.outages.outage_wait.0.zip(timeouts.deadline.0)
        && *forward
        && wait > deadline
        && let Some(given) = dump.given("outage-wait")
    {
        warnings.push(format!("{given} of {wait:?} has no effect beyond the deadline of {deadline:?} (--deadline)"));
    }
    if let (Some(idle), Some(deadline), None) = (timeouts.timeout.0, timeouts.deadline.0, timeouts.attempt_timeout.0)
        && idle >= deadline
        && retries.count > 0
    {
        let given = dump.given("deadline").unwrap_or_else(|| "--deadline".to_owned());
        warnings.push(format!(
            "{given} of {deadline:?} leaves no time for a second attempt if the upstream does not respond, as the first \
             one then takes {idle:?} (--timeout); set --attempt-timeout"
        ));
    }
    let (interval, maximum) = (retries.interval, retries.max_wait_interval);
    if interval > maximum && retries.count > 0 {
        let given = dump.given("interval").unwrap_or_else(|| format!("--interval, by default {interval:?},"));
        warnings.push(format!("{given} has no effect: no wait exceeds {maximum:?} (--max-wait-interval)"));
    }
    warnings
}

/// Returns why no gRPC call reaches the upstream, if that is the case.
fn without_grpc(settings: &Settings) -> Option<String> {
    let speaks_http2 = settings.connections.upstream_http2 || settings.upstreams().iter().any(|url| url.is_https());
    (!speaks_http2).then(|| "gRPC takes HTTP/2 to the upstream (--upstream-http2)".to_owned())
}

/// Passes the settings of endpoints that have no effect on these to `no_effect`, with the reason.
fn check_endpoints(settings: &Settings, no_effect: &mut impl FnMut(&str, String)) {
    if !settings.upstreams().iter().any(|url| url.is_resolved()) {
        let reason = "each URL of the upstream has an address or localhost instead of a name (--upstream)";
        no_effect("upstream-refresh", reason.to_owned());
    }
    if !settings.may_have_several_endpoints() {
        for name in ["eject-after", "max-ejected", "hedge-after"] {
            no_effect(name, "there is a single endpoint (--upstream)".to_owned());
        }
        if settings.outages.outage_wait.0.is_none() {
            for name in ["slow-start", "ready-needs-upstream"] {
                no_effect(name, "a single endpoint always counts as up without --outage-wait".to_owned());
            }
        }
    }
    if let Some(HedgeAfter::Time(after)) = settings.retries.hedge_after.0 {
        let timeouts = &settings.timeouts;
        let limits = [("--attempt-timeout", timeouts.attempt_timeout.0), ("--deadline", timeouts.deadline.0)];
        let ends = limits.into_iter().find_map(|(name, limit)| Some((name, limit.filter(|limit| *limit <= after)?)));
        if let Some((name, limit)) = ends {
            no_effect("hedge-after", format!("an attempt does not take longer than {limit:?} ({name})"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::settings::LoadedSettings;

    #[test]
    fn a_setting_without_effect_is_reported_with_the_reason() {
        let check = |args: &[&str], expected: &[&str]| {
            let args = ["retry-service"].iter().chain(args).map(OsString::from);
            let warnings = LoadedSettings::from_args(args).unwrap().warnings;
            let warnings: Vec<_> = warnings.iter().filter(|line| line.starts_with("--")).collect();
            assert_eq!(warnings, expected);
        };
        check(&[], &[]);
        check(&["--forward"], &[]);
        check(&["--deadline", "3s", "--attempt-timeout", "2s"], &[]);
        check(
            &["--deadline", "3s", "--attempt-timeout", "3s"],
            &["--attempt-timeout has no effect: an attempt of 3s does not end before the deadline of 3s (--deadline)"],
        );
        check(
            &["--forward", "--deadline", "3s"],
            &["--deadline of 3s leaves no time for a second attempt if the upstream does not respond, as the \
                 first one then takes 30s (--timeout); set --attempt-timeout"],
        );
        check(&["--forward", "--deadline", "3s", "--timeout", "1s"], &[]);
        check(&["--forward", "--deadline", "3s", "--count", "0"], &[]);
        check(&["--forward", "--deadline", "9s", "--attempt-timeout", "3s"], &[]);
        check(
            &["--forward", "--deadline", "9s", "--attempt-timeout", "3s", "--outage-wait", "20s"],
            &["--outage-wait of 20s has no effect beyond the deadline of 9s (--deadline)"],
        );
        check(
            &["--forward", "--attempt-timeout", "1s", "--upstream", "http://a,http://b", "--hedge-after", "1s"],
            &["--hedge-after has no effect: an attempt does not take longer than 1s (--attempt-timeout)"],
        );
        check(
            &["--forward", "--hedge-after", "95%"],
            &["--hedge-after has no effect: there is a single endpoint (--upstream)"],
        );
        check(&["--forward", "--upstream", "http://shop.example", "--hedge-after", "95%"], &[]);
        check(
            &["--forward", "--grpc-status-codes", "UNAVAILABLE"],
            &["--grpc-status-codes has no effect: gRPC takes HTTP/2 to the upstream (--upstream-http2)"],
        );
        check(&["--forward", "--grpc-status-codes", "UNAVAILABLE", "--upstream-http2"], &[]);
        check(&["--forward", "--grpc-status-codes", "UNAVAILABLE", "--upstream", "https://shop.example"], &[]);
        check(&["--interval", "20s"], &[]);
        check(&["--interval", "21s", "--count", "0"], &[]);
        check(&["--interval", "21s"], &["--interval has no effect: no wait exceeds 20s (--max-wait-interval)"]);
        check(
            &["--max-wait-interval", "1s"],
            &["--interval, by default 3s, has no effect: no wait exceeds 1s (--max-wait-interval)"],
        );
        check(&["--host", "keep", "--via=on"], &[]);
        check(
            &["--host", "rewrite", "--max-body-size", "1MiB"],
            &[
                "--host has no effect: without --forward, no request is forwarded",
                "--max-body-size has no effect: without --forward, no request is forwarded",
            ],
        );
        check(
            &["--max-tunnels", "5", "--request-buffer-time", "2s"],
            &[
                "--request-buffer-time has no effect: without --forward, no request is forwarded",
                "--max-tunnels has no effect: without --forward, no request is forwarded",
            ],
        );
        check(&["--forward", "--host", "rewrite", "--max-body-size", "1MiB"], &[]);
        check(
            &["--forward", "--eject-after", "3", "--max-ejected", "1", "--upstream-refresh", "1s"],
            &[
                "--upstream-refresh has no effect: each URL of the upstream has an address or localhost instead of a \
                 name (--upstream)",
                "--eject-after has no effect: there is a single endpoint (--upstream)",
                "--max-ejected has no effect: there is a single endpoint (--upstream)",
            ],
        );
        check(&["--forward", "--eject-after", "3", "--upstream", "http://shop", "--upstream-refresh", "1s"], &[]);
        check(
            &["--forward", "--eject-after", "3", "--upstream", "http://a,http://b", "--upstream-refresh", "off"],
            &[],
        );
        check(
            &["--forward", "--slow-start", "1s", "--ready-needs-upstream", "--admin", "1", "--outage-wait", "off"],
            &[
                "--slow-start has no effect: a single endpoint always counts as up without --outage-wait",
                "--ready-needs-upstream has no effect: a single endpoint always counts as up without --outage-wait",
            ],
        );
        check(
            &["--forward", "--ready-needs-upstream"],
            &["--ready-needs-upstream has no effect: /readyz is not served (--admin)"],
        );
        check(&["--forward", "--slow-start", "1s", "--ready-needs-upstream", "--admin", "1"], &[]);
        check(&["--outage-wait", "3s"], &["--outage-wait has no effect: without --forward, no request is forwarded"]);
        check(
            &["--forward", "--throttled-interval", "2s"],
            &["--throttled-interval has no effect: neither 429 (--status-codes) nor RESOURCE_EXHAUSTED \
               (--grpc-status-codes) is retried"],
        );
        check(&["--forward", "--throttled-interval", "2s", "--status-codes", "429,503"], &[]);
        let grpc = ["--upstream-http2", "--grpc-status-codes", "RESOURCE_EXHAUSTED", "--throttled-interval", "2s"];
        check(&[&["--forward"][..], &grpc].concat(), &[]);
        check(
            &["--forward", "--path", "/other"],
            &["--path has no effect: with --forward, every request keeps its own path"],
        );
        check(
            &["--budget-min-per-sec", "5"],
            &["--budget-min-per-sec has no effect: there is no budget (--budget-ratio)"],
        );
        check(&["--budget-min-per-sec", "5", "--budget-ratio", "0.1"], &[]);
    }
}

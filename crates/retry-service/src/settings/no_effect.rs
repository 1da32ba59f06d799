//! Settings that were given and have no effect, or not the one that they seem to have.

use super::{Listing, Settings};

/// What only a gateway does.
const FORWARDING: [&str; 12] = [
    "retry-methods",
    "forwarded",
    "trusted-proxies",
    "host",
    "via",
    "preserve-header-case",
    "server-timing",
    "response-buffer",
    "response-buffer-time",
    "replay-limit",
    "replay-memory",
    "max-body-size",
];

/// A line for each of them. What is given as it is by default has no effect either, and needs none.
pub(super) fn find(settings: &Settings, listing: &Listing) -> Vec<String> {
    let mut found = Vec::new();
    let mut tell = |name: &str, why: String| {
        if let Some(given) = listing.given(name) {
            found.push(format!("{given} has no effect: {why}"));
        }
    };
    if let Some((attempt, deadline)) = settings.attempt_timeout.0.zip(settings.deadline.0)
        && attempt >= deadline
    {
        let why = format!("an attempt of {attempt:?} does not end before the deadline of {deadline:?} (--deadline)");
        tell("attempt-timeout", why);
    }
    if settings.forward {
        tell("path", "with --forward every request keeps its own".to_owned());
    } else {
        for name in FORWARDING {
            tell(name, "without --forward no request is forwarded".to_owned());
        }
    }
    if !settings.upstream.0.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
        tell("upstream-ca", "the upstream's URL starts with http:// (--upstream)".to_owned());
    }
    if settings.budget_ratio.0.is_none() {
        tell("budget-min-per-sec", "there is no budget (--budget-ratio)".to_owned());
    }
    if let (Some(silence), Some(deadline), None) = (settings.timeout.0, settings.deadline.0, settings.attempt_timeout.0)
        && silence >= deadline
        && settings.count > 0
    {
        let given = listing.given("deadline").unwrap_or_else(|| "--deadline".to_owned());
        found.push(format!(
            "{given} of {deadline:?} leaves no time for a second attempt where the upstream stays silent, as the first \
             then takes {silence:?} (--timeout): --attempt-timeout limits it"
        ));
    }
    let (interval, most) = (settings.interval, settings.max_wait_interval);
    if interval > most && settings.count > 0 {
        let given = listing.given("interval").unwrap_or_else(|| format!("--interval, by default {interval:?},"));
        found.push(format!("{given} has no effect: no wait is longer than {most:?} (--max-wait-interval)"));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use crate::settings::Loaded;

    #[test]
    fn what_has_no_effect_is_told_with_its_reason() {
        let check = |args: &[&str], expected: &[&str]| {
            let args = ["retry-service"].iter().chain(args).map(OsString::from);
            let told = Loaded::from_args(args).unwrap().warnings;
            let told: Vec<_> = told.iter().filter(|line| line.starts_with("--")).collect();
            assert_eq!(told, expected);
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
            &[
                "--deadline of 3s leaves no time for a second attempt where the upstream stays silent, as the first then \
               takes 30s (--timeout): --attempt-timeout limits it",
            ],
        );
        check(&["--forward", "--deadline", "3s", "--timeout", "1s"], &[]);
        check(&["--forward", "--deadline", "3s", "--count", "0"], &[]);
        check(&["--interval", "20s"], &[]);
        check(&["--interval", "21s", "--count", "0"], &[]);
        check(&["--interval", "21s"], &["--interval has no effect: no wait is longer than 20s (--max-wait-interval)"]);
        check(
            &["--max-wait-interval", "1s"],
            &["--interval, by default 3s, has no effect: no wait is longer than 1s (--max-wait-interval)"],
        );
        check(&["--host", "keep", "--via=on"], &[]);
        check(
            &["--host", "rewrite", "--max-body-size", "1MiB"],
            &[
                "--host has no effect: without --forward no request is forwarded",
                "--max-body-size has no effect: without --forward no request is forwarded",
            ],
        );
        check(&["--forward", "--host", "rewrite", "--max-body-size", "1MiB"], &[]);
        check(
            &["--forward", "--path", "/other"],
            &["--path has no effect: with --forward every request keeps its own"],
        );
        check(
            &["--budget-min-per-sec", "5"],
            &["--budget-min-per-sec has no effect: there is no budget (--budget-ratio)"],
        );
        check(&["--budget-min-per-sec", "5", "--budget-ratio", "0.1"], &[]);
    }
}

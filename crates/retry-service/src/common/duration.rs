//! Durations as written on a command line.

use std::time::Duration;

use jiff::SignedDuration;

/// The text is not a duration, or it is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a duration such as 3s, 200ms or 1m 30s, or a number of seconds such as 0.5")]
pub(crate) struct InvalidDuration;

/// Parses `3s`, `200ms`, `1m 30s`, or a number of seconds (`3`, `0.5`).
///
/// # Errors
///
/// If the text is neither, is negative, or is too large.
pub(crate) fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let text = text.trim();
    let parsed = if is_bare_number(text) { format!("{text}s").parse::<SignedDuration>() } else { text.parse() };
    let signed = parsed.map_err(|_| InvalidDuration)?;
    Duration::try_from(signed).map_err(|_| InvalidDuration)
}

fn is_bare_number(text: &str) -> bool {
    text.ends_with(|last: char| last.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<Duration>) {
        assert_eq!(parse(text).ok(), expected, "{text:?}");
    }

    #[test]
    fn units_are_parsed() {
        check("3s", Some(Duration::from_secs(3)));
        check("200ms", Some(Duration::from_millis(200)));
        check("1m 30s", Some(Duration::from_secs(90)));
        check("1m30s", Some(Duration::from_secs(90)));
        check("1.5s", Some(Duration::from_millis(1500)));
        check("2h", Some(Duration::from_secs(7200)));
        check("1us", Some(Duration::from_micros(1)));
        check(" 5s ", Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_bare_number_is_seconds() {
        check("3", Some(Duration::from_secs(3)));
        check("0", Some(Duration::ZERO));
        check("0.5", Some(Duration::from_millis(500)));
        check("2.0", Some(Duration::from_secs(2)));
        check("0.000000001", Some(Duration::from_nanos(1)));
    }

    #[test]
    fn anything_else_is_rejected() {
        for text in [
            "",
            " ",
            "soon",
            "-3s",
            "-3",
            "3s ago",
            "+",
            ".",
            "1..5",
            "1.2.3",
            "NaN",
            "inf",
            "1e3",
            "3 parsecs",
            "3s\n4",
            "1y",
            "99999999999999999999",
            "99999999999999999999s",
            "٣s",
        ] {
            check(text, None);
        }
    }
}

//! The format of a log event, as in the sample:
//!
//! ```text
//! time = 2021-01-21 19:00:21,374 level = INFO  module = "" message = "…"
//! ```

use std::fmt::{self, Write as _};

use jiff::civil::DateTime;
use log::Level;

/// A log event. Always displayed as one line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogLine<M> {
    time: DateTime,
    level: Level,
    message: M,
}

impl<M: fmt::Display> LogLine<M> {
    /// Returns an event at this local time, which is displayed to the millisecond.
    pub(crate) fn new(time: DateTime, level: Level, message: M) -> Self {
        Self { time, level, message }
    }
}

impl<M: fmt::Display> fmt::Display for LogLine<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, level, message } = self;
        let time = time.strftime("%Y-%m-%d %H:%M:%S,%3f");
        write!(f, r#"time = {time} level = {level:<5} module = "" message = ""#)?;
        write!(Escaped(f), "{message}")?;
        f.write_char('"')
    }
}

/// Escapes quotes and control characters, so that no message can forge another event.
struct Escaped<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(self.0, "\\{c}"),
            c if c.is_control() => write!(self.0, "{}", c.escape_default()),
            c => self.0.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[track_caller]
    fn check(level: Level, message: &str, expected: &str) {
        let time = date(2021, 1, 21).at(19, 0, 21, 374_999_999);
        assert_eq!(LogLine::new(time, level, message).to_string(), expected);
    }

    #[test]
    fn parity_log_line_matches_the_sample() {
        check(
            Level::Info,
            "Request received from the client to delayed service.",
            r#"time = 2021-01-21 19:00:21,374 level = INFO  module = "" message = "Request received from the client to delayed service.""#,
        );
    }

    #[test]
    fn parity_log_level_is_padded_to_five_characters() {
        check(Level::Warn, "x", r#"time = 2021-01-21 19:00:21,374 level = WARN  module = "" message = "x""#);
        check(Level::Error, "x", r#"time = 2021-01-21 19:00:21,374 level = ERROR module = "" message = "x""#);
        check(Level::Debug, "x", r#"time = 2021-01-21 19:00:21,374 level = DEBUG module = "" message = "x""#);
    }

    #[test]
    fn parity_log_event_stays_one_line() {
        check(
            Level::Info,
            "a \"quoted\"\r\nforged\tline \\ \u{1b}[0m é",
            r#"time = 2021-01-21 19:00:21,374 level = INFO  module = "" message = "a \"quoted\"\r\nforged\tline \\ \u{1b}[0m é""#,
        );
    }

    #[test]
    fn milliseconds_keep_their_zeros() {
        let line = LogLine::new(date(2021, 1, 2).at(3, 4, 5, 6_000_000), Level::Info, "x");
        assert!(line.to_string().starts_with("time = 2021-01-02 03:04:05,006 level"));
    }
}

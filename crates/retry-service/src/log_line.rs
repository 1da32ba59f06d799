//! One line per log event, on standard error, in the sample's shape:
//!
//! ```text
//! time = 2021-01-21 19:00:21,374 level = INFO  module = "" message = "…"
//! ```

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use env_logger::Target;
use jiff::civil::DateTime;
use jiff::{Timestamp, ZonedDateTime};
use log::{Level, Metadata, Record};
use prometheus_client::metrics::counter::Counter;

use crate::json_line::JsonLine;
use crate::log_queue::LogQueue;
use crate::settings::LogFormat;

/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log of the process. Dropping this waits a second at most for the last lines to be written.
#[derive(Debug)]
#[must_use]
pub struct Log(LogQueue);

impl Log {
    /// Sends the `log` crate's events to standard error, one line each, and panics as well: those events that `filter`
    /// lets through, as `RUST_LOG` has it. `dropped` counts lines that nobody reads. A logger of somebody else's stays.
    ///
    /// # Errors
    ///
    /// If there is no thread to write them.
    pub fn start(format: LogFormat, filter: &str, dropped: Counter) -> io::Result<Self> {
        let note = move |lines| {
            let mut line = Vec::new();
            let mut record = Record::builder();
            record.level(Level::Warn).target("log");
            let text = format_args!("{lines} lines of the log were dropped");
            // Writing to a vector cannot fail.
            let _ = write(&mut line, format, &record.args(text).build());
            line
        };
        let log = Self(LogQueue::start(io::stderr(), note, dropped)?);
        log.change(format, filter);
        let panics = log.0.clone();
        panic::set_hook(Box::new(move |panic| panics.push(&panic_text(panic))));
        Ok(log)
    }

    /// Writes events in another format, or other events.
    pub fn change(&self, format: LogFormat, filter: &str) {
        let logger = env_logger::Builder::new()
            .parse_filters(filter)
            .target(Target::Pipe(Box::new(self.0.clone())))
            .format(move |out, record| write(out, format, record))
            .build();
        let most = logger.filter();
        if let Some(Logger(current)) = LOGGER.get() {
            *current.write().unwrap_or_else(PoisonError::into_inner) = logger;
        } else if log::set_logger(LOGGER.get_or_init(|| Logger(RwLock::new(logger)))).is_err() {
            // It was installed earlier, as by a test that runs the server in-process.
            return;
        }
        log::set_max_level(most);
    }

    /// Writes a line that is no event, after those queued before it.
    pub fn line(&self, line: &str) {
        self.0.push(format!("{line}\n").as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES);
    }
}

/// The program's logger, which can be replaced while it runs.
struct Logger(RwLock<env_logger::Logger>);

static LOGGER: OnceLock<Logger> = OnceLock::new();

impl Logger {
    fn current(&self) -> impl std::ops::Deref<Target = env_logger::Logger> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.current().enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.current().log(record);
    }

    fn flush(&self) {
        self.current().flush();
    }
}

fn write(out: &mut impl Write, format: LogFormat, record: &Record<'_>) -> io::Result<()> {
    match format {
        LogFormat::Sample => {
            let time = ZonedDateTime::now().datetime();
            writeln!(out, "{}", LogLine::new(time, record.level(), record.args()))
        }
        LogFormat::Json => writeln!(out, "{}", JsonLine::new(Timestamp::now(), record)),
    }
}

/// A panic as the standard library's own hook tells it. That one would block on a pipe that nobody reads.
fn panic_text(panic: &PanicHookInfo<'_>) -> Vec<u8> {
    let thread = thread::current();
    let mut text = format!("thread '{}' {panic}\n", thread.name().unwrap_or("<unnamed>"));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "stack backtrace:\n{backtrace}");
    }
    text.into_bytes()
}

/// A log event, displayed as one line whatever its message holds.
#[derive(Debug, Clone, Copy)]
pub struct LogLine<M> {
    time: DateTime,
    level: Level,
    message: M,
}

impl<M: fmt::Display> LogLine<M> {
    /// An event at `time`, which is local and shown to the millisecond.
    pub fn new(time: DateTime, level: Level, message: M) -> Self {
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

/// Escapes what would end the quotes or the line, so that no message can forge another event.
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
    fn parity_log_line_is_the_samples() {
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

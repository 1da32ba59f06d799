//! The logger of the program: one line per event and panic, on standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Write as _;
use std::io::{self, Write};
use std::panic::{self, PanicHookInfo};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use env_logger::Target;
use jiff::{Timestamp, ZonedDateTime};
use log::{Level, Metadata, Record};
use prometheus_client::metrics::counter::Counter;

use crate::{
    common::log_line::LogLine,
    telemetry::{json_format::write_json, log_queue::LogQueue},
};

/// How long queued lines may take to be written at exit.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines as in the sample
    Sample,
    /// One JSON object per line
    Json,
}

/// The log of the process. Dropping this waits up to a second until the queued lines are written.
#[derive(Debug)]
#[must_use]
pub(crate) struct Log(LogQueue);

impl Log {
    /// Installs a logger for events that match `filter`, which is written like `RUST_LOG`, and a panic hook. `dropped`
    /// counts the lines that cannot be written. A logger that is already installed stays.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread that writes the lines cannot be started.
    pub(crate) fn start(format: LogFormat, filter: &str, dropped: Counter) -> io::Result<Self> {
        let note = move |lines| {
            let mut line = Vec::new();
            let mut record = Record::builder();
            record.level(Level::Warn).target("log");
            let text = format_args!("{lines} log lines were dropped");
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

    /// Changes the format and the filter.
    pub(crate) fn change(&self, format: LogFormat, filter: &str) {
        let logger = env_logger::Builder::new()
            .parse_filters(filter)
            .target(Target::Pipe(Box::new(self.0.clone())))
            .format(move |out, record| write(out, format, record))
            .build();
        let maximum = logger.filter();
        if let Some(Logger(current)) = LOGGER.get() {
            *current.write().unwrap_or_else(PoisonError::into_inner) = logger;
        } else if log::set_logger(LOGGER.get_or_init(|| Logger(RwLock::new(logger)))).is_err() {
            // Another logger is installed.
            return;
        }
        log::set_max_level(maximum);
    }

    /// Writes a line without a format.
    pub(crate) fn line(&self, line: &str) {
        self.0.push(format!("{line}\n").as_bytes());
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.flush(FLUSH_TIMEOUT);
    }
}

/// A logger that can be replaced while the program runs.
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
        LogFormat::Json => write_json(out, Timestamp::now(), record),
    }
}

/// Returns the text that the standard library prints for a panic. Its own hook would block if nobody reads the pipe.
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

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use super::*;

    /// Runs this test in another process, which panics.
    #[test]
    fn a_panic_is_logged() {
        if env::var_os("PANICS").is_some() {
            let _log = Log::start(LogFormat::Sample, "info", Counter::default()).unwrap();
            panic!("this one");
        }
        let mut panicking = Command::new(env::current_exe().unwrap());
        panicking.args(["--exact", "telemetry::logger::tests::a_panic_is_logged", "--nocapture"]).env("PANICS", "1");
        let stderr = String::from_utf8(panicking.output().unwrap().stderr).unwrap();
        assert!(stderr.contains("thread 'telemetry::logger::tests::a_panic_is_logged' panicked at "), "{stderr}");
        assert!(stderr.contains(":\nthis one\n"), "{stderr}");
    }
}

//! Records what the upstream does to requests, as a script that `delayed-backend --replay` plays.

mod exchange;
mod file;
mod recording;
mod run;

use std::{
    fmt,
    io::{self, ErrorKind as IoErrorKind},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_LENGTH, RETRY_AFTER},
};
use jiff::{Timestamp, fmt::rfc2822};
use prometheus_client::metrics::counter::Counter;
use retry_client::{Error, ErrorKind, ExchangeEnd, ExchangeObserver, ExchangeStart, ObservedExchange};
use tokio::time::Instant;

use self::{
    exchange::{End, Ended, Head, RetryAfter},
    file::RecordingFile,
    recording::Recording,
};
use crate::telemetry::{log_queue::LogQueue, metrics::method_label};

/// How long the rest of the lines may take to be written at exit.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Writes a recording to a file. Clones share it. Once all are dropped and no exchange is in flight, the rest is written.
#[derive(Clone)]
pub(crate) struct FaultRecorder(Arc<Shared>);

struct Shared {
    start: Instant,
    state: Mutex<State>,
}

struct State {
    recording: Recording,
    /// `None` until a file is opened.
    file: Option<LogQueue>,
}

/// An exchange that is recorded.
struct RecordedExchange {
    shared: Arc<Shared>,
    ticket: u64,
}

impl FaultRecorder {
    pub(crate) fn new() -> Self {
        let state = Mutex::new(State { recording: Recording::new(Timestamp::now()), file: None });
        Self(Arc::new(Shared { start: Instant::now(), state }))
    }

    /// Appends to a file from now on, which is created if it does not exist. Lines that are complete go to the file before,
    /// if there is one. `dropped` counts lines that could not be written.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be opened, or the thread that writes it cannot be started.
    pub(crate) fn open(&self, path: &Path, dropped: Counter) -> io::Result<()> {
        let note = |lines| format!("# {lines} lines are missing, as they could not be written in time\n").into_bytes();
        self.0.record(Recording::write_complete);
        let mut state = self.0.lock();
        let earlier = state.file.clone().map(|queue| (queue, FLUSH_TIMEOUT));
        let queue = LogQueue::start(RecordingFile::open(path, earlier)?, note, dropped)?;
        let header = format!(
            "# retry-service {} recorded its upstream from {:.3}.\n",
            env!("CARGO_PKG_VERSION"),
            Timestamp::now()
        );
        queue.push(header.as_bytes());
        state.file = Some(queue);
        Ok(())
    }

    /// Writes all that is left, and waits until that is done, for a limited time.
    pub(crate) fn finish(&self) {
        self.0.record(Recording::finish);
        let file = self.0.lock().file.clone();
        if let Some(file) = file {
            file.flush(FLUSH_TIMEOUT);
        }
    }
}

impl Shared {
    /// Changes the recording, and writes the lines that are complete then.
    fn record<T>(&self, change: impl FnOnce(&mut Recording, Duration) -> T) -> T {
        let mut state = self.lock();
        let State { recording, file } = &mut *state;
        let result = change(recording, self.start.elapsed());
        // Within the lock, so that the lines stay in order.
        if let Some(file) = file {
            recording.take_lines().iter().for_each(|line| file.push(line.as_bytes()));
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The thread of the queue writes it. Waiting for that would block a thread that serves requests.
        self.record(Recording::finish);
    }
}

impl ExchangeObserver for FaultRecorder {
    fn started(&self, exchange: &ExchangeStart<'_>) -> Box<dyn ObservedExchange> {
        let method = method_label(exchange.method);
        let ticket = self.0.record(|recording, now| recording.start(now, method, exchange.endpoint, exchange.reused));
        Box::new(RecordedExchange { shared: Arc::clone(&self.0), ticket })
    }

    fn connect_failed(&self, endpoint: &str, _: &str) {
        self.0.record(|recording, now| recording.connect_failed(now, endpoint));
    }

    fn reconnected(&self, endpoint: &str) {
        self.0.record(|recording, now| recording.connected(now, endpoint));
    }
}

impl ObservedExchange for RecordedExchange {
    fn head_received(&mut self, status: StatusCode, headers: &HeaderMap) {
        let (status, retry_after, has_length) =
            (status.as_u16(), retry_after(headers, Timestamp::now()), headers.contains_key(CONTENT_LENGTH));
        self.shared.record(|recording, at| {
            recording.head_received(self.ticket, Head { at, status, retry_after, has_length });
        });
    }

    fn ended(&mut self, bytes: u64, end: ExchangeEnd<'_>) {
        let how = match end {
            ExchangeEnd::Complete => End::Complete,
            ExchangeEnd::Failed(error) => failure(error),
            ExchangeEnd::Refused(_) => End::Refused,
            ExchangeEnd::NotSent => End::NotSent,
            _ => End::Canceled,
        };
        self.shared.record(|recording, at| recording.end(self.ticket, Ended { at, bytes, how }));
    }
}

/// Returns what a failure was like.
fn failure(error: &Error) -> End {
    let is_reset = |error: &io::Error| matches!(error.kind(), IoErrorKind::ConnectionReset | IoErrorKind::BrokenPipe);
    match error.kind() {
        ErrorKind::Timeout => End::Stalled,
        ErrorKind::BadResponse => End::Invalid,
        // The client's fault.
        ErrorKind::RequestBody | ErrorKind::BadInput => End::Canceled,
        _ if error.root_cause().downcast_ref().is_some_and(is_reset) => End::Reset,
        _ => End::Closed,
    }
}

/// Reads `Retry-After` (RFC 9110, section 10.2.3). Anything else than a number or a date is left out.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<RetryAfter> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(RetryAfter::Seconds(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(RetryAfter::DateIn(date.duration_since(now).try_into().unwrap_or_default()))
}

impl fmt::Debug for FaultRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultRecorder").finish_non_exhaustive()
    }
}

//! When an exchange or a connection last made progress.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// The time of the last progress. Shared by everything that makes progress: the stream of an HTTP/1.1 connection, the
/// request body, and the reader of the response.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<State>);

#[derive(Debug)]
struct State {
    origin: Instant,
    /// Nanoseconds since `origin`, or [`PAUSED`].
    last_progress: AtomicU64,
    /// When bytes were last received, in nanoseconds since `origin`.
    last_read: AtomicU64,
    /// Whether the stream records each byte: then the request body does not have to.
    tracks_bytes: bool,
    /// Whether the socket is to be checked before the next request is written.
    peek_requested: AtomicBool,
    /// Whether hyper still reads a request body.
    uploading: AtomicBool,
    /// Whether everything that was written has been flushed.
    flushed: AtomicBool,
    /// The number of reads since the request, or [`HEAD_RECEIVED`].
    head_reads: AtomicU32,
}

/// How many reads count as progress until the head of the response has arrived. Each informational response takes one:
/// otherwise a server could send `102` forever.
pub(crate) const MAX_HEAD_READS: u32 = 100;
const HEAD_RECEIVED: u32 = u32::MAX;

/// The server is not late: it waits for the client.
const PAUSED: u64 = u64::MAX;

impl Activity {
    /// Creates the activity of a connection whose stream records each byte.
    pub(crate) fn of_connection() -> Self {
        Self::starting_at(0, true)
    }

    /// Creates the activity of an exchange on a shared connection. It starts with the first progress, at the latest
    /// after `grace`, as the exchange may have to wait until the connection has capacity.
    pub(crate) fn of_exchange(grace: Duration) -> Self {
        Self::starting_at(nanos(grace), false)
    }

    fn starting_at(start: u64, tracks_bytes: bool) -> Self {
        Self(Arc::new(State {
            origin: Instant::now(),
            last_progress: AtomicU64::new(start),
            last_read: AtomicU64::new(0),
            tracks_bytes,
            peek_requested: AtomicBool::new(false),
            uploading: AtomicBool::new(false),
            flushed: AtomicBool::new(true),
            head_reads: AtomicU32::new(HEAD_RECEIVED),
        }))
    }

    /// Requests that the stream checks its socket before the next request is written.
    pub(crate) fn request_peek(&self) {
        self.0.peek_requested.store(true, Relaxed);
    }

    /// Returns whether a check was requested, and clears the request.
    pub(crate) fn take_peek_request(&self) -> bool {
        self.0.peek_requested.load(Relaxed) && self.0.peek_requested.swap(false, Relaxed)
    }

    /// Records that a request body is being read, until the guard is dropped.
    pub(crate) fn begin_upload(&self) -> UploadGuard {
        self.0.uploading.store(true, Relaxed);
        UploadGuard(self.clone())
    }

    /// Whether a part of the request has yet to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.0.uploading.load(Relaxed) || !self.0.flushed.load(Relaxed)
    }

    pub(crate) fn set_flushed(&self, flushed: bool) {
        self.0.flushed.store(flushed, Relaxed);
    }

    pub(crate) fn record_progress(&self) {
        self.0.last_progress.store(self.now(), Relaxed);
    }

    /// Records that a request is sent, and its response is awaited.
    pub(crate) fn await_head(&self) {
        self.0.head_reads.store(0, Relaxed);
    }

    pub(crate) fn head_received(&self) {
        self.0.head_reads.store(HEAD_RECEIVED, Relaxed);
    }

    /// Records that bytes were received.
    pub(crate) fn record_read(&self) {
        let reads = self.0.head_reads.load(Relaxed);
        if reads < HEAD_RECEIVED {
            self.0.head_reads.store(reads + 1, Relaxed);
            if reads >= MAX_HEAD_READS {
                return;
            }
        }
        let now = self.now();
        self.0.last_progress.store(now, Relaxed);
        self.0.last_read.store(now, Relaxed);
    }

    /// Returns how long ago bytes were last received.
    pub(crate) fn since_last_read(&self) -> Duration {
        Duration::from_nanos(self.now().saturating_sub(self.0.last_read.load(Relaxed)))
    }

    /// Records that a part of the request is about to be sent.
    pub(crate) fn request_progress(&self) {
        if !self.0.tracks_bytes || self.0.last_progress.load(Relaxed) == PAUSED {
            self.record_progress();
        }
    }

    /// Stops the clock until there is progress.
    pub(crate) fn pause(&self) {
        self.0.last_progress.store(PAUSED, Relaxed);
    }

    /// Restarts the clock, unless it is to start later.
    pub(crate) fn restart(&self) {
        let now = self.now();
        if self.0.last_progress.load(Relaxed) < now {
            self.0.last_progress.store(now, Relaxed);
        }
    }

    fn now(&self) -> u64 {
        nanos(self.0.origin.elapsed())
    }

    /// Returns the time of the last progress. `None` while the clock is stopped.
    pub(crate) fn last_progress(&self) -> Option<Instant> {
        match self.0.last_progress.load(Relaxed) {
            PAUSED => None,
            nanos => self.0.origin.checked_add(Duration::from_nanos(nanos)),
        }
    }
}

/// Marks a request body as being read until it is dropped.
#[derive(Debug)]
pub(crate) struct UploadGuard(Activity);

impl Drop for UploadGuard {
    fn drop(&mut self) {
        self.0.0.uploading.store(false, Relaxed);
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(PAUSED - 1, |nanos| nanos.min(PAUSED - 1))
}

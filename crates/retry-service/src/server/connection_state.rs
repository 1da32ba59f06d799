//! The state of a client connection, shared by its driver, its IO and the requests on it.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
    },
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::workers::WorkerGuard;

/// The state of one connection. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    opened: Instant,
    /// Responses in flight, and request bodies, which may outlast their response.
    in_flight: AtomicUsize,
    /// Request bodies that have not been read to their end.
    uploads: AtomicUsize,
    /// When the last request ended, in nanoseconds after `opened`.
    idle_since: AtomicU64,
    /// Bytes of HTTP/2 responses that have not been written yet.
    unsent: AtomicUsize,
    /// When `unsent` last decreased, or became more than 0, in nanoseconds after `opened`.
    unsent_since: AtomicU64,
    flags: AtomicU8,
    /// Wakes the task that drives the connection.
    driver: Mutex<Option<Waker>>,
    /// Dropped with the connection, or with the tunnel that it has become.
    _worker: Option<WorkerGuard>,
}

/// What has happened to a connection.
#[derive(Clone, Copy)]
enum Flag {
    HadRequest = 1,
    WriteBlocked = 1 << 1,
    Upgraded = 1 << 2,
    ResetOnClose = 1 << 3,
    UnreadBody = 1 << 4,
    Closing = 1 << 5,
}

/// Counts something as in flight on a connection until this is dropped.
#[derive(Debug)]
pub(crate) struct InFlightGuard {
    pub(crate) connection: ConnectionState,
}

/// Counts a request body as being read until this is dropped.
#[derive(Debug)]
pub(crate) struct UploadGuard {
    pub(crate) in_flight: InFlightGuard,
}

impl Default for ConnectionState {
    fn default() -> Self {
        Self::new(None)
    }
}

impl ConnectionState {
    /// Creates the state of a new connection, which `worker` counts.
    pub(crate) fn new(worker: Option<WorkerGuard>) -> Self {
        Self(Arc::new(Shared {
            opened: Instant::now(),
            in_flight: AtomicUsize::new(0),
            uploads: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            unsent: AtomicUsize::new(0),
            unsent_since: AtomicU64::new(0),
            flags: AtomicU8::new(0),
            driver: Mutex::new(None),
            _worker: worker,
        }))
    }

    /// Counts a request as in flight.
    pub(crate) fn begin_request(&self) -> InFlightGuard {
        self.0.in_flight.fetch_add(1, SeqCst);
        self.set(Flag::HadRequest, true);
        InFlightGuard { connection: self.clone() }
    }

    /// Counts the body of a request as being read.
    pub(crate) fn begin_upload(&self) -> UploadGuard {
        self.0.uploads.fetch_add(1, Relaxed);
        UploadGuard { in_flight: self.begin_request() }
    }

    /// Hands the connection over to another protocol.
    pub(crate) fn upgrade(&self) {
        self.set(Flag::Upgraded, true);
    }

    /// Records whether the last write had to wait for the client.
    pub(crate) fn set_write_blocked(&self, blocked: bool) {
        self.set(Flag::WriteBlocked, blocked);
    }

    /// Counts bytes of an HTTP/2 response that wait to be written.
    pub(crate) fn add_unsent(&self, bytes: usize) {
        if self.0.unsent.fetch_add(bytes, Relaxed) == 0 {
            self.0.unsent_since.store(self.now(), Relaxed);
        }
    }

    /// Counts such bytes as written, and returns how many waited before.
    pub(crate) fn remove_unsent(&self, bytes: usize) -> usize {
        self.0.unsent_since.store(self.now(), Relaxed);
        self.0.unsent.fetch_sub(bytes, Relaxed)
    }

    /// Records that the body of a request will not be read to its end, although the client may still send it.
    pub(crate) fn abandon_body(&self) {
        self.set(Flag::UnreadBody, true);
    }

    /// Makes the connection end with a reset: the response is incomplete, and with HTTP/1.0 an ordinary close would
    /// mark it as complete.
    pub(crate) fn reset_on_close(&self) {
        self.set(Flag::ResetOnClose, true);
    }

    /// Closes the connection as soon as nothing is in flight.
    pub(crate) fn close(&self) {
        self.0.flags.fetch_or(Flag::Closing as u8, SeqCst);
        self.wake_driver();
    }

    /// Completes once the connection is to be closed.
    pub(crate) async fn closing(&self) {
        poll_fn(|cx| {
            self.set_driver(cx.waker());
            if self.is_closing() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Sets the task to wake when the connection is to be closed, and when nothing is in flight on a closing one.
    pub(crate) fn set_driver(&self, waker: &Waker) {
        *self.0.driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    pub(crate) fn had_request(&self) -> bool {
        self.has(Flag::HadRequest)
    }

    /// Whether an HTTP request is in flight.
    pub(crate) fn has_request_in_flight(&self) -> bool {
        !self.is_upgraded() && self.0.in_flight.load(SeqCst) > 0
    }

    pub(crate) fn has_upload(&self) -> bool {
        self.0.uploads.load(Relaxed) > 0
    }

    pub(crate) fn is_upgraded(&self) -> bool {
        self.has(Flag::Upgraded)
    }

    pub(crate) fn unsent(&self) -> usize {
        self.0.unsent.load(Relaxed)
    }

    pub(crate) fn has_unread_body(&self) -> bool {
        self.has(Flag::UnreadBody)
    }

    pub(crate) fn is_reset_on_close(&self) -> bool {
        self.has(Flag::ResetOnClose)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.0.flags.load(SeqCst) & Flag::Closing as u8 != 0
    }

    /// Returns since when the connection is idle; `None` if it is not. With unsent bytes it counts as idle once the
    /// client has read none of them for `client_timeout`, which may be in the future.
    pub(crate) fn idle_since(&self, client_timeout: Duration) -> Option<Instant> {
        let Shared { opened, in_flight, idle_since, unsent, unsent_since, .. } = &*self.0;
        if self.is_upgraded() || in_flight.load(SeqCst) > 0 || self.has(Flag::WriteBlocked) {
            return None;
        }
        let at = |nanos: &AtomicU64| *opened + Duration::from_nanos(nanos.load(Relaxed));
        if unsent.load(Relaxed) == 0 {
            return Some(at(idle_since));
        }
        at(unsent_since).checked_add(client_timeout).map(|due| due.max(at(idle_since)))
    }

    fn has(&self, flag: Flag) -> bool {
        self.0.flags.load(Relaxed) & flag as u8 != 0
    }

    fn set(&self, flag: Flag, value: bool) {
        // Most calls change nothing, and a load is cheaper than a read-modify-write.
        match (self.has(flag), value) {
            (false, true) => drop(self.0.flags.fetch_or(flag as u8, Relaxed)),
            (true, false) => drop(self.0.flags.fetch_and(!(flag as u8), Relaxed)),
            _ => {}
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.opened.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wake_driver(&self) {
        let driver = self.0.driver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let Self { connection } = self;
        let Shared { in_flight, idle_since, .. } = &*connection.0;
        if in_flight.load(Relaxed) == 1 {
            idle_since.store(connection.now(), Relaxed);
        }
        if in_flight.fetch_sub(1, SeqCst) == 1 && connection.is_closing() {
            connection.wake_driver();
        }
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        self.in_flight.connection.0.uploads.fetch_sub(1, Relaxed);
    }
}

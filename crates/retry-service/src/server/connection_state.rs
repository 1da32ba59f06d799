//! What a connection and the requests on it tell each other.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
    },
    task::{Poll, Waker},
    time::Duration,
};

use tokio::time::Instant;

/// How much is read of a request's body that nobody needs any more, and for how long, so that its client gets the
/// response.
pub(crate) const REST_BYTES: usize = 1024 * 1024;
pub(crate) const REST_TIME: Duration = Duration::from_secs(1);

/// One connection's. Clones are of the same.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<State>);

#[derive(Debug)]
struct State {
    origin: Instant,
    /// What is in flight: a response, and the body of a request, which may outlast it.
    busy: AtomicUsize,
    /// The bodies of requests that are still to be read.
    uploads: AtomicUsize,
    /// When the last request ended, or the connection began: nanoseconds since `origin`.
    idle_since: AtomicU64,
    /// Whether there was a request.
    used: AtomicBool,
    /// Whether some of a response may not have been written.
    answering: AtomicBool,
    /// Whether the connection takes no more bytes for the moment.
    blocked: AtomicBool,
    /// Bytes of responses that wait for their client's window, and when their number last went down: nanoseconds since
    /// `origin`.
    unsent: AtomicUsize,
    unsent_since: AtomicU64,
    tunnel: AtomicBool,
    reset: AtomicBool,
    unread: AtomicBool,
    /// Whether it is to end as soon as nothing is in flight.
    closing: AtomicBool,
    /// Of whoever drives the connection.
    driver: Mutex<Option<Waker>>,
}

/// Something that is in flight on a line, until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Line);

/// A request's body that is being read, until this is dropped.
#[derive(Debug)]
pub(crate) struct Upload(Busy);

impl Default for Line {
    fn default() -> Self {
        Self(Arc::new(State {
            origin: Instant::now(),
            busy: AtomicUsize::new(0),
            uploads: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            used: AtomicBool::new(false),
            answering: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            unsent: AtomicUsize::new(0),
            unsent_since: AtomicU64::new(0),
            tunnel: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            driver: Mutex::new(None),
        }))
    }
}

impl Line {
    /// Something more is in flight.
    pub(crate) fn enter(&self) -> Busy {
        self.0.busy.fetch_add(1, SeqCst);
        self.0.used.store(true, Relaxed);
        self.0.answering.store(true, Relaxed);
        Busy(self.clone())
    }

    /// A request's body is being read.
    pub(crate) fn upload(&self) -> Upload {
        self.0.uploads.fetch_add(1, Relaxed);
        Upload(self.enter())
    }

    /// Whether the body of a request is still to be read.
    pub(crate) fn has_upload(&self) -> bool {
        self.0.uploads.load(Relaxed) > 0
    }

    /// All that there was to write has been written.
    pub(crate) fn written(&self) {
        if self.0.busy.load(Relaxed) == 0 {
            self.0.answering.store(false, Relaxed);
        }
    }

    /// Whether what is written now can be of no response that the service gave: it is hyper's own.
    pub(crate) fn is_silent(&self) -> bool {
        !self.is_tunnel() && !self.0.answering.load(Relaxed)
    }

    /// Another protocol takes over.
    pub(crate) fn tunnel(&self) {
        self.0.tunnel.store(true, Relaxed);
    }

    /// Whether it is HTTP's, and a request is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        !self.is_tunnel() && self.0.busy.load(SeqCst) > 0
    }

    /// Whether another protocol has taken over.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.0.tunnel.load(Relaxed)
    }

    /// Notes whether the connection takes no more bytes for the moment.
    pub(crate) fn set_blocked(&self, blocked: bool) {
        self.0.blocked.store(blocked, Relaxed);
    }

    /// Bytes of a response wait for their client.
    pub(crate) fn add_unsent(&self, bytes: usize) {
        if self.0.unsent.fetch_add(bytes, Relaxed) == 0 {
            self.0.unsent_since.store(self.now(), Relaxed);
        }
    }

    /// They were sent. Returns how many waited before.
    pub(crate) fn remove_unsent(&self, bytes: usize) -> usize {
        self.0.unsent_since.store(self.now(), Relaxed);
        self.0.unsent.fetch_sub(bytes, Relaxed)
    }

    pub(crate) fn unsent(&self) -> usize {
        self.0.unsent.load(Relaxed)
    }

    /// Since when nothing is in flight and all was sent; `None` while that is not so. Where bytes wait for their client,
    /// which has so long to take some, that is a time to come.
    pub(crate) fn quiet_since(&self, patience: Duration) -> Option<Instant> {
        let state = &self.0;
        if self.is_tunnel() || state.busy.load(SeqCst) > 0 || state.blocked.load(Relaxed) {
            return None;
        }
        let at = |nanos: &AtomicU64| state.origin + Duration::from_nanos(nanos.load(Relaxed));
        let idle = at(&state.idle_since);
        if state.unsent.load(Relaxed) == 0 {
            return Some(idle);
        }
        at(&state.unsent_since).checked_add(patience).map(|until| until.max(idle))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether there was a request on it.
    pub(crate) fn was_used(&self) -> bool {
        self.0.used.load(Relaxed)
    }

    /// The connection is to end with a reset: its client has part of a response, and must not take it for whole, as it
    /// would where the end of the connection is the end of the response (HTTP/1.0).
    pub(crate) fn ask_for_reset(&self) {
        self.0.reset.store(true, Relaxed);
    }

    pub(crate) fn is_to_be_reset(&self) -> bool {
        self.0.reset.load(Relaxed)
    }

    /// Some of a request's body will not be read, though its client may be sending it.
    pub(crate) fn leave_unread(&self) {
        self.0.unread.store(true, Relaxed);
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.0.unread.load(Relaxed)
    }

    /// The connection is to end as soon as nothing is in flight.
    pub(crate) fn close(&self) {
        self.0.closing.store(true, SeqCst);
        self.wake_driver();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.0.closing.load(SeqCst)
    }

    /// Completes once the connection is to end.
    pub(crate) async fn closed(&self) {
        poll_fn(|cx| {
            self.drive(cx.waker());
            if self.is_closing() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Sets whom to wake when the connection is to end, or nothing is in flight any more on one that is.
    pub(crate) fn drive(&self, waker: &Waker) {
        *self.0.driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
    }

    fn wake_driver(&self) {
        let driver = self.0.driver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(driver) = driver {
            driver.wake();
        }
    }
}

impl Busy {
    pub(crate) fn line(&self) -> &Line {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(line) = self;
        let state = &line.0;
        if state.busy.load(Relaxed) == 1 {
            state.idle_since.store(line.now(), Relaxed);
        }
        if state.busy.fetch_sub(1, SeqCst) == 1 && line.is_closing() {
            line.wake_driver();
        }
    }
}

impl Upload {
    pub(crate) fn line(&self) -> &Line {
        self.0.line()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.line().0.uploads.fetch_sub(1, Relaxed);
    }
}

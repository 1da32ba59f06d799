//! What a connection of HTTP/1.1 and the request on it tell each other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

/// One connection's. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// What is under way: an answer, and the body of a request, which may outlast it.
    busy: AtomicUsize,
    /// Whether some of an answer may not have been written.
    answering: AtomicBool,
    tunnel: AtomicBool,
    reset: AtomicBool,
    unread: AtomicBool,
}

/// Something that is under way on a line, until this is dropped.
#[derive(Debug)]
pub(crate) struct Busy(Line);

impl Line {
    /// Something more is under way.
    pub(crate) fn enter(&self) -> Busy {
        self.0.busy.fetch_add(1, Relaxed);
        self.0.answering.store(true, Relaxed);
        Busy(self.clone())
    }

    /// All that there was to write has been written.
    pub(crate) fn written(&self) {
        if self.0.busy.load(Relaxed) == 0 {
            self.0.answering.store(false, Relaxed);
        }
    }

    /// Whether what is written now can be of no answer that the service gave: it is hyper's own.
    pub(crate) fn is_silent(&self) -> bool {
        !self.is_tunnel() && !self.0.answering.load(Relaxed)
    }

    /// Another protocol takes over.
    pub(crate) fn tunnel(&self) {
        self.0.tunnel.store(true, Relaxed);
    }

    /// Whether it is HTTP's, and a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !self.is_tunnel() && self.0.busy.load(Relaxed) > 0
    }

    /// Whether another protocol has taken over.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.0.tunnel.load(Relaxed)
    }

    /// The connection is to end with a reset: its caller has part of an answer, and must not take it for whole, as it
    /// would where the end of the connection is the end of the answer (HTTP/1.0).
    pub(crate) fn ask_for_reset(&self) {
        self.0.reset.store(true, Relaxed);
    }

    pub(crate) fn is_to_be_reset(&self) -> bool {
        self.0.reset.load(Relaxed)
    }

    /// Some of a request's body will not be read, though its caller may be sending it.
    pub(crate) fn leave_unread(&self) {
        self.0.unread.store(true, Relaxed);
    }

    pub(crate) fn has_unread(&self) -> bool {
        self.0.unread.load(Relaxed)
    }
}

impl Busy {
    pub(crate) fn line(&self) -> &Line {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.busy.fetch_sub(1, Relaxed);
    }
}

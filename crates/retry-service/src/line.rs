//! What a connection of HTTP/1.1 and the request on it tell each other.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
};

/// One connection's. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<State>);

#[derive(Debug, Default)]
struct State {
    stage: AtomicU8,
    reset: AtomicBool,
}

/// The next request is awaited.
const FREE: u8 = 0;
/// A request has begun to come.
const ASKED: u8 = 1;
/// It has come whole: all there is to do for its caller is to wait.
const AWAITED: u8 = 2;
/// What comes is no longer HTTP.
const TUNNEL: u8 = 3;

impl Line {
    /// A request has come, with its body or without.
    pub(crate) fn ask(&self, whole: bool) {
        self.0.stage.store(if whole { AWAITED } else { ASKED }, Relaxed);
    }

    /// The end of its body has come.
    pub(crate) fn asked(&self) {
        self.0.stage.store(AWAITED, Relaxed);
    }

    /// The answer is over.
    pub(crate) fn answered(&self) {
        // A tunnel begins before the answer that opens it is sent.
        if self.0.stage.load(Relaxed) != TUNNEL {
            self.0.stage.store(FREE, Relaxed);
        }
    }

    /// Another protocol takes over.
    pub(crate) fn tunnel(&self) {
        self.0.stage.store(TUNNEL, Relaxed);
    }

    /// Whether the next request is awaited.
    pub(crate) fn is_free(&self) -> bool {
        self.0.stage.load(Relaxed) == FREE
    }

    /// Whether an answer is, by somebody who has nothing more to say.
    pub(crate) fn is_awaited(&self) -> bool {
        self.0.stage.load(Relaxed) == AWAITED
    }

    /// The connection is to end with a reset: its caller has part of an answer, and must not take it for whole, as it
    /// would where the end of the connection is the end of the answer (HTTP/1.0).
    pub(crate) fn ask_for_reset(&self) {
        self.0.reset.store(true, Relaxed);
    }

    pub(crate) fn is_to_be_reset(&self) -> bool {
        self.0.reset.load(Relaxed)
    }
}

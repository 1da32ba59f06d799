//! [`Observe`]: observers of a call.

use crate::{journal::Record, reason::Reason};

/// An event in a call. `outcome` is `None` if the attempt timed out.
#[derive(Debug)]
pub enum Event<'a, T, E> {
    /// An attempt failed, and the wait before the next one is about to start.
    Retry {
        /// The attempt and the wait.
        record: &'a Record,
        /// The outcome of the attempt.
        outcome: Option<&'a Result<T, E>>,
    },
    /// The call ended.
    End {
        /// The last attempt.
        record: &'a Record,
        /// The outcome of the attempt.
        outcome: Option<&'a Result<T, E>>,
        /// Why the call ended.
        reason: Reason,
    },
}

/// An observer of calls, for logs and metrics. Implemented by any `Fn(Event<'_, T, E>)`.
pub trait Observe<T, E> {
    /// Called before each wait and once when the call ends. Must not block.
    fn observe(&self, event: Event<'_, T, E>);
}

/// An observer that does nothing. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl<T, E> Observe<T, E> for NoObserver {
    fn observe(&self, _event: Event<'_, T, E>) {}
}

impl<T, E, F: Fn(Event<'_, T, E>)> Observe<T, E> for F {
    fn observe(&self, event: Event<'_, T, E>) {
        self(event);
    }
}

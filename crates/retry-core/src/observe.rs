//! [`Observe`]: observers of a call.

use crate::{journal::Record, reason::Reason};

/// The end of an attempt.
#[derive(Debug)]
#[non_exhaustive]
pub struct Event<'a, T, E> {
    /// The attempt, and the wait that follows.
    pub record: &'a Record,
    /// The outcome of the attempt; `None` if it timed out.
    pub outcome: Option<&'a Result<T, E>>,
    /// Why the call ended with this attempt; `None` if another attempt follows.
    pub ended: Option<Reason>,
}

/// An observer of calls, for logs and metrics.
///
/// Implemented by any `Fn(Event<'_, T, E>)`, which [`Retry::observe`](crate::Retry::observe) takes. Implement it for a
/// type to observe calls of several types; [`Retry::observe_with`](crate::Retry::observe_with) takes that.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not observe calls that return a `Result<{T}, {E}>`",
    note = "an observer is a `Fn(Event<'_, {T}, {E}>)`"
)]
pub trait Observe<T, E> {
    /// Called before each wait and once when the call ends. Must not block.
    fn observe(&self, event: Event<'_, T, E>);
}

/// An observer that does nothing. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl<T, E> Observe<T, E> for NoObserver {
    #[inline]
    fn observe(&self, _event: Event<'_, T, E>) {}
}

impl<T, E, F: Fn(Event<'_, T, E>)> Observe<T, E> for F {
    #[inline]
    fn observe(&self, event: Event<'_, T, E>) {
        self(event);
    }
}

//! [`Verdict`]: what the outcome of one attempt means for the call.

use core::time::Duration;

/// What the outcome of one attempt means for the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The outcome is the result of the call.
    Accept,
    /// The attempt failed; another one may succeed.
    Retry,
    /// Like [`Retry`](Self::Retry), after a timeout. A [token budget](crate::RetryBudget::tokens) may charge more for
    /// it.
    RetryTimeout,
    /// Like [`Retry`](Self::Retry), but the server requested this wait. It replaces the policy's own, without jitter,
    /// up to [`max_retry_after`](crate::RetryPolicy::max_retry_after).
    RetryAfter(Duration),
    /// The attempt failed, and another one would not help or might do harm.
    Stop,
}

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
    /// Like [`Retry`](Self::Retry), but the server asked for fewer requests, as with the HTTP status 429. The waits are at
    /// least those of [`throttled_interval`](crate::RetryPolicy::throttled_interval), and a
    /// [token budget](crate::RetryBudget::tokens) may charge less. A wait that the server requested replaces the policy's,
    /// as with [`RetryAfter`](Self::RetryAfter); `None` if it requested none.
    RetryThrottled(Option<Duration>),
    /// Like [`Retry`](Self::Retry), but not charged to the [budget](crate::RetryBudget), as another attempt adds no load:
    /// this one did not reach the server, or the server went down with it. The wait replaces the policy's own; `None`
    /// keeps that.
    RetryUncharged(Option<Duration>),
    /// The attempt failed, and another one would not help or might do harm.
    Stop,
}

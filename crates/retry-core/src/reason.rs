//! [`Reason`]: why a call ended.

use core::fmt;

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The outcome was accepted.
    Accepted,
    /// The classifier returned [`Verdict::Stop`](crate::Verdict::Stop).
    Permanent,
    /// The policy's retries were used up.
    Exhausted,
    /// The deadline had passed, or would have passed before the end of the next wait.
    Deadline,
    /// The server requested a wait longer than [`max_retry_after`](crate::RetryPolicy::max_retry_after).
    RetryAfterTooLong,
    /// The [`RetryBudget`](crate::RetryBudget) did not allow another retry.
    Budget,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Permanent => "the failure is not retryable",
            Self::Exhausted => "no retries left",
            Self::Deadline => "the deadline leaves no time for another attempt",
            Self::RetryAfterTooLong => "the server requested a wait longer than allowed",
            Self::Budget => "the retry budget is exhausted",
        })
    }
}

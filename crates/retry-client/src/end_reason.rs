//! Why a call ended.

use std::fmt;

use retry_core::Reason;

/// Why a call ended, so why there was no further attempt. It displays as a phrase for a log, such as `no retries left`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// The response is not one that is retried.
    Accepted,
    /// The server may have processed the request, and processing it twice is not safe: its method is not idempotent, it has
    /// no `Idempotency-Key`, and [`RetryMethods`](crate::RetryMethods) does not allow it; or it asks for another protocol
    /// (`Upgrade`).
    NotSafeToRepeat,
    /// The status of the response is listed for retries, but a header in which the server asks for no retry counts: see
    /// [`server_hints`](crate::RetryConfig::server_hints).
    RetryForbidden,
    /// The request's body cannot be sent again: it is a stream that was longer than
    /// [`replay_limit`](crate::RetryConfig::replay_limit) or [`replay_memory`](crate::RetryConfig::replay_memory) allows.
    BodyNotReplayable,
    /// Another attempt would fail in the same way: for example, the certificate was rejected.
    Permanent,
    /// No endpoint was up within [`outage_wait`](crate::ClientBuilder::outage_wait).
    Outage,
    /// The policy's retries were used up.
    Exhausted,
    /// The deadline had passed, or would have passed before the end of the next wait.
    Deadline,
    /// The server requested a wait longer than [`max_retry_after`](crate::RetryPolicy::max_retry_after).
    RetryAfterTooLong,
    /// The [budget](crate::RetryBudget) did not allow another retry.
    Budget,
}

/// The reasons that do not depend on HTTP.
impl From<Reason> for EndReason {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Accepted => Self::Accepted,
            Reason::Exhausted => Self::Exhausted,
            Reason::Deadline => Self::Deadline,
            Reason::RetryAfterTooLong => Self::RetryAfterTooLong,
            Reason::Budget => Self::Budget,
            _ => Self::Permanent,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::NotSafeToRepeat => "not safe to repeat",
            Self::RetryForbidden => "the server asked for no retry",
            Self::BodyNotReplayable => "the request body cannot be sent again",
            Self::Permanent => "another attempt would fail too",
            Self::Outage => "no endpoint was up in time",
            Self::Exhausted => "no retries left",
            Self::Deadline => "the deadline leaves no time for another attempt",
            Self::RetryAfterTooLong => "the server requested a wait longer than allowed",
            Self::Budget => "the retry budget is exhausted",
        })
    }
}

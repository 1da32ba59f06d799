//! The outcomes of the attempts of a call that was retried.

use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;
use retry_core::Record;

/// The attempts of a call that took more than one, or that was hedged, with their outcomes: an extension of its response,
/// or part of its [`Error`](crate::Error). It displays as one line, for a log:
///
/// ```text
/// attempt 1 returned 503 Service Unavailable (2.1ms); waited 80ms; attempt 2 returned 200 OK (1.4ms)
/// ```
///
/// At most the last 16 attempts are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(Vec<HistoryEntry>);

/// An attempt and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The attempt: its number, its times, and the wait that followed.
    pub record: Record,
    /// The outcome of the attempt.
    pub outcome: PastOutcome,
    /// The endpoint that the outcome is of, named as in [`EndpointStatus`](crate::EndpointStatus). `None` if there is only
    /// one, and if the request was not sent.
    pub endpoint: Option<Arc<str>>,
    /// The second request that was sent because the first took long. `None` if there was none.
    pub hedge: Option<Hedge>,
}

/// A second request of an attempt, to another endpoint; see
/// [`ClientBuilder::hedge_after`](crate::ClientBuilder::hedge_after).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hedge {
    /// How long the first request had taken by then.
    pub after: Duration,
    /// Whether the outcome of the attempt is that of the second request.
    pub won: bool,
}

/// The outcome of an attempt that has ended. It displays as a verb phrase, such as `returned 503 Service Unavailable`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PastOutcome {
    /// A response with this status.
    Response(StatusCode),
    /// No response. The error in words.
    Failed(String),
    /// The deadline passed first.
    DeadlineExceeded,
}

impl fmt::Display for PastOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response(status) => write!(f, "returned {status}"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::DeadlineExceeded => f.write_str("exceeded the deadline"),
        }
    }
}

/// The attempts kept in a history, and in the journal of a call.
pub(crate) const MAX_ENTRIES: u16 = 16;

impl History {
    /// Returns the attempts in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &HistoryEntry> {
        self.0.iter()
    }

    pub(crate) fn push(&mut self, entry: HistoryEntry) {
        if self.0.len() == usize::from(MAX_ENTRIES) {
            self.0.remove(0);
        }
        if self.0.is_empty() {
            // Many calls may be waiting for their second attempt: no spare capacity.
            self.0.reserve_exact(1);
        }
        self.0.push(entry);
    }

    /// Whether more than one request was sent.
    pub(crate) fn has_several_requests(&self) -> bool {
        self.0.len() > 1 || self.0.iter().any(|entry| entry.hedge.is_some())
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut wait: Option<Duration> = None;
        for (index, HistoryEntry { record, outcome, endpoint, hedge }) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                write!(f, "waited {:?}; ", rounded(wait))?;
            }
            write!(f, "attempt {}", record.attempt)?;
            if let Some(endpoint) = endpoint {
                write!(f, " at {endpoint}")?;
            }
            write!(f, " {outcome}")?;
            if let Some(timing) = record.timing {
                write!(f, " ({:?})", rounded(timing.duration))?;
            }
            if let Some(Hedge { after, won }) = hedge {
                let result = if *won { "won" } else { "lost" };
                write!(f, ", hedged after {:?}: {result}", rounded(*after))?;
            }
            wait = record.wait;
        }
        Ok(())
    }
}

/// Rounds to tenths of a millisecond.
fn rounded(duration: Duration) -> Duration {
    const STEP: u128 = 100_000;
    let steps = (duration.as_nanos() + STEP / 2) / STEP;
    u64::try_from(steps * STEP).map_or(duration, Duration::from_nanos)
}

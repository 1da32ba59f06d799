//! What came of each attempt of a call that took more than one.

use std::{fmt, time::Duration};

use retry_core::Record;

use crate::retry::attempt_event::Outcome;

/// The attempts of a call that was retried, each with what came of it: among the extensions of its response, or on
/// its [`Error`](crate::Error). It displays as one line, for a log:
///
/// ```text
/// attempt 1 returned 503 Service Unavailable in 2.1ms; 80ms later attempt 2 returned 200 OK in 1.4ms
/// ```
///
/// The latest 16 attempts are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History(Vec<HistoryEntry>);

/// One attempt and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The attempt: its number, its times, and the wait that followed.
    pub record: Record,
    /// What came of it, in words: `returned 503 Service Unavailable`.
    pub outcome: String,
}

const LONGEST: usize = 16;

impl History {
    /// The attempts, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &HistoryEntry> {
        self.0.iter()
    }

    pub(crate) fn note(&mut self, record: &Record, outcome: Outcome<'_>) {
        if self.0.len() == LONGEST {
            self.0.remove(0);
        }
        if self.0.is_empty() {
            // Many calls may wait for their second attempt.
            self.0.reserve_exact(1);
        }
        self.0.push(HistoryEntry { record: *record, outcome: outcome.to_string() });
    }

    pub(crate) fn is_of_several(&self) -> bool {
        self.0.len() > 1
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut wait = None;
        for (index, HistoryEntry { record, outcome }) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            if let Some(wait) = wait {
                write!(f, "{:?} later ", rounded(wait))?;
            }
            write!(f, "attempt {} {outcome}", record.attempt)?;
            if let Some(timing) = record.timing {
                write!(f, " in {:?}", rounded(timing.duration))?;
            }
            wait = record.wait;
        }
        Ok(())
    }
}

/// To the tenth of a millisecond: what lies below is noise.
fn rounded(duration: Duration) -> Duration {
    const STEP: u128 = 100_000;
    let steps = (duration.as_nanos() + STEP / 2) / STEP;
    u64::try_from(steps * STEP).map_or(duration, Duration::from_nanos)
}

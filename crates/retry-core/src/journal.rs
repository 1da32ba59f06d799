//! [`Journal`]: the attempts of a call.

use alloc::{boxed::Box, collections::VecDeque};
use core::time::Duration;

use crate::verdict::Verdict;

/// The record of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The number of the attempt, starting at 1.
    pub attempt: u32,
    /// The verdict on its outcome.
    pub verdict: Verdict,
    /// The wait that followed; `None` after the last attempt.
    pub wait: Option<Duration>,
    /// When the attempt ran; `None` unless [`Retry::timed`](crate::Retry::timed) is set.
    pub timing: Option<Timing>,
}

/// When an attempt ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// The time from the start of the call to the start of the attempt.
    pub start: Duration,
    /// How long the attempt took.
    pub duration: Duration,
}

/// The attempts of one call, in order.
///
/// By default only the last attempt is recorded, and [`attempts`](Self::attempts) counts all of them.
/// [`Retry::journal_limit`](crate::Retry::journal_limit) adds those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    earlier: EarlierRecords,
    last: Record,
}

impl Journal {
    pub(crate) const fn new(earlier: EarlierRecords, last: Record) -> Self {
        Self { earlier, last }
    }

    /// Returns the number of attempts that the call made.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.last.attempt
    }

    /// Returns the last attempt.
    #[must_use]
    pub const fn last(&self) -> &Record {
        &self.last
    }

    /// Returns the recorded attempts, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.earlier.0.iter().flat_map(|records| records.iter()).chain([&self.last])
    }

    /// Returns the number of attempts that are no longer recorded.
    #[must_use]
    pub fn dropped(&self) -> usize {
        (self.attempts() as usize).saturating_sub(self.iter().count())
    }
}

/// The attempts before the last. Takes one word, and allocates at the first retry only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::box_collection, reason = "a call in backoff should take little memory")]
pub(crate) struct EarlierRecords(Option<Box<VecDeque<Record>>>);

impl EarlierRecords {
    /// Adds a record. Drops the first if the journal would have more than `limit` records, the last attempt included.
    #[inline]
    pub(crate) fn push(&mut self, record: &Record, limit: u16) {
        if limit > 1 {
            self.push_bounded(*record, usize::from(limit) - 1);
        }
    }

    #[cold]
    fn push_bounded(&mut self, record: Record, limit: usize) {
        // Most calls that retry do so once.
        let records = self.0.get_or_insert_with(|| Box::new(VecDeque::with_capacity(1)));
        if records.len() >= limit {
            records.pop_front();
        }
        records.push_back(record);
    }
}

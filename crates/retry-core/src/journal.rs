//! What happened, attempt by attempt.

use alloc::vec::Vec;
use core::time::Duration;

use crate::session::Verdict;

/// One attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its number in the call, from 1.
    pub attempt: u32,
    /// What its outcome was taken for.
    pub verdict: Verdict,
    /// The wait that followed; none after the last attempt.
    pub wait: Option<Duration>,
    /// When it ran; none where nothing asked for the time, see [`Retry::timed`](crate::Retry::timed).
    pub timing: Option<Timing>,
}

/// When an attempt ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Its start, from the start of the call.
    pub start: Duration,
    /// How long it took.
    pub duration: Duration,
}

/// The attempts of one call, the latest last.
///
/// Bounded: beyond the [limit](crate::Retry::journal_limit) the earliest records are dropped, and
/// [`dropped`](Self::dropped) counts them. The last attempt is always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    earlier: Vec<Record>,
    last: Record,
}

impl Journal {
    pub(crate) const fn new(earlier: Vec<Record>, last: Record) -> Self {
        Self { earlier, last }
    }

    /// How many attempts the call made.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.last.attempt
    }

    /// The last attempt.
    #[must_use]
    pub const fn last(&self) -> &Record {
        &self.last
    }

    /// The attempts on record, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.earlier.iter().chain([&self.last])
    }

    /// How many early attempts are no longer on record.
    #[must_use]
    pub fn dropped(&self) -> usize {
        (self.attempts() as usize).saturating_sub(self.earlier.len() + 1)
    }
}

/// The records of a call still under way. Holds no memory until the first retry.
#[derive(Debug)]
pub(crate) struct Draft {
    earlier: Vec<Record>,
    limit: u16,
}

impl Draft {
    pub(crate) const fn new(limit: u16) -> Self {
        Self { earlier: Vec::new(), limit }
    }

    #[inline]
    pub(crate) fn push(&mut self, record: Record) {
        let room = usize::from(self.limit).saturating_sub(1);
        if room == 0 {
            return;
        }
        if self.earlier.len() == room {
            self.earlier.remove(0);
        }
        if self.earlier.is_empty() {
            // Most calls that retry do so once: no room for more until it is needed.
            self.earlier.reserve_exact(1);
        }
        self.earlier.push(record);
    }

    pub(crate) fn finish(self, last: Record) -> Journal {
        Journal::new(self.earlier, last)
    }
}

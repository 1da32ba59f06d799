//! What happened, attempt by attempt.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
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

/// The records of a call still under way: one word, and nothing on the heap before the first retry.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    #[expect(clippy::box_collection, reason = "a call that waits should hold no more than it must")]
    earlier: Option<Box<VecDeque<Record>>>,
}

impl Draft {
    /// Notes an attempt that another is to follow. Keeps so many that `limit` includes the last one.
    #[inline]
    pub(crate) fn push(&mut self, record: Record, limit: u16) {
        if limit > 1 {
            self.keep(record, limit);
        }
    }

    #[cold]
    fn keep(&mut self, record: Record, limit: u16) {
        // Most calls that retry do so once: no room for more until it is needed.
        let earlier = self.earlier.get_or_insert_with(|| Box::new(VecDeque::with_capacity(1)));
        if earlier.len() + 1 >= limit.into() {
            earlier.pop_front();
        }
        earlier.push_back(record);
    }

    #[cold]
    pub(crate) fn finish(&mut self, last: Record) -> Journal {
        let earlier = self.earlier.take().map_or_else(Vec::new, |earlier| Vec::from(*earlier));
        Journal { earlier, last }
    }
}

//! What happened, attempt by attempt.

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};
use core::time::Duration;

use crate::{policy::Nanos, session::Verdict};

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

/// The records of a call still under way.
///
/// Untimed, the first few are kept in place and in brief, so that a call that succeeds after a few
/// retries allocates nothing. Beyond those, and timed, they go to the heap.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    // As many as the default policy has retries. Fields rather than an array, which the compiler
    // would copy through memory with each call.
    first: Brief,
    second: Brief,
    third: Brief,
    many: Option<Box<VecDeque<Record>>>,
}

/// What an untimed record has beside its number, in one word: the kind of failure in the top two
/// bits, the wait in the others. Zero is no record.
#[derive(Clone, Copy, Debug, Default)]
struct Brief(u64);

impl Brief {
    const WAIT_BITS: u32 = 62;

    /// None for a record that does not fit: timed, or with a wait beyond 146 years.
    #[inline]
    const fn new(wait: Nanos, record: &Record) -> Option<Self> {
        if wait.0 >> Self::WAIT_BITS != 0 || record.timing.is_some() {
            return None;
        }
        let kind = match record.verdict {
            Verdict::RetryTimeout => 2,
            Verdict::RetryAfter(_) => 3,
            _ => 1,
        };
        Some(Self(kind << Self::WAIT_BITS | wait.0))
    }

    const fn record(self, attempt: u32) -> Option<Record> {
        let wait = Duration::from_nanos(self.0 & !(u64::MAX << Self::WAIT_BITS));
        let verdict = match self.0 >> Self::WAIT_BITS {
            0 => return None,
            2 => Verdict::RetryTimeout,
            // The wait that was asked for is the one that followed.
            3 => Verdict::RetryAfter(wait),
            _ => Verdict::Retry,
        };
        Some(Record { attempt, verdict, wait: Some(wait), timing: None })
    }
}

impl Draft {
    /// Notes an attempt that is followed by `wait`. Keeps so many that `limit` includes the last one.
    #[inline]
    pub(crate) fn push(&mut self, wait: Nanos, record: Record, limit: u16) {
        if limit <= 1 {
            return;
        }
        let place = match record.attempt {
            1 => &mut self.first,
            2 if limit > 2 => &mut self.second,
            3 if limit > 3 => &mut self.third,
            _ => return self.push_on_heap(record, limit),
        };
        match Brief::new(wait, &record) {
            Some(brief) if self.many.is_none() => *place = brief,
            _ => self.push_on_heap(record, limit),
        }
    }

    #[cold]
    fn push_on_heap(&mut self, record: Record, limit: u16) {
        if self.many.is_none() {
            self.many = Some(Box::new(self.few_records().collect()));
        }
        let many = self.many.get_or_insert_default();
        if many.len() + 1 >= limit.into() {
            many.pop_front();
        }
        many.push_back(record);
    }

    fn few_records(&self) -> impl Iterator<Item = Record> {
        [self.first, self.second, self.third].into_iter().zip(1..).map_while(|(brief, attempt)| brief.record(attempt))
    }

    #[cold]
    pub(crate) fn finish(&mut self, last: Record) -> Journal {
        let earlier = match self.many.take() {
            Some(many) => Vec::from(*many),
            None => self.few_records().collect(),
        };
        Journal { earlier, last }
    }
}

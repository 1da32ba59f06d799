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
    waits: [Nanos; FEW],
    failures: [Failure; FEW],
    few: u8,
    many: Option<Box<VecDeque<Record>>>,
}

/// As many as the default policy has retries.
const FEW: usize = 3;

/// A verdict that was followed by a wait.
#[derive(Clone, Copy, Debug, Default)]
enum Failure {
    #[default]
    Retry,
    Timeout,
    /// The wait is the one that was asked for.
    Asked,
}

impl Failure {
    const fn new(verdict: Verdict) -> Self {
        match verdict {
            Verdict::RetryTimeout => Self::Timeout,
            Verdict::RetryAfter(_) => Self::Asked,
            _ => Self::Retry,
        }
    }

    const fn verdict(self, wait: Duration) -> Verdict {
        match self {
            Self::Retry => Verdict::Retry,
            Self::Timeout => Verdict::RetryTimeout,
            Self::Asked => Verdict::RetryAfter(wait),
        }
    }
}

impl Draft {
    /// Notes an attempt that is followed by a wait. Keeps so many that `limit` includes the last one.
    #[inline]
    pub(crate) fn push(&mut self, record: Record, limit: u16) {
        let room = usize::from(limit).saturating_sub(1);
        let few = usize::from(self.few);
        if record.timing.is_none()
            && self.many.is_none()
            && few < room
            && let (Some(wait), Some(failure)) = (self.waits.get_mut(few), self.failures.get_mut(few))
        {
            *wait = Nanos::new(record.wait.unwrap_or_default());
            *failure = Failure::new(record.verdict);
            self.few += 1;
        } else if room > 0 {
            self.push_on_heap(record, room);
        }
    }

    #[cold]
    fn push_on_heap(&mut self, record: Record, room: usize) {
        if self.many.is_none() {
            self.many = Some(Box::new(self.few_records().collect()));
        }
        let many = self.many.get_or_insert_default();
        if many.len() == room {
            many.pop_front();
        }
        many.push_back(record);
    }

    fn few_records(&self) -> impl Iterator<Item = Record> {
        let few = self.waits.iter().zip(&self.failures).zip(1..).take(self.few.into());
        few.map(|((wait, failure), attempt)| {
            let wait = wait.get();
            Record { attempt, verdict: failure.verdict(wait), wait: Some(wait), timing: None }
        })
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

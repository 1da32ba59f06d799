//! The deadline of a call.

use crate::nanos::Nanos;

/// The time by which a call must be over; `None` if it has no deadline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Nanos>);

impl Deadline {
    /// Returns the deadline of a call that started at `start` and may take `limit`; `Nanos::MAX` stands for no limit.
    #[inline]
    pub(crate) fn new(start: Nanos, limit: Nanos) -> Self {
        Self((limit != Nanos::MAX).then(|| start.saturating_add(limit)))
    }

    /// Returns whether no time is left at `time`: an attempt cannot start at the deadline itself.
    #[inline]
    pub(crate) fn has_passed(self, time: Nanos) -> bool {
        self.0.is_some_and(|deadline| time >= deadline)
    }

    /// Returns the time left at `time`; `None` if there is no deadline.
    #[inline]
    pub(crate) fn remaining(self, time: Nanos) -> Option<Nanos> {
        self.0.map(|deadline| deadline.saturating_sub(time))
    }
}

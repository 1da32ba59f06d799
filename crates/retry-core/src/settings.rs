//! `Settings`: the settings of a call, except for its budget.

use crate::{nanos::Nanos, policy::RetryPolicy};

/// The settings of a call. [`Progress`](crate::session::Progress) has its budget.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<R, C, O> {
    pub(crate) policy: RetryPolicy,
    pub(crate) runtime: R,
    pub(crate) classify: C,
    pub(crate) observe: O,
    /// `Nanos::MAX` stands for no timeout.
    pub(crate) attempt_timeout: Nanos,
    pub(crate) journal_limit: u16,
    /// Whether attempts are timed for the journal.
    pub(crate) timed: bool,
    /// Whether anything needs the time: a deadline, a budget, or `timed`.
    pub(crate) reads_clock: bool,
}

impl<R, C, O> Settings<R, C, O> {
    #[inline]
    pub(crate) fn with_classify<C2>(self, classify: C2) -> Settings<R, C2, O> {
        let Self { policy, runtime, classify: _, observe, attempt_timeout, journal_limit, timed, reads_clock } = self;
        Settings { policy, runtime, classify, observe, attempt_timeout, journal_limit, timed, reads_clock }
    }

    /// Sets the observer, which needs the times of attempts.
    #[inline]
    pub(crate) fn with_observe<O2>(self, observe: O2) -> Settings<R, C, O2> {
        let Self { policy, runtime, classify, observe: _, attempt_timeout, journal_limit, timed: _, reads_clock: _ } =
            self;
        Settings { policy, runtime, classify, observe, attempt_timeout, journal_limit, timed: true, reads_clock: true }
    }

    #[cfg(feature = "std")]
    #[inline]
    pub(crate) fn with_runtime<R2>(self, runtime: R2) -> Settings<R2, C, O> {
        let Self { policy, runtime: _, classify, observe, attempt_timeout, journal_limit, timed, reads_clock } = self;
        Settings { policy, runtime, classify, observe, attempt_timeout, journal_limit, timed, reads_clock }
    }
}

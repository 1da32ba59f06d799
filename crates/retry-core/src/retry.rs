//! [`Retry`]: a policy and the settings around it.

use core::time::Duration;

#[cfg(feature = "tokio")]
use crate::tokio_runtime::TokioRuntime;
use crate::{
    budget::RetryBudget, classify::RetryAnyError, nanos::Nanos, observe::NoObserver, policy::RetryPolicy,
    runtime::Runtime,
};

/// A policy and the settings around it; runs any number of operations.
///
/// By default every `Err` is retried and every `Ok` accepted; there is no observer, no budget and no timeout per
/// attempt; the journal keeps only the last attempt, without its times.
#[derive(Clone, Debug)]
pub struct Retry<R, C = RetryAnyError, O = NoObserver> {
    pub(crate) policy: RetryPolicy,
    pub(crate) runtime: R,
    pub(crate) classify: C,
    pub(crate) observe: O,
    pub(crate) budget: Option<RetryBudget>,
    /// `Nanos::MAX` stands for no timeout.
    pub(crate) attempt_timeout: Nanos,
    pub(crate) journal_limit: u16,
    pub(crate) timed: bool,
}

#[cfg(feature = "tokio")]
impl Retry<TokioRuntime> {
    /// Creates a `Retry` that uses tokio's clock and timers.
    #[must_use]
    pub const fn new(policy: RetryPolicy) -> Self {
        Self::with_runtime(TokioRuntime, policy)
    }
}

impl<R: Runtime> Retry<R> {
    /// Creates a `Retry` that uses the clock, timers and random numbers of `runtime`.
    #[must_use]
    pub const fn with_runtime(runtime: R, policy: RetryPolicy) -> Self {
        Self {
            policy,
            runtime,
            classify: RetryAnyError,
            observe: NoObserver,
            budget: None,
            attempt_timeout: Nanos::MAX,
            journal_limit: 1,
            timed: false,
        }
    }
}

impl<R: Runtime, C, O> Retry<R, C, O> {
    /// Sets the classifier, usually a closure from `&Result<T, E>` to [`Verdict`](crate::Verdict).
    ///
    /// It sees successes, too. An `Ok` that should be retried is returned unchanged once no further attempt is
    /// allowed.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// use retry_core::{Retry, RetryPolicy, Verdict};
    ///
    /// let policy = RetryPolicy::builder().count(1).interval(Duration::ZERO).build().unwrap();
    /// let unavailable = |status: &Result<u16, std::io::Error>| match status {
    ///     Ok(503) | Err(_) => Verdict::Retry,
    ///     Ok(_) => Verdict::Accept,
    /// };
    /// let status = Retry::new(policy).classify(unavailable).run(|_| async { Ok(503) }).await;
    /// assert_eq!(status.unwrap(), 503);
    /// # });
    /// ```
    #[must_use]
    pub fn classify<C2>(self, classify: C2) -> Retry<R, C2, O> {
        let Self { policy, runtime, classify: _, observe, budget, attempt_timeout, journal_limit, timed } = self;
        Retry { policy, runtime, classify, observe, budget, attempt_timeout, journal_limit, timed }
    }

    /// Registers an observer, usually a closure that takes an [`Event`](crate::Event). It is called before each wait
    /// and once when the call ends. Also turns on [`timed`](Self::timed).
    #[must_use]
    pub fn observe<O2>(self, observe: O2) -> Retry<R, C, O2> {
        let Self { policy, runtime, classify, observe: _, budget, attempt_timeout, journal_limit, timed: _ } = self;
        Retry { policy, runtime, classify, observe, budget, attempt_timeout, journal_limit, timed: true }
    }

    /// Charges every retry to `budget`, which calls of other `Retry` values may share.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Sets a timeout for each attempt. An attempt that times out is dropped, and retried as
    /// [`Verdict::RetryTimeout`](crate::Verdict::RetryTimeout) without asking the classifier. Only for operations that
    /// are safe to abort and repeat.
    #[must_use]
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Nanos::new(timeout);
        self
    }

    /// Sets how many attempts the journal keeps, counted from the last; the default and the minimum is 1. If it is
    /// more, a call allocates at its first retry.
    #[must_use]
    pub fn journal_limit(mut self, attempts: u16) -> Self {
        self.journal_limit = attempts;
        self
    }

    /// Records in the journal when each attempt ran. Without it the clock is only read for a deadline, a budget or an
    /// observer.
    #[must_use]
    pub fn timed(mut self) -> Self {
        self.timed = true;
        self
    }

    /// Returns the time; `None` if nothing needs it.
    #[inline]
    pub(crate) fn now(&self) -> Option<Nanos> {
        let needed = self.timed || self.budget.is_some() || self.policy.deadline != Nanos::MAX;
        needed.then(|| Nanos::new(self.runtime.now()))
    }
}

/// A [`Retry`], owned or borrowed.
pub(crate) trait Config {
    type Runtime: Runtime;
    type Classify;
    type Observe;

    fn retry(&self) -> &Retry<Self::Runtime, Self::Classify, Self::Observe>;
}

impl<R: Runtime, C, O> Config for Retry<R, C, O> {
    type Runtime = R;
    type Classify = C;
    type Observe = O;

    fn retry(&self) -> &Self {
        self
    }
}

impl<S: Config> Config for &S {
    type Runtime = S::Runtime;
    type Classify = S::Classify;
    type Observe = S::Observe;

    fn retry(&self) -> &Retry<S::Runtime, S::Classify, S::Observe> {
        S::retry(self)
    }
}

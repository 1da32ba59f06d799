//! The executor's settings, and what goes in and out of a call.

use core::{
    future::{Ready, ready},
    time::Duration,
};

#[cfg(feature = "tokio")]
use crate::runtime::TokioRuntime;
use crate::{
    RetryBudget, RetryError, RetryPolicy,
    call::Call,
    journal::{Journal, Record},
    policy::Nanos,
    runtime::Runtime,
    session::{Reason, Verdict},
};

/// Runs `operation` until it succeeds or `policy` gives up. Every error is retried.
///
/// Dropping the future, also during a wait, cancels the call. For more control see [`Retry`].
///
/// # Errors
///
/// The last error, once the policy allows no further attempt.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use retry_core::{RetryPolicy, retry};
///
/// let policy = RetryPolicy::builder().count(3).interval(Duration::from_millis(1)).build().unwrap();
/// let mut attempts = 0;
/// let answer = retry(policy, || {
///     attempts += 1;
///     let outcome = if attempts < 3 { Err("busy") } else { Ok("Hello World!!!") };
///     async move { outcome }
/// });
/// assert_eq!(answer.await.unwrap(), "Hello World!!!");
/// # });
/// ```
#[cfg(feature = "tokio")]
pub fn retry<T, E, Fut>(
    policy: RetryPolicy,
    mut operation: impl FnMut() -> Fut,
) -> impl Future<Output = Result<T, RetryError<E>>>
where
    Fut: Future<Output = Result<T, E>>,
{
    Call::new(Retry::new(policy), move |_| operation())
}

/// How to run operations with retries: a policy and everything around it. Reusable and shareable.
///
/// What is not set: every `Err` is retried and every `Ok` accepted, nothing observes, there is no
/// budget and no limit per attempt, and the journal keeps 16 attempts without their times.
#[derive(Clone, Debug)]
pub struct Retry<R, C = AnyError, O = Unobserved> {
    pub(crate) policy: RetryPolicy,
    pub(crate) runtime: R,
    pub(crate) classify: C,
    pub(crate) observe: O,
    pub(crate) budget: Option<RetryBudget>,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) journal_limit: u16,
    pub(crate) timed: bool,
}

#[cfg(feature = "tokio")]
impl Retry<TokioRuntime> {
    /// On tokio's timer.
    #[must_use]
    pub const fn new(policy: RetryPolicy) -> Self {
        Self::on(TokioRuntime, policy)
    }
}

impl<R: Runtime> Retry<R> {
    /// On any runtime.
    #[must_use]
    pub const fn on(runtime: R, policy: RetryPolicy) -> Self {
        Self {
            policy,
            runtime,
            classify: AnyError,
            observe: Unobserved,
            budget: None,
            attempt_timeout: None,
            journal_limit: 16,
            timed: false,
        }
    }
}

impl<R: Runtime, C, O> Retry<R, C, O> {
    /// Sets what outcomes mean: a closure from `&Result<T, E>` to [`Verdict`].
    ///
    /// It sees successes too. When attempts run out, an `Ok` that it wanted retried is handed back as
    /// the `Ok` it is.
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

    /// Sets who is told of each wait, before it begins, and of the end: a closure over [`Event`].
    /// Attempts are [timed](Self::timed) for it.
    #[must_use]
    pub fn observe<O2>(self, observe: O2) -> Retry<R, C, O2> {
        let Self { policy, runtime, classify, observe: _, budget, attempt_timeout, journal_limit, timed: _ } = self;
        Retry { policy, runtime, classify, observe, budget, attempt_timeout, journal_limit, timed: true }
    }

    /// Draws every retry on `budget`, which other calls may share.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Cuts each attempt after this long and takes it for [`Verdict::RetryTimeout`]. The classifier
    /// does not see it: there is no outcome. Only for operations that may be cut and repeated.
    #[must_use]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = Some(limit);
        self
    }

    /// Sets how many attempts the journal keeps, the latest ones; the default is 16. With 0 or 1 only
    /// the last attempt is kept, and a call allocates nothing at all.
    #[must_use]
    pub fn journal_limit(mut self, attempts: u16) -> Self {
        self.journal_limit = attempts;
        self
    }

    /// Times each attempt for the journal. Otherwise the clock is read only when a deadline, a budget
    /// or an observer needs it.
    #[must_use]
    pub fn timed(mut self) -> Self {
        self.timed = true;
        self
    }

    /// Runs `operation` until its outcome is accepted or the call gives up.
    ///
    /// # Errors
    ///
    /// The last attempt's error, when there are no more attempts or the classifier said stop; without
    /// an error inside when a limit cut the last attempt.
    pub fn run<T, E, Fut>(
        &self,
        operation: impl FnMut(Attempt) -> Fut,
    ) -> impl Future<Output = Result<T, RetryError<E>>>
    where
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
        O: Observe<T, E>,
    {
        Call::new(self, operation)
    }

    /// As [`run`](Self::run), and tells how it went on success too.
    pub fn report<T, E, Fut>(&self, operation: impl FnMut(Attempt) -> Fut) -> impl Future<Output = Report<T, E>>
    where
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
        O: Observe<T, E>,
    {
        Call::new(self, operation)
    }

    #[inline]
    fn reads_clock(&self) -> bool {
        self.timed || self.budget.is_some() || self.policy.deadline().is_some()
    }

    /// The time, or zero throughout where nobody needs it.
    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        if self.reads_clock() { Nanos::new(self.runtime.now()) } else { Nanos::ZERO }
    }

    /// The sleep that cuts an attempt, where something limits it.
    #[inline]
    pub(crate) fn limit(&self, remaining: Option<Duration>) -> Option<R::Sleep> {
        let limit = match (self.attempt_timeout, remaining) {
            (Some(timeout), Some(remaining)) => timeout.min(remaining),
            (timeout, remaining) => timeout.or(remaining)?,
        };
        Some(self.runtime.sleep(limit))
    }
}

/// What an operation is told about the attempt it is to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// Its number in the call, from 1.
    pub number: u32,
    /// What the policy's deadline leaves for it; none without a deadline.
    pub remaining: Option<Duration>,
}

/// Says what an outcome means and disposes of failed ones. Any `Fn(&Result<T, E>) -> Verdict` does.
pub trait Classify<T, E> {
    /// What [`discard`](Self::discard) returns.
    type Discard: Future<Output = ()>;

    /// The verdict on one attempt's outcome.
    fn classify(&self, outcome: &Result<T, E>) -> Verdict;

    /// Disposes of an outcome that another attempt is to replace, as the wait begins. A closure drops
    /// it; an HTTP client reads a failed response to its end, to keep the connection. The next attempt
    /// waits for this, however short the policy's own wait.
    fn discard(&self, outcome: Result<T, E>) -> Self::Discard;
}

/// Retries every error and accepts every success. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyError;

impl<T, E> Classify<T, E> for AnyError {
    type Discard = Ready<()>;

    fn classify(&self, outcome: &Result<T, E>) -> Verdict {
        if outcome.is_ok() { Verdict::Accept } else { Verdict::Retry }
    }

    #[inline]
    fn discard(&self, _outcome: Result<T, E>) -> Ready<()> {
        ready(())
    }
}

impl<T, E, F: Fn(&Result<T, E>) -> Verdict> Classify<T, E> for F {
    type Discard = Ready<()>;

    fn classify(&self, outcome: &Result<T, E>) -> Verdict {
        self(outcome)
    }

    #[inline]
    fn discard(&self, _outcome: Result<T, E>) -> Ready<()> {
        ready(())
    }
}

/// Something happened in a call. `outcome` is none where a limit cut the attempt.
#[derive(Debug)]
pub enum Event<'a, T, E> {
    /// An attempt failed, and the wait in `record` is about to begin.
    Retry {
        /// The attempt.
        record: &'a Record,
        /// What came of it.
        outcome: Option<&'a Result<T, E>>,
    },
    /// The call is over.
    End {
        /// The last attempt.
        record: &'a Record,
        /// What came of it.
        outcome: Option<&'a Result<T, E>>,
        /// Why there is no other.
        reason: Reason,
    },
}

/// Is told what happens in a call. Any `Fn(Event<'_, T, E>)` does; it must not block.
pub trait Observe<T, E> {
    /// Called before each wait and at the end.
    fn observe(&self, event: Event<'_, T, E>);
}

/// Tells nobody. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl<T, E> Observe<T, E> for Unobserved {
    fn observe(&self, _event: Event<'_, T, E>) {}
}

impl<T, E, F: Fn(Event<'_, T, E>)> Observe<T, E> for F {
    fn observe(&self, event: Event<'_, T, E>) {
        self(event);
    }
}

/// How a call went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report<T, E> {
    /// The last attempt's outcome; none where a limit cut it.
    pub outcome: Option<Result<T, E>>,
    /// Why there was no further attempt.
    pub reason: Reason,
    /// The attempts.
    pub journal: Journal,
}

impl<T, E> Report<T, E> {
    /// The success, or the error with its journal.
    ///
    /// # Errors
    ///
    /// When the last attempt's outcome was an error, or it was cut.
    pub fn into_result(self) -> Result<T, RetryError<E>> {
        let Self { outcome, reason, journal } = self;
        match outcome {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(RetryError { last: Some(error), reason, journal }),
            None => Err(RetryError { last: None, reason, journal }),
        }
    }
}

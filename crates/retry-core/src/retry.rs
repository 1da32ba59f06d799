//! The executor's settings, and what goes in and out of a call.

use core::{
    future::{Ready, ready},
    time::Duration,
};

#[cfg(feature = "tokio")]
use crate::runtime::TokioRuntime;
use crate::{
    RetryBudget, RetryError, RetryPolicy,
    call::{Call, Settings},
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
    Call::new(policy, move |_| operation())
}

/// Attempts kept by default: more than most policies make.
const JOURNAL_LIMIT: u16 = 16;

/// How to run operations with retries: a policy and everything around it. Reusable and shareable.
///
/// What is not set: every `Err` is retried and every `Ok` accepted, nothing observes, there is no
/// budget and no limit per attempt, and the journal keeps 16 attempts without their times.
#[derive(Clone, Debug)]
pub struct Retry<R, C = RetryAnyError, O = NoObserver> {
    policy: RetryPolicy,
    runtime: R,
    classify: C,
    observe: O,
    budget: Option<RetryBudget>,
    /// `Nanos::MAX` stands for none.
    attempt_timeout: Nanos,
    journal_limit: u16,
    timed: bool,
    /// Whether timing, a budget or a deadline needs it.
    reads_clock: bool,
}

#[cfg(feature = "tokio")]
impl Retry<TokioRuntime> {
    /// On tokio's timer.
    #[must_use]
    pub const fn new(policy: RetryPolicy) -> Self {
        Self::with_runtime(TokioRuntime, policy)
    }
}

impl<R: Runtime> Retry<R> {
    /// On any runtime.
    #[must_use]
    pub const fn with_runtime(runtime: R, policy: RetryPolicy) -> Self {
        Self {
            policy,
            runtime,
            classify: RetryAnyError,
            observe: NoObserver,
            budget: None,
            attempt_timeout: Nanos::MAX,
            journal_limit: JOURNAL_LIMIT,
            timed: false,
            reads_clock: policy.deadline().is_some(),
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
        let Self { policy, runtime, classify: _, observe, budget, attempt_timeout, journal_limit, timed, reads_clock } =
            self;
        Retry { policy, runtime, classify, observe, budget, attempt_timeout, journal_limit, timed, reads_clock }
    }

    /// Sets who is told of each wait, before it begins, and of the end: a closure over [`Event`].
    /// Attempts are [timed](Self::timed) for it.
    #[must_use]
    pub fn observe<O2>(self, observe: O2) -> Retry<R, C, O2> {
        let Self { policy, runtime, classify, observe: _, budget, attempt_timeout, journal_limit, .. } = self;
        Retry {
            policy,
            runtime,
            classify,
            observe,
            budget,
            attempt_timeout,
            journal_limit,
            timed: true,
            reads_clock: true,
        }
    }

    /// Draws every retry on `budget`, which other calls may share.
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self.reads_clock = true;
        self
    }

    /// Cuts each attempt after this long and takes it for [`Verdict::RetryTimeout`]. The classifier
    /// does not see it: there is no outcome. Only for operations that may be cut and repeated.
    #[must_use]
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.attempt_timeout = Nanos::new(limit);
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
        self.reads_clock = true;
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
}

impl<R: Runtime, C, O> Settings for &Retry<R, C, O> {
    type Runtime = R;
    type Classify = C;
    type Observe = O;

    fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    fn runtime(&self) -> &R {
        &self.runtime
    }

    fn classify(&self) -> &C {
        &self.classify
    }

    fn observe(&self) -> &O {
        &self.observe
    }

    fn budget(&self) -> Option<&RetryBudget> {
        self.budget.as_ref()
    }

    fn attempt_timeout(&self) -> Nanos {
        self.attempt_timeout
    }

    fn journal_limit(&self) -> u16 {
        self.journal_limit
    }

    fn timed(&self) -> bool {
        self.timed
    }

    fn reads_clock(&self) -> bool {
        self.reads_clock
    }
}

/// As [`Retry::new`], without carrying along what is not set.
#[cfg(feature = "tokio")]
impl Settings for RetryPolicy {
    type Runtime = TokioRuntime;
    type Classify = RetryAnyError;
    type Observe = NoObserver;

    fn policy(&self) -> &RetryPolicy {
        self
    }

    fn runtime(&self) -> &TokioRuntime {
        &TokioRuntime
    }

    fn classify(&self) -> &RetryAnyError {
        &RetryAnyError
    }

    fn observe(&self) -> &NoObserver {
        &NoObserver
    }

    fn budget(&self) -> Option<&RetryBudget> {
        None
    }

    fn attempt_timeout(&self) -> Nanos {
        Nanos::MAX
    }

    fn journal_limit(&self) -> u16 {
        JOURNAL_LIMIT
    }

    fn timed(&self) -> bool {
        false
    }

    fn reads_clock(&self) -> bool {
        self.deadline().is_some()
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
pub struct RetryAnyError;

impl<T, E> Classify<T, E> for RetryAnyError {
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
pub struct NoObserver;

impl<T, E> Observe<T, E> for NoObserver {
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
            Some(Err(error)) => Err(RetryError::new(Some(error), reason, journal)),
            None => Err(RetryError::new(None, reason, journal)),
        }
    }
}

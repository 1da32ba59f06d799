//! [`Retry`]: a policy and the settings around it.

use core::time::Duration;

// The default of a type parameter cannot depend on a feature, but what its name stands for can.
#[cfg(not(feature = "tokio"))]
use crate::runtime::NoRuntime as TokioRuntime;
#[cfg(feature = "tokio")]
use crate::tokio_runtime::TokioRuntime;
use crate::{
    budget::RetryBudget,
    classify::{RetryAnyError, RetryIf},
    nanos::Nanos,
    observe::{Event, NoObserver},
    policy::RetryPolicy,
    runtime::Runtime,
    settings::Settings,
    verdict::Verdict,
};

/// A policy and the settings around it; runs any number of operations.
///
/// By default every `Err` is retried and every `Ok` accepted; there is no observer, no budget and no timeout per
/// attempt; the journal keeps only the last attempt, without its times.
///
/// Create it once, and keep it where it is used: each call takes a copy, which costs a few nanoseconds. Copies share
/// the budget.
///
/// ```
/// use retry_core::{Retry, RetryBudget, RetryError, RetryPolicy, TokenCosts};
///
/// struct Users {
///     retry: Retry,
/// }
///
/// impl Users {
///     fn new() -> Self {
///         let budget = RetryBudget::tokens(500, TokenCosts::AWS_2026);
///         Self { retry: Retry::new(RetryPolicy::default()).budget(budget) }
///     }
///
///     async fn name(&self, id: u32) -> Result<String, RetryError<std::io::Error>> {
///         self.retry.run(|_attempt| self.fetch(id)).await
///     }
///
///     async fn fetch(&self, id: u32) -> std::io::Result<String> {
///         Ok(format!("user {id}"))
///     }
/// }
/// ```
///
/// Closures have types without names: a struct that keeps a `Retry` with a classifier needs a type parameter, or
/// classifies each call instead, with the methods of [`Call`](crate::Call).
#[derive(Clone, Debug)]
#[must_use = "a `Retry` does nothing until it runs an operation"]
pub struct Retry<R = TokioRuntime, C = RetryAnyError, O = NoObserver> {
    pub(crate) settings: Settings<R, C, O>,
    pub(crate) budget: Option<RetryBudget>,
}

#[cfg(feature = "std")]
impl Retry {
    /// Creates a `Retry` that uses tokio's clock and timers.
    ///
    /// Without the feature `tokio` it has no runtime, and can only run blocking operations.
    pub const fn new(policy: RetryPolicy) -> Self {
        Self::new_with(TokioRuntime, policy)
    }
}

impl<R: Runtime> Retry<R> {
    /// Creates a `Retry` that uses the clock, timers and random numbers of `runtime`.
    pub const fn with_runtime(runtime: R, policy: RetryPolicy) -> Self {
        Self::new_with(runtime, policy)
    }
}

impl<R> Retry<R> {
    const fn new_with(runtime: R, policy: RetryPolicy) -> Self {
        let settings = Settings {
            policy,
            runtime,
            classify: RetryAnyError,
            observe: NoObserver,
            attempt_timeout: Nanos::MAX,
            journal_limit: 1,
            timed: false,
            reads_clock: policy.deadline().is_some(),
        };
        Self { settings, budget: None }
    }
}

impl<R, C, O> Retry<R, C, O> {
    /// Retries only the errors for which `predicate` returns true; others end the call at once.
    ///
    /// To call methods of the error, give its type, or use [`Call::retry_if`](crate::Call::retry_if), which knows it.
    /// Timeouts of attempts are retried in any case.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::io;
    /// use retry_core::{Reason, Retry, RetryPolicy};
    ///
    /// let retry = Retry::new(RetryPolicy::default())
    ///     .retry_if(|error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused);
    /// let call = retry.run(|_| async { Err::<(), _>(io::Error::from(io::ErrorKind::NotFound)) });
    /// assert_eq!(call.await.unwrap_err().reason(), Reason::Permanent);
    /// # });
    /// ```
    pub fn retry_if<E, P: Fn(&E) -> bool>(self, predicate: P) -> Retry<R, RetryIf<P>, O> {
        self.classify_with(RetryIf(predicate))
    }

    /// Sets the classifier: a closure that returns a [`Verdict`] on each outcome.
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
    /// let retry = Retry::new(policy).classify(|status| match status {
    ///     Ok(503) | Err(_) => Verdict::Retry,
    ///     Ok(_) => Verdict::Accept,
    /// });
    /// let status = retry.run(|_| async { Ok::<_, std::io::Error>(503) }).await;
    /// assert_eq!(status.unwrap(), 503);
    /// # });
    /// ```
    pub fn classify<T, E, F: Fn(&Result<T, E>) -> Verdict>(self, classify: F) -> Retry<R, F, O> {
        self.classify_with(classify)
    }

    /// Sets a classifier of any type that implements [`Classify`](crate::Classify).
    pub fn classify_with<C2>(self, classify: C2) -> Retry<R, C2, O> {
        Retry { settings: self.settings.with_classify(classify), budget: self.budget }
    }

    /// Registers an observer: a closure that takes an [`Event`]. It is called before each wait and once when the call
    /// ends. Also turns on [`timed`](Self::timed).
    ///
    /// ```
    /// use retry_core::{Retry, RetryPolicy};
    ///
    /// # async fn example() {
    /// let retry = Retry::new(RetryPolicy::default()).observe(|event| {
    ///     let record = event.record;
    ///     match event.ended {
    ///         None => println!("attempt {} failed: {:?}; waiting {:?}", record.attempt, event.outcome, record.wait),
    ///         Some(reason) => println!("ended after attempt {}: {reason}", record.attempt),
    ///     }
    /// });
    /// retry.run(|_| async { Ok::<_, String>(7) }).await.unwrap();
    /// # }
    /// ```
    pub fn observe<T, E, F: Fn(Event<'_, T, E>)>(self, observe: F) -> Retry<R, C, F> {
        self.observe_with(observe)
    }

    /// Registers an observer of any type that implements [`Observe`](crate::Observe).
    pub fn observe_with<O2>(self, observe: O2) -> Retry<R, C, O2> {
        Retry { settings: self.settings.with_observe(observe), budget: self.budget }
    }

    /// Charges every retry to `budget`, which calls of other `Retry` values may share.
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.budget = Some(budget);
        self.settings.reads_clock = true;
        self
    }

    /// Sets a timeout for each attempt. An attempt that times out is dropped, and retried as
    /// [`Verdict::RetryTimeout`](crate::Verdict::RetryTimeout) without asking the classifier. Only for operations that
    /// are safe to abort and repeat.
    ///
    /// Blocking calls ignore it, since nothing can interrupt them.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.settings.attempt_timeout = Nanos::new(timeout);
        self
    }

    /// Sets how many attempts the journal keeps, counted from the last; the default and the minimum is 1. If it is
    /// more, a call allocates at its first retry.
    pub fn journal_limit(mut self, attempts: u16) -> Self {
        self.settings.journal_limit = attempts;
        self
    }

    /// Records in the journal when each attempt ran. Without it the clock is only read for a deadline, a budget or an
    /// observer.
    pub fn timed(mut self) -> Self {
        self.settings.timed = true;
        self.settings.reads_clock = true;
        self
    }
}

//! Running operations: the function [`retry`], [`Retry::run`] and [`Retry::report`].

use core::convert::identity;

#[cfg(feature = "tokio")]
use crate::policy::RetryPolicy;
use crate::{
    attempt::Attempt, classify::Classify, error::RetryError, executor::Call, observe::Observe, report::Report,
    retry::Retry, runtime::Runtime,
};

/// Runs `operation` until it succeeds or `policy` allows no further attempt. Every error is retried.
///
/// Dropping the future cancels the call, even during a wait. The call contains the policy. Calls of a [`Retry`] borrow it,
/// so they take less memory and time, and have more settings.
///
/// # Errors
///
/// Returns the last error if the policy allows no further attempt.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use retry_core::{RetryPolicy, retry};
///
/// let policy = RetryPolicy::builder().count(3).interval(Duration::from_millis(1)).build().unwrap();
/// let mut attempts = 0;
/// let greeting = retry(policy, || {
///     attempts += 1;
///     let outcome = if attempts < 3 { Err("busy") } else { Ok("Hello World!!!") };
///     async move { outcome }
/// });
/// assert_eq!(greeting.await.unwrap(), "Hello World!!!");
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
    Call::new(Retry::new(policy), move |_| operation(), Report::into_result)
}

impl<R: Runtime, C, O> Retry<R, C, O> {
    /// Runs `operation` until its outcome is accepted or no further attempt is allowed.
    ///
    /// Nothing happens before the returned future is polled. Dropping it cancels the call. Polled again after it has
    /// completed, it stays pending.
    ///
    /// # Errors
    ///
    /// Returns the error of the last attempt if no further attempt is allowed or the classifier stopped the call. The
    /// error has no [source](core::error::Error::source) if the last attempt timed out.
    pub fn run<T, E, Fut>(
        &self,
        operation: impl FnMut(Attempt) -> Fut,
    ) -> impl Future<Output = Result<T, RetryError<E>>>
    where
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
        O: Observe<T, E>,
    {
        Call::new(self, operation, Report::into_result)
    }

    /// Runs `operation` like [`run`](Self::run), and returns the journal and the reason for the end in either case.
    pub fn report<T, E, Fut>(&self, operation: impl FnMut(Attempt) -> Fut) -> impl Future<Output = Report<T, E>>
    where
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E>,
        O: Observe<T, E>,
    {
        Call::new(self, operation, identity)
    }
}

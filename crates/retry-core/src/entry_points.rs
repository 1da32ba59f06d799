//! Running async operations: the function [`retry`], and [`Retry::run`].

use crate::{
    attempt::Attempt, call::Call, call_state::CallState, classify::Classify, observe::Observe, retry::Retry,
    runtime::Runtime,
};
#[cfg(feature = "tokio")]
use crate::{classify::RetryAnyError, observe::NoObserver, policy::RetryPolicy, tokio_runtime::TokioRuntime};

/// Runs `operation` until it succeeds or `policy` allows no further attempt.
///
/// Every error is retried, unless [`retry_if`](Call::retry_if) or [`classify`](Call::classify) says otherwise. For a
/// budget, timeouts of attempts, or an operation that is passed the number of the attempt, use [`Retry::run`].
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use retry_core::{RetryPolicy, retry};
///
/// let policy = RetryPolicy::builder().count(3).interval(Duration::from_millis(1)).build()?;
/// let mut attempts = 0;
/// let greeting = retry(policy, || {
///     attempts += 1;
///     let outcome = if attempts < 3 { Err("busy") } else { Ok("Hello World!!!") };
///     async move { outcome }
/// });
/// assert_eq!(greeting.await?, "Hello World!!!");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
///
/// An operation that borrows something mutably, such as `|| db.query()`, needs
/// [`Retry::run_with`](crate::Retry::run_with); one that is not async,
/// [`Retry::run_blocking`](crate::Retry::run_blocking).
#[cfg(feature = "tokio")]
#[inline]
pub fn retry<T, E, Fut>(
    policy: RetryPolicy,
    mut operation: impl FnMut() -> Fut,
) -> Call<impl FnMut(Attempt) -> Fut, Fut, RetryAnyError, NoObserver, TokioRuntime>
where
    Fut: Future<Output = Result<T, E>>,
{
    Call::new(CallState::new(Retry::new(policy).settings, None), move |_| operation())
}

impl<R: Runtime, C, O> Retry<R, C, O> {
    /// Runs `operation` until its outcome is accepted or no further attempt is allowed.
    ///
    /// The [`Call`] has a copy of the settings, and methods to change them for this call.
    #[inline]
    pub fn run<F, Fut, T, E>(&self, operation: F) -> Call<F, Fut, C, O, R>
    where
        F: FnMut(Attempt) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        C: Classify<T, E> + Clone,
        O: Observe<T, E> + Clone,
    {
        Call::new(CallState::new(self.settings.clone(), self.budget.clone()), operation)
    }
}

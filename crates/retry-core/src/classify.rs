//! [`Classify`]: what the outcome of an attempt means.

use alloc::boxed::Box;
use core::pin::Pin;

use crate::verdict::Verdict;

/// Decides what an outcome means, and disposes of failed ones.
///
/// Implemented by any `Fn(&Result<T, E>) -> Verdict`, which [`Retry::classify`](crate::Retry::classify) takes. Implement
/// it for a type to classify outcomes of several types, or to [`discard`](Self::discard) them;
/// [`Retry::classify_with`](crate::Retry::classify_with) takes that.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not classify a `Result<{T}, {E}>`",
    note = "a classifier is a `Fn(&Result<{T}, {E}>) -> Verdict`: it takes the `Result` that the operation returns"
)]
pub trait Classify<T, E> {
    /// Returns the verdict on the outcome of one attempt.
    fn classify(&self, outcome: &Result<T, E>) -> Verdict;

    /// Disposes of a failed outcome, while the wait for the next attempt runs. By default, drops it; an HTTP client reads
    /// a failed response to its end, to reuse the connection. The next attempt starts only after the wait and the
    /// returned future are over. Blocking calls do not call this method, but drop the outcome.
    fn discard(&self, outcome: Result<T, E>) -> Option<Discard> {
        drop(outcome);
        None
    }
}

/// A future that disposes of a failed outcome, see [`Classify::discard`].
pub type Discard = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<T, E, F: Fn(&Result<T, E>) -> Verdict> Classify<T, E> for F {
    #[inline]
    fn classify(&self, outcome: &Result<T, E>) -> Verdict {
        self(outcome)
    }
}

/// Retries every error and accepts every success. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetryAnyError;

impl<T, E> Classify<T, E> for RetryAnyError {
    #[inline]
    fn classify(&self, outcome: &Result<T, E>) -> Verdict {
        if outcome.is_ok() { Verdict::Accept } else { Verdict::Retry }
    }
}

/// Retries the errors for which a predicate returns true. Created by [`Retry::retry_if`](crate::Retry::retry_if).
#[derive(Clone, Copy, Debug)]
pub struct RetryIf<P>(pub(crate) P);

impl<T, E, P: Fn(&E) -> bool> Classify<T, E> for RetryIf<P> {
    #[inline]
    fn classify(&self, outcome: &Result<T, E>) -> Verdict {
        match outcome {
            Ok(_) => Verdict::Accept,
            Err(error) if (self.0)(error) => Verdict::Retry,
            Err(_) => Verdict::Stop,
        }
    }
}

//! [`Classify`]: what the outcome of an attempt means.

use core::future::{Ready, ready};

use crate::verdict::Verdict;

/// Decides what an outcome means and disposes of failed ones. Implemented by any `Fn(&Result<T, E>) -> Verdict`.
pub trait Classify<T, E> {
    /// The future returned by [`discard`](Self::discard).
    type Discard: Future<Output = ()>;

    /// Returns the verdict on the outcome of one attempt.
    fn classify(&self, outcome: &Result<T, E>) -> Verdict;

    /// Disposes of a failed outcome, while the wait for the next attempt runs. A closure drops it; an HTTP client
    /// reads a failed response to its end, to reuse the connection. The next attempt starts only after the wait and
    /// this future are over.
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

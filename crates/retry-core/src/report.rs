//! [`Report`]: the result of a call, with its journal.

use crate::{error::RetryError, journal::Journal, reason::Reason};

/// The result of a call, why it ended, and its attempts.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report<T, E> {
    /// The outcome of the last attempt; `None` if it timed out.
    pub outcome: Option<Result<T, E>>,
    /// Why the call ended.
    pub reason: Reason,
    /// The recorded attempts: by default only the last.
    pub journal: Journal,
}

impl<T, E> Report<T, E> {
    /// Returns the success, or an error that holds the reason and the journal.
    ///
    /// # Errors
    ///
    /// Returns an error if the last attempt failed or timed out.
    #[inline]
    pub fn into_result(self) -> Result<T, RetryError<E>> {
        let Self { outcome, reason, journal } = self;
        match outcome {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(RetryError::new(Some(error), reason, journal)),
            None => Err(RetryError::new(None, reason, journal)),
        }
    }
}

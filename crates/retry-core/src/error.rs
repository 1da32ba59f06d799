//! The error of a call that gave up.

use alloc::boxed::Box;
use core::{error::Error, fmt};

use crate::{Journal, Reason};

/// A call gave up: the last attempt's error, the reason, and the journal of attempts.
///
/// Its message tells the number of attempts and the reason; the last error is its
/// [`source`](Error::source).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::{error::Error as _, io, time::Duration};
/// use retry_core::{Reason, RetryPolicy, retry};
///
/// let policy = RetryPolicy::builder().count(2).interval(Duration::from_millis(1)).build().unwrap();
/// let refused = || async { Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused)) };
/// let gave_up = retry(policy, refused).await.unwrap_err();
///
/// assert_eq!(gave_up.to_string(), "gave up after 3 attempts: no retries left");
/// assert_eq!(gave_up.source().unwrap().to_string(), "connection refused");
/// assert_eq!(gave_up.reason(), Reason::Exhausted);
/// assert_eq!(gave_up.journal().iter().count(), 3);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct RetryError<E> {
    last: Option<E>,
    /// On the heap, so that every `Result` that may hold it is small.
    end: Box<End>,
}

#[derive(Clone, Debug)]
struct End {
    reason: Reason,
    journal: Journal,
}

impl<E> RetryError<E> {
    #[cold]
    pub(crate) fn new(last: Option<E>, reason: Reason, journal: Journal) -> Self {
        Self { last, end: Box::new(End { reason, journal }) }
    }

    /// Why the call gave up; never [`Reason::Accepted`].
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.end.reason
    }

    /// The last attempt's error; none where that attempt was cut by a limit.
    #[must_use]
    pub const fn last(&self) -> Option<&E> {
        self.last.as_ref()
    }

    /// The last attempt's error, by value.
    #[must_use]
    pub fn into_last(self) -> Option<E> {
        self.last
    }

    /// How many attempts were made.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.journal().attempts()
    }

    /// The attempts.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.end.journal
    }
}

impl<E> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.attempts() == 1 { "" } else { "s" };
        write!(f, "gave up after {} attempt{plural}: {}", self.attempts(), self.reason())
    }
}

impl<E: Error + 'static> Error for RetryError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last.as_ref().map(|last| last as _)
    }
}

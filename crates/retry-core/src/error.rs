//! [`RetryError`]: the error of a call that gave up.

use alloc::boxed::Box;
use core::{error::Error, fmt};

use crate::{journal::Journal, reason::Reason};

/// The error of a call that gave up: the last attempt's error, the reason, and the journal.
///
/// The message contains the number of attempts and the reason; the last error is the [`source`](Error::source).
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
/// assert_eq!(gave_up.attempts(), 3);
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct RetryError<E> {
    last: Option<E>,
    /// Boxed to keep the `Result` of every call small.
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

    /// Returns why the call gave up; never [`Reason::Accepted`].
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.end.reason
    }

    /// Returns the last attempt's error; `None` if that attempt timed out.
    #[must_use]
    pub const fn last(&self) -> Option<&E> {
        self.last.as_ref()
    }

    /// Returns the last attempt's error by value; `None` if that attempt timed out.
    #[must_use]
    pub fn into_last(self) -> Option<E> {
        self.last
    }

    /// Returns the number of attempts.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.journal().attempts()
    }

    /// Returns the recorded attempts: by default only the last.
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

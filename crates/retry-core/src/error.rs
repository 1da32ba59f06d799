//! [`RetryError`]: the error of a call that gave up.

use alloc::boxed::Box;
use core::{
    error::Error,
    fmt::{self, Debug, Display},
    ops::Deref,
};

use crate::{journal::Journal, reason::Reason};

/// The error of a call that gave up: the last attempt's error, the reason, and the journal.
///
/// An error for any `E` that can be printed, be it a `String`, an `anyhow::Error` or a type that implements [`Error`]. So
/// `?` converts it into `anyhow::Error`, `Box<dyn Error + Send + Sync>`, or an enum with `#[from] RetryError<E>`.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::{io, time::Duration};
/// use retry_core::{Reason, RetryPolicy, retry};
///
/// let policy = RetryPolicy::builder().count(2).interval(Duration::from_millis(1)).build().unwrap();
/// let refused = || async { Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionRefused)) };
/// let gave_up = retry(policy, refused).await.unwrap_err();
///
/// assert_eq!(gave_up.to_string(), "gave up after 3 attempts, no retries left: connection refused");
/// assert_eq!((gave_up.reason(), gave_up.attempts()), (Reason::Exhausted, 3));
/// let last: Option<io::Error> = gave_up.into_last();
/// # });
/// ```
///
/// # Causes
///
/// The message contains the last error, so that error is not the [`source`](Error::source) as well; otherwise reports of
/// whole chains would print it twice. And since `E` need not be an `Error`, the source is always `None`. If `E` is an
/// `Error` with causes of its own, keep them with [`with_causes`](Self::with_causes). The causes of an `anyhow::Error` are
/// in the message.
#[derive(Clone)]
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

    /// Returns the last attempt's error by value; `None` if that attempt timed out, which takes a deadline or an
    /// [`attempt_timeout`](crate::Retry::attempt_timeout).
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// # use std::io;
    /// # use retry_core::{RetryPolicy, retry};
    /// # async fn connect() -> io::Result<()> { Ok(()) }
    /// let connected: io::Result<()> = retry(RetryPolicy::default(), || connect())
    ///     .await
    ///     .map_err(|gave_up| gave_up.into_last().unwrap_or_else(|| io::ErrorKind::TimedOut.into()));
    /// # });
    /// ```
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

    /// Writes what happened, up to the last error.
    fn fmt_end(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.attempts() == 1 { "" } else { "s" };
        write!(f, "gave up after {} attempt{plural}, {}: ", self.attempts(), self.reason())?;
        if self.last.is_none() { f.write_str("the attempt timed out") } else { Ok(()) }
    }
}

/// Short, as a program that returns the error from `main` prints it: without the journal.
impl<E: Debug> Debug for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryError")
            .field("last", &self.last)
            .field("attempts", &self.attempts())
            .field("reason", &self.reason())
            .finish_non_exhaustive()
    }
}

/// Prints the last error in its alternate form, `{:#}`, in which an `anyhow::Error` has its causes.
impl<E: Display> Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_end(f)?;
        self.last.as_ref().map_or(Ok(()), |last| write!(f, "{last:#}"))
    }
}

impl<E: Debug + Display> Error for RetryError<E> {}

impl<E: Into<BoxError>> RetryError<E> {
    /// Returns an error with the same message, whose [`source`](Error::source) is that of the last error: a report of
    /// the whole chain has each text once. For any `E` that a `Box<dyn Error + Send + Sync>` can be made of.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::{error::Error as _, io};
    /// use retry_core::{RetryError, RetryPolicy, retry};
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// #[error("cannot read the greeting")]
    /// struct ReadError(#[source] io::Error);
    ///
    /// let operation = || async { Err::<(), _>(ReadError(io::ErrorKind::ConnectionRefused.into())) };
    /// let policy = RetryPolicy::builder().count(0).build().unwrap();
    /// let error = retry(policy, operation).await.map_err(RetryError::with_causes).unwrap_err();
    ///
    /// assert_eq!(error.to_string(), "gave up after 1 attempt, no retries left: cannot read the greeting");
    /// assert_eq!(error.source().unwrap().to_string(), "connection refused");
    /// assert!(error.last().is_some_and(|last| last.is::<ReadError>()));
    /// # });
    /// ```
    #[must_use]
    pub fn with_causes(self) -> RetryErrorWithCauses {
        RetryErrorWithCauses(RetryError { last: self.last.map(Into::into), end: self.end })
    }
}

/// What any error can be converted into.
type BoxError = Box<dyn Error + Send + Sync>;

/// A [`RetryError`] whose [`source`](Error::source) is that of the last error. Created by [`RetryError::with_causes`],
/// and has the methods of `RetryError`.
#[derive(Debug)]
pub struct RetryErrorWithCauses(RetryError<BoxError>);

impl Deref for RetryErrorWithCauses {
    type Target = RetryError<BoxError>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Display for RetryErrorWithCauses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_end(f)?;
        self.last().map_or(Ok(()), |last| write!(f, "{last}"))
    }
}

impl Error for RetryErrorWithCauses {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.last()?.source()
    }
}

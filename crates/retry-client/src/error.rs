//! What can go wrong, as callers see it.

use std::{error::Error as StdError, fmt, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use retry_core::{Journal, Reason};

use crate::{
    error_chain::{BoxError, root},
    retry::history::History,
};

/// Why a request has no answer.
///
/// Its message is one line and tells the cause; it has no credentials in it. [`kind`](Self::kind) tells
/// the cases apart, [`journal`](Self::journal) the attempts.
///
/// ```
/// use retry_client::{Client, ErrorKind};
///
/// let error = Client::builder("localhost:8080").build().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::BadInput);
/// assert_eq!(error.to_string(), "base URL 'localhost:8080': expected a URL that starts with http:// or https://");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
    ending: Option<(Reason, Journal)>,
    history: Option<History>,
    response: Option<Response<Bytes>>,
}

/// The cases that callers treat differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request or a setting makes no sense and nothing was sent; or the request's body failed while it
    /// was read, and that is the error's source.
    BadInput,
    /// No connection: refused, unreachable, an unknown name, a certificate that is not accepted, or not in
    /// time.
    Connect,
    /// Connected, and then nothing moved for the `timeout`, or a limit on time ran out.
    Timeout,
    /// The connection broke before the whole answer had come.
    ConnectionClosed,
    /// What came was no HTTP, or not what was asked for.
    BadResponse,
    /// [`get_text`](crate::Client::get_text) was answered with a status other than 2xx.
    Status,
}

impl Error {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self(Box::new(Inner { kind, message, source: None, ending: None, history: None, response: None }))
    }

    pub(crate) fn bad_input(message: String) -> Self {
        Self::new(ErrorKind::BadInput, message)
    }

    pub(crate) fn body_failed(source: BoxError) -> Self {
        let message = format!("the request body failed: {}", root(&*source));
        Self::new(ErrorKind::BadInput, message).because(source)
    }

    pub(crate) fn connect(place: &str, why: &str, source: BoxError) -> Self {
        let message = format!("cannot connect to {place}: {why}");
        Self::new(ErrorKind::Connect, message).because(source)
    }

    pub(crate) fn idle(limit: Duration) -> Self {
        Self::new(ErrorKind::Timeout, format!("idle timeout: nothing was read or written for {limit:?}"))
    }

    pub(crate) fn attempt_timeout(limit: Duration) -> Self {
        Self::new(ErrorKind::Timeout, format!("attempt timeout: no response within {limit:?}"))
    }

    pub(crate) fn deadline() -> Self {
        Self::new(ErrorKind::Timeout, "the deadline passed during the attempt".to_owned())
    }

    pub(crate) fn broken(source: BoxError) -> Self {
        let message = format!("connection error: {}", root(&*source));
        Self::new(ErrorKind::ConnectionClosed, message).because(source)
    }

    pub(crate) fn bad_response(source: BoxError) -> Self {
        let message = format!("invalid HTTP response: {}", root(&*source));
        Self::new(ErrorKind::BadResponse, message).because(source)
    }

    /// What came is no HTTP, as from a server that speaks TLS.
    pub(crate) fn other_protocol(source: BoxError) -> Self {
        let message = "invalid HTTP response: the server does not speak HTTP; the URL of a server that speaks TLS starts with https://";
        Self::new(ErrorKind::BadResponse, message.to_owned()).because(source)
    }

    /// The head of a response makes no sense.
    pub(crate) fn bad_head(source: BoxError) -> Self {
        let message = format!("invalid response head: {}", root(&*source));
        Self::new(ErrorKind::BadResponse, message).because(source)
    }

    pub(crate) fn cannot_resume(offset: u64, why: &str) -> Self {
        Self::new(ErrorKind::BadResponse, format!("cannot resume the body at byte {offset}: {why}"))
    }

    /// The body of a part ended in order, before all that was announced had come.
    pub(crate) fn cut_short(offset: u64) -> Self {
        Self::new(
            ErrorKind::ConnectionClosed,
            format!("incomplete body: it ended at byte {offset}, before its announced length"),
        )
    }

    pub(crate) fn status(response: Response<Bytes>) -> Self {
        let mut error = Self::new(ErrorKind::Status, format!("status {}", response.status()));
        error.0.response = Some(response);
        error
    }

    fn because(mut self, source: BoxError) -> Self {
        self.0.source = Some(source);
        self
    }

    pub(crate) fn ended(mut self, reason: Reason, journal: Journal, history: Option<History>) -> Self {
        self.0.ending = Some((reason, journal));
        self.0.history = history;
        self
    }

    /// Which case this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The status that [`get_text`](crate::Client::get_text) was answered with.
    #[must_use]
    pub fn status_code(&self) -> Option<StatusCode> {
        self.0.response.as_ref().map(Response::status)
    }

    /// The answer whose status was not 2xx; the error itself where there was none.
    ///
    /// # Errors
    ///
    /// The error unchanged, when its kind is not [`ErrorKind::Status`].
    pub fn into_response(mut self) -> Result<Response<Bytes>, Self> {
        self.0.response.take().ok_or(self)
    }

    /// Why there was no further attempt; none where there was no attempt at all, and while a body is read.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.0.ending.as_ref().map(|(reason, _)| *reason)
    }

    /// The attempts; none where [`reason`](Self::reason) is none.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        self.0.ending.as_ref().map(|(_, journal)| journal)
    }

    /// The attempts and what came of each, where there was more than one.
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        self.0.history.as_ref()
    }

    /// What lies at the root, in one line: `Connection refused (os error 111)`.
    #[must_use]
    pub fn cause(&self) -> String {
        root(self).to_string()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { kind, message, source, ending, history: _, response: _ } = &*self.0;
        f.debug_struct("Error")
            .field("kind", kind)
            .field("message", message)
            .field("source", source)
            .field("ending", ending)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// A URL whose user name and password print as `***`, for messages about URLs that may not even parse.
pub(crate) struct Redacted<'a>(pub(crate) &'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All that stands before the last @ may be a secret, but for a scheme.
        let Some((secret, rest)) = self.0.rsplit_once('@') else { return f.write_str(self.0) };
        let scheme = secret.split_once("://").map_or("", |(scheme, _)| scheme);
        let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        write!(f, "{}***@{rest}", if is_scheme { format!("{scheme}://") } else { String::new() })
    }
}

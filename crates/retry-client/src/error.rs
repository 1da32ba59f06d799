//! The error of a request that got no response.

use std::{error::Error as StdError, fmt, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use retry_core::{Journal, Reason};

use crate::{
    error_chain::{BoxError, root},
    history::History,
};

/// The error of a request that got no response, or of a response body that could not be read.
///
/// Its message is one line that names the cause and contains no credentials. [`kind`](Self::kind) distinguishes the
/// cases, and [`journal`](Self::journal) lists the attempts.
///
/// ```
/// use retry_client::{Client, ErrorKind};
///
/// let error = Client::builder("localhost:8080").build().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::BadInput);
/// let expected = "expected a URL that starts with http:// or https://, such as http://localhost:8080";
/// assert_eq!(error.to_string(), format!("base URL 'localhost:8080': {expected}"));
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

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request or a setting is invalid, and nothing was sent; or reading the request's body failed, and that error
    /// is the source.
    BadInput,
    /// No connection could be made: the server refused it, was unreachable or unknown, a certificate was rejected, or
    /// the connect timeout elapsed.
    Connect,
    /// No endpoint could be reached within [`outage_wait`](crate::ClientBuilder::outage_wait). The last
    /// attempt was not sent. If there were earlier ones, the request may be repeated.
    Outage,
    /// The idle timeout (`timeout`), the attempt timeout or the deadline elapsed.
    Timeout,
    /// The connection was closed or reset before the response was complete.
    ConnectionClosed,
    /// The response was not valid HTTP, or not the response that was asked for: the rest of a body, text or JSON.
    BadResponse,
    /// The response has a status other than 2xx, and its body was asked for, as by
    /// [`RequestBuilder::text`](crate::RequestBuilder::text).
    Status,
    /// The body of the response is longer than [`response_limit`](crate::ClientBuilder::response_limit).
    TooLarge,
}

impl Error {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self(Box::new(Inner { kind, message, source: None, ending: None, history: None, response: None }))
    }

    /// Creates an error whose message ends with the root of its source.
    fn caused(kind: ErrorKind, what: &str, source: BoxError) -> Self {
        Self::new(kind, format!("{what}: {}", root(&*source))).with_source(source)
    }

    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadInput, message.into())
    }

    pub(crate) fn request_body(source: BoxError) -> Self {
        Self::caused(ErrorKind::BadInput, "the request body failed", source)
    }

    pub(crate) fn connect(server: &str, why: &str, source: BoxError) -> Self {
        Self::new(ErrorKind::Connect, format!("cannot connect to {server}: {why}")).with_source(source)
    }

    pub(crate) fn stalled(timeout: Duration) -> Self {
        Self::new(ErrorKind::Timeout, format!("idle timeout: nothing was read or written for {timeout:?}"))
    }

    pub(crate) fn attempt_timeout(timeout: Duration) -> Self {
        Self::new(ErrorKind::Timeout, format!("attempt timeout: no response within {timeout:?}"))
    }

    pub(crate) fn outage(why: Option<&str>) -> Self {
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        Self::new(ErrorKind::Outage, format!("no endpoint is up{why}"))
    }

    pub(crate) fn deadline() -> Self {
        Self::new(ErrorKind::Timeout, "the deadline passed during the attempt".to_owned())
    }

    pub(crate) fn connection(source: BoxError) -> Self {
        // hyper's error for a body that is shorter than announced.
        if root(&*source).to_string() == "end of file before message length reached" {
            let message = "connection error: the response ended early".to_owned();
            return Self::new(ErrorKind::ConnectionClosed, message).with_source(source);
        }
        Self::caused(ErrorKind::ConnectionClosed, "connection error", source)
    }

    pub(crate) fn bad_response(source: BoxError) -> Self {
        Self::caused(ErrorKind::BadResponse, "invalid HTTP response", source)
    }

    /// The response is not HTTP, for example from a server that speaks TLS.
    pub(crate) fn not_http(source: BoxError) -> Self {
        let message = "invalid HTTP response: the server does not speak HTTP: the URL of a server that speaks TLS starts \
                       with https://";
        Self::new(ErrorKind::BadResponse, message.to_owned()).with_source(source)
    }

    /// The body of a response is not what was asked for.
    pub(crate) fn bad_body(what: &str, source: BoxError) -> Self {
        Self::caused(ErrorKind::BadResponse, &format!("the body of the response is not {what}"), source)
    }

    pub(crate) fn too_large(limit: usize) -> Self {
        Self::new(ErrorKind::TooLarge, format!("the body of the response is longer than {limit} bytes"))
    }

    pub(crate) fn bad_head(source: BoxError) -> Self {
        Self::caused(ErrorKind::BadResponse, "invalid response head", source)
    }

    pub(crate) fn cannot_resume(offset: u64, why: &str) -> Self {
        Self::new(ErrorKind::BadResponse, format!("cannot resume the body at byte {offset}: {why}"))
    }

    pub(crate) fn incomplete_body(offset: u64) -> Self {
        let message = format!("incomplete body: it ended at byte {offset}, before its announced length");
        Self::new(ErrorKind::ConnectionClosed, message)
    }

    pub(crate) fn status(response: Response<Bytes>) -> Self {
        let mut error = Self::new(ErrorKind::Status, format!("status {}", response.status()));
        error.0.response = Some(response);
        error
    }

    fn with_source(mut self, source: BoxError) -> Self {
        self.0.source = Some(source);
        self
    }

    /// Adds why the call ended, and its attempts.
    pub(crate) fn with_attempts(mut self, reason: Reason, journal: Journal, history: Option<History>) -> Self {
        self.0.ending = Some((reason, journal));
        self.0.history = history;
        self
    }

    /// Returns the kind of error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the status of the response, if the kind is [`ErrorKind::Status`].
    #[must_use]
    pub fn status_code(&self) -> Option<StatusCode> {
        self.0.response.as_ref().map(Response::status)
    }

    /// Returns the response whose status was not 2xx.
    ///
    /// # Errors
    ///
    /// Returns the error unchanged if its kind is not [`ErrorKind::Status`].
    pub fn into_response(mut self) -> Result<Response<Bytes>, Self> {
        self.0.response.take().ok_or(self)
    }

    /// Returns why there was no further attempt. `None` if there was no attempt, and for errors of response bodies.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.0.ending.as_ref().map(|(reason, _)| *reason)
    }

    /// Returns the attempts, at most the last 16. `None` if [`reason`](Self::reason) is `None`.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        self.0.ending.as_ref().map(|(_, journal)| journal)
    }

    /// Returns the attempts with their outcomes. `None` if there were fewer than two.
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        self.0.history.as_ref()
    }

    /// Returns the message of the innermost source, such as `Connection refused (os error 111)`.
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
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .field("ending", &self.0.ending)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

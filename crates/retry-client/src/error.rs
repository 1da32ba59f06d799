//! The error of a request that got no response.

use std::{error::Error as StdError, fmt, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};

use crate::{
    end_reason::EndReason,
    error_chain::{BoxError, find, root},
    error_kind::ErrorKind,
    history::{History, Outcome},
};

/// The error of a request that got no response, or of a response body that could not be read.
///
/// It displays as one line: the request without its query and credentials, what happened and the root cause, why there was
/// no further attempt, and how many there were if there was more than one:
///
/// ```text
/// GET http://shop:8080/orders: connection error: connection closed before message completed; no retries left (4 attempts)
/// POST http://shop:8080/orders: attempt timeout: no response within 2s; not repeated, as it may have been processed: add an
/// Idempotency-Key, or allow it by CallOptions::repeatable
/// ```
///
/// Because the line has the cause, the error has no [`source`](std::error::Error::source): a log prints each text once,
/// whether it prints the error alone or a chain of errors, as `{:#}` of `anyhow` does. Programs use [`kind`](Self::kind),
/// [`root_cause`](Self::root_cause), which can be downcast, and [`history`](Self::history), which has the attempts.
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
    request: Option<FailedRequest>,
    history: Option<History>,
    response: Option<Response<Bytes>>,
}

/// The request of a call that failed.
pub(crate) struct FailedRequest {
    /// Its method and URL, as in log lines.
    pub(crate) line: String,
    /// Whether the caller can allow to repeat it.
    pub(crate) can_be_allowed: bool,
}

impl Error {
    fn new(kind: ErrorKind, message: String) -> Self {
        Self(Box::new(Inner { kind, message, source: None, request: None, history: None, response: None }))
    }

    /// Creates an error whose message ends with that of the root cause.
    fn caused(kind: ErrorKind, what: &str, source: BoxError) -> Self {
        Self::new(kind, format!("{what}: {}", root(&*source))).with_source(source)
    }

    pub(crate) fn bad_input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadInput, message.into())
    }

    pub(crate) fn request_body(source: BoxError) -> Self {
        Self::caused(ErrorKind::RequestBody, "the request body failed", source)
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

    /// Adds the request of the call.
    pub(crate) fn of_request(mut self, request: FailedRequest) -> Self {
        self.0.request = Some(request);
        self
    }

    /// Adds the attempts of the call.
    pub(crate) fn with_history(mut self, history: impl Into<Option<History>>) -> Self {
        self.0.history = history.into();
        self
    }

    /// Returns the outcome of an attempt that failed.
    pub(crate) fn to_outcome(&self) -> Outcome {
        Outcome::Failed { kind: self.kind(), message: self.message().to_owned() }
    }

    /// Returns the first error of type `E` among the causes.
    pub(crate) fn find_cause<E: StdError + 'static>(&self) -> Option<&E> {
        find(self.0.source.as_deref()?)
    }

    /// Returns the kind of error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns what happened and the root cause: the displayed line without the request and the attempts.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the status of the response, if the kind is [`ErrorKind::Status`].
    #[must_use]
    pub fn status_code(&self) -> Option<StatusCode> {
        self.0.response.as_ref().map(Response::status)
    }

    /// Returns the response whose status was not 2xx. Of a body longer than
    /// [`response_limit`](crate::ClientBuilder::response_limit), it has the beginning.
    ///
    /// # Errors
    ///
    /// Returns the error unchanged if its kind is not [`ErrorKind::Status`].
    pub fn into_response(mut self) -> Result<Response<Bytes>, Self> {
        self.0.response.take().ok_or(self)
    }

    /// Returns the attempts, with their outcomes. `None` if there was no attempt, and for the error of a body that is read
    /// after its response was returned: the response has the history.
    #[must_use]
    pub fn history(&self) -> Option<&History> {
        let Inner { history, response, .. } = &*self.0;
        history.as_ref().or_else(|| response.as_ref()?.extensions().get())
    }

    /// Returns why there was no further attempt. `None` if there is no [`history`](Self::history).
    #[must_use]
    pub fn reason(&self) -> Option<EndReason> {
        self.history().map(History::reason)
    }

    /// Returns the innermost cause, which says what happened. Without one, returns this error.
    ///
    /// ```no_run
    /// # async fn run(client: retry_client::Client) {
    /// use std::io;
    ///
    /// if let Err(error) = client.get("/hello").await {
    ///     let cause = error.root_cause();
    ///     // cannot connect to localhost:8080: Connection refused (os error 111)
    ///     println!("{}", error.message());
    ///     // Connection refused (os error 111)
    ///     println!("{cause}");
    ///     let is_refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    ///     println!("refused: {}", cause.downcast_ref().is_some_and(is_refused));
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn root_cause(&self) -> &(dyn StdError + 'static) {
        match &self.0.source {
            Some(source) => root(&**source),
            None => self,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { message, request, .. } = &*self.0;
        if let Some(FailedRequest { line, .. }) = request {
            write!(f, "{line}: ")?;
        }
        f.write_str(message)?;
        let Some(history) = self.history() else { return Ok(()) };
        match history.reason_to_display() {
            Some(EndReason::NotSafeToRepeat) if request.as_ref().is_some_and(|request| request.can_be_allowed) => {
                f.write_str(
                    "; not repeated, as it may have been processed: add an Idempotency-Key, or allow it by \
                     CallOptions::repeatable",
                )?;
            }
            Some(reason @ EndReason::BodyNotReplayable) => {
                write!(f, "; {reason}, as it exceeds replay_limit or replay_memory")?;
            }
            Some(reason) => write!(f, "; {reason}")?,
            None => {}
        }
        match history.attempts() {
            1 => Ok(()),
            attempts => write!(f, " ({attempts} attempts)"),
        }
    }
}

/// Short, as a program that returns the error from `main` prints it. Without the source, whose text may have credentials.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let history = self.history().map(ToString::to_string).unwrap_or_default();
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .field("history", &history)
            .finish_non_exhaustive()
    }
}

/// Its message has the cause, so it has no source.
impl StdError for Error {}

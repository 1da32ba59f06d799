//! What an error of the transport means for its request. No other file interprets the errors of hyper and h2.

use std::error::Error as StdError;

use hyper_util::client::legacy;

use crate::{
    connection::{head_limits::HeadError, proxy::TunnelRejected, tls},
    error::Error,
    error_chain::{BoxError, find, root},
    error_kind::ErrorKind,
    request::replay::SourceError,
};

/// An attempt without a response.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) kind: FailureKind,
}

/// What is known of a request that got no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// No byte of it was sent.
    NotSent,
    /// As [`NotSent`](Self::NotSent): the endpoint cannot be connected to.
    Unreachable,
    /// As [`NotSent`](Self::NotSent): no endpoint could be connected to for as long as the call may wait.
    Outage,
    /// The server said that it did not process it.
    Refused,
    /// It was sent, at least in part.
    MaybeProcessed,
    /// As [`MaybeProcessed`](Self::MaybeProcessed), and the server is gone.
    CutOff,
    /// As [`MaybeProcessed`](Self::MaybeProcessed), but the server did not respond in time.
    TimedOut,
    /// Another attempt would fail as well.
    Permanent,
}

impl Failure {
    /// Interprets an error of an exchange with `server`.
    pub(crate) fn exchange(error: BoxError, server: &str) -> Self {
        if let Some((true, why)) = tls::explain(&*error) {
            return Self { error: Error::connect(server, &why, error), kind: FailureKind::Permanent };
        }
        let (kind, into_error) = interpret(&*error);
        Self { error: into_error(error, server), kind }
    }

    /// Interprets an error from before the exchange with `server`.
    pub(crate) fn not_sent(error: BoxError, server: &str) -> Self {
        let failure = Self::exchange(error, server);
        let kind = if failure.kind == FailureKind::Permanent { failure.kind } else { FailureKind::NotSent };
        Self { kind, ..failure }
    }

    /// Interprets an error of connecting to `server`.
    pub(crate) fn connect(error: BoxError, server: &str) -> Self {
        let (permanent, why) = tls::explain(&*error).unwrap_or_else(|| {
            let rejected = find::<TunnelRejected>(&*error).is_some_and(TunnelRejected::is_permanent);
            (rejected, root(&*error).to_string())
        });
        let kind = if permanent { FailureKind::Permanent } else { FailureKind::NotSent };
        Self { error: Error::connect(server, &why, error), kind }
    }

    /// Whether the connection was closed, which may mean that the server is gone.
    pub(crate) fn is_connection_closed(&self) -> bool {
        let is_closed = self.error.kind() == ErrorKind::ConnectionClosed && self.kind != FailureKind::NotSent;
        // A stream that is reset ends alone.
        is_closed && !self.error.find_cause::<h2::Error>().is_some_and(h2::Error::is_reset)
    }
}

fn interpret(error: &(dyn StdError + 'static)) -> (FailureKind, fn(BoxError, &str) -> Error) {
    use FailureKind::{MaybeProcessed, NotSent, Permanent, Refused};
    // From hyper-util's pooled client beneath a layer.
    if let Some(pooled) = find::<legacy::Error>(error) {
        if pooled.is_connect() {
            return (NotSent, |error, server| Error::connect(server, &root(&*error).to_string(), error));
        }
        if pooled.to_string().starts_with(UNSUPPORTED) {
            return (Permanent, |error, _| Error::bad_input(root(&*error).to_string()));
        }
    }
    if find::<SourceError>(error).is_some() {
        return (Permanent, |error, _| Error::request_body(error));
    }
    if let Some(http1) = find::<hyper::Error>(error) {
        if http1.is_canceled() {
            // Only a request that was returned unsent has this error.
            return (NotSent, |error, _| Error::connection(error));
        }
        if http1.is_parse() {
            return match &*http1.to_string() {
                HEAD_TOO_LARGE => (Permanent, |_, _| Error::bad_head(HeadError::TooLarge.into())),
                what if what.starts_with(NOT_HTTP) => (MaybeProcessed, |error, _| Error::not_http(error)),
                _ => (Permanent, |error, _| Error::bad_response(error)),
            };
        }
        if http1.is_user() {
            return (Permanent, |error, _| Error::bad_input(root(&*error).to_string()));
        }
    }
    match find::<h2::Error>(error) {
        Some(http2) if is_malformed(http2) => (Permanent, |_, _| Error::bad_head(HeadError::Malformed.into())),
        Some(http2) if is_flood(http2) => (MaybeProcessed, |_, _| Error::bad_head(HeadError::Malformed.into())),
        Some(http2) if is_refused(http2) => (Refused, |error, _| Error::connection(error)),
        _ => (MaybeProcessed, |error, _| Error::connection(error)),
    }
}

/// The start of hyper-util's message for a request that it does not send, such as one without an absolute URL. Its error
/// has no predicate for that.
const UNSUPPORTED: &str = "client error (User";

/// hyper's message for a head that exceeds its limits. Its predicate for that is for servers only.
const HEAD_TOO_LARGE: &str = "message head is too large";

/// The start of hyper's message for bytes that are not HTTP. Another attempt may reach another program, for example while
/// a server starts; but a server that sends a malformed HTTP head is likely to send it again.
const NOT_HTTP: &str = "invalid HTTP version parsed";

/// Whether the client found the response malformed: RFC 9113, section 8.1.1. h2 reports a head that is too large the same
/// way.
fn is_malformed(error: &h2::Error) -> bool {
    error.is_library() && error.is_reset() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR)
}

/// Whether the client closed the connection because the server sent too much. h2 does so for heads far above the limit;
/// all streams of the connection end with it, so the head may have belonged to another request.
fn is_flood(error: &h2::Error) -> bool {
    error.is_library() && error.is_go_away() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
}

/// Whether the server said that it did not process the stream: RFC 9113, section 8.7. h2 reports a remote GOAWAY only to
/// streams above the last one that the server accepted.
fn is_refused(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

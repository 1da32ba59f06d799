//! What an error of the transport means. This is the one place that knows how hyper puts things.

use std::error::Error as StdError;

use hyper_util::client::legacy;

use crate::{
    connection::{proxy::NoTunnel, tls},
    error::Error,
    error_chain::BoxError,
    error_chain::{find, root},
    request::replay::SourceFailed,
    response::head_limits::BadHead,
};

/// An attempt without an answer: what went wrong, and what became of the request.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    pub(crate) fate: Fate,
}

/// What is known of a request that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It never left.
    NeverSent,
    /// The server said that it did not process it.
    Refused,
    /// It was sent, wholly or in part.
    MaybeProcessed,
    /// As [`MaybeProcessed`](Self::MaybeProcessed), and what was missing was an answer in time.
    TimedOut,
    /// It cannot succeed, however often it is sent.
    Hopeless,
}

impl Failure {
    /// Reads the chain of an error that a transport gave for a request to `place`.
    pub(crate) fn of(error: BoxError, place: &str) -> Self {
        if let Some(why) = tls::why_hopeless(&*error) {
            return Self { error: Error::connect(place, &why, error), fate: Fate::Hopeless };
        }
        let (fate, explain) = Self::read(&*error);
        Self { error: explain(error, place), fate }
    }

    /// Reads the chain of an error that making a connection to `place` gave.
    pub(crate) fn to_connect(error: BoxError, place: &str) -> Self {
        let why = tls::why_hopeless(&*error);
        let refused = find::<NoTunnel>(&*error).is_some_and(NoTunnel::is_hopeless);
        let fate = if refused || why.is_some() { Fate::Hopeless } else { Fate::NeverSent };
        let why = why.or_else(|| tls::explain(&*error).map(str::to_owned)).unwrap_or_else(|| root(&*error).to_string());
        Self { error: Error::connect(place, &why, error), fate }
    }

    fn read(error: &(dyn StdError + 'static)) -> (Fate, fn(BoxError, &str) -> Error) {
        // Of hyper-util's pooled client, beneath a layer.
        if find::<legacy::Error>(error).is_some_and(legacy::Error::is_connect) {
            return (Fate::NeverSent, |error, place| Error::connect(place, &root(&*error).to_string(), error));
        }
        if find::<SourceFailed>(error).is_some() {
            return (Fate::Hopeless, |error, _| Error::body_failed(error));
        }
        let transport = find::<hyper::Error>(error);
        let is = |predicate: fn(&hyper::Error) -> bool| transport.is_some_and(predicate);
        if is(hyper::Error::is_canceled) {
            // hyper hands a request back, unsent, with this error alone.
            return (Fate::NeverSent, |error, _| Error::broken(error));
        }
        if is(hyper::Error::is_parse) {
            return match transport.map(ToString::to_string).as_deref() {
                Some(TOO_LARGE) => (Fate::Hopeless, |_, _| Error::bad_head(BadHead::TooLarge.into())),
                Some(what) if what.starts_with(OTHER_PROTOCOL) => {
                    (Fate::MaybeProcessed, |error, _| Error::other_protocol(error))
                }
                _ => (Fate::Hopeless, |error, _| Error::bad_response(error)),
            };
        }
        if is(hyper::Error::is_user) {
            return (Fate::Hopeless, |error, _| Error::bad_input(root(&*error).to_string()));
        }
        let http2 = find::<h2::Error>(error);
        if http2.is_some_and(is_malformed) {
            return (Fate::Hopeless, |_, _| Error::bad_head(BadHead::Malformed.into()));
        }
        if http2.is_some_and(is_flood) {
            return (Fate::MaybeProcessed, |_, _| Error::bad_head(BadHead::Malformed.into()));
        }
        let refused = http2.is_some_and(is_refusal);
        (if refused { Fate::Refused } else { Fate::MaybeProcessed }, |error, _| Error::broken(error))
    }
}

/// What hyper says of a head beyond its limits. It has a predicate for that, for servers alone.
const TOO_LARGE: &str = "message head is too large";

/// What hyper says of bytes that are no HTTP at all. Who is at the other end then may be another by the next attempt, as
/// while a server starts. A head that is HTTP and malformed, in contrast, is what its program makes of each.
const OTHER_PROTOCOL: &str = "invalid HTTP version parsed";

/// Whether this end found the response malformed: RFC 9113, section 8.1.1. h2 takes a head that is too large for one.
fn is_malformed(error: &h2::Error) -> bool {
    error.is_library() && error.is_reset() && error.reason() == Some(h2::Reason::PROTOCOL_ERROR)
}

/// Whether this end closed the connection for too much that came over it. h2 takes a head for that which is far too
/// large; whose it was is not known, as all streams end with the connection.
fn is_flood(error: &h2::Error) -> bool {
    error.is_library() && error.is_go_away() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)
}

/// Whether the server said that it did not process the stream: RFC 9113, section 8.7. h2 gives a stream
/// a remote GOAWAY as its error only where its number is above the last that the server took.
fn is_refusal(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

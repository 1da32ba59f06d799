//! Answers of the service's own: why a request gets none of the upstream's.

use std::{error::Error as StdError, iter::successors};

use http::{HeaderValue, Method, Response, StatusCode, Uri, header::RETRY_AFTER};
use jiff::Timestamp;
use retry_client::{Error, ErrorKind, Journal};

use crate::{
    common::error_payload::ErrorPayload,
    exchange::{
        request_body::{Stalled, TooLarge},
        response_body::Outgoing,
    },
    telemetry::rejections::Refusal,
};

/// Why a caller does not get an answer of the upstream's.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    message: String,
    /// Whether the caller may soon try again.
    passes: bool,
    /// If it is a matter of the gateway's alone.
    refusal: Option<Refusal>,
    /// Of the attempts, where there were any.
    journal: Option<Box<Journal>>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), passes: false, refusal: None, journal: None }
    }

    pub(crate) fn too_large(limit: u64) -> Self {
        Self::too_large_body(format!("the body is larger than {limit} bytes"))
    }

    fn too_large_body(message: String) -> Self {
        Self { refusal: Some(Refusal::TooLarge), ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, message) }
    }

    /// More requests are under way than may be.
    pub(crate) fn too_busy() -> Self {
        let message = "too many requests are under way";
        let refusal = Some(Refusal::Busy);
        Self { passes: true, refusal, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message) }
    }

    pub(crate) fn looped() -> Self {
        let message = "this request has come through here before";
        Self { refusal: Some(Refusal::Loop), ..Self::new(StatusCode::LOOP_DETECTED, message) }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it is a matter of the gateway's alone, which has a line of the log to itself.
    pub(crate) fn is_refusal(&self) -> bool {
        self.refusal.is_some()
    }

    /// More tunnels are open than may be.
    pub(crate) fn too_many_tunnels() -> Self {
        let refusal = Some(Refusal::Tunnels);
        Self { passes: true, refusal, ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "too many tunnels are open") }
    }

    pub(crate) fn unasked_switch() -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "the upstream switched protocols unasked")
    }

    /// What a failed call means to the caller. Where the upstream is stays in the log.
    pub(crate) fn of(error: &Error) -> Self {
        Self { journal: error.journal().cloned().map(Box::new), ..Self::told(error) }
    }

    fn told(error: &Error) -> Self {
        if is_caused_by::<TooLarge>(error) {
            return Self::too_large_body(TooLarge.to_string());
        }
        if is_caused_by::<Stalled>(error) {
            return Self::new(StatusCode::REQUEST_TIMEOUT, "the rest of the request did not come in time");
        }
        let (status, what) = match error.kind() {
            ErrorKind::Connect => (StatusCode::BAD_GATEWAY, "cannot connect to the upstream"),
            ErrorKind::ConnectionClosed => (StatusCode::BAD_GATEWAY, "the connection to the upstream broke"),
            ErrorKind::BadResponse => (StatusCode::BAD_GATEWAY, "the upstream gave no valid answer"),
            ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "the upstream did not answer in time"),
            _ => return Self::new(StatusCode::BAD_REQUEST, error.to_string()),
        };
        let attempts = error.journal().map_or(0, Journal::attempts);
        let plural = if attempts == 1 { "" } else { "s" };
        Self::new(status, format!("{what} ({attempts} attempt{plural})"))
    }

    pub(crate) fn into_response(self, method: &Method, uri: &Uri) -> Response<Outgoing> {
        let payload = ErrorPayload::new(Timestamp::now(), self.status, self.message, method, uri);
        let mut response = payload.into_response().map(Into::into);
        if let Some(journal) = self.journal {
            response.extensions_mut().insert(*journal);
        }
        if let Some(refusal) = self.refusal {
            response.extensions_mut().insert(refusal);
        }
        if self.passes {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn is_caused_by<E: StdError + 'static>(error: &Error) -> bool {
    successors(error.source(), |&error| error.source()).any(<dyn StdError>::is::<E>)
}

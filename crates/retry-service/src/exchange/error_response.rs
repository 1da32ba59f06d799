//! Error responses of the service itself.

use std::{error::Error as StdError, iter::successors};

use http::{HeaderValue, Method, Response, StatusCode, Uri, header::RETRY_AFTER};
use jiff::Timestamp;
use retry_client::{Error, ErrorKind, Journal};

use super::{
    request_body::{BodyTooLarge, UploadTimeout},
    response_body::Outgoing,
};
use crate::{common::error_payload::error_response, rejection::Rejection};

/// An error that the client gets instead of a response of the upstream.
#[derive(Debug)]
pub(crate) struct ErrorResponse {
    pub(crate) status: StatusCode,
    message: String,
    /// Set if the service itself rejects the request, which has a log line of its own.
    pub(crate) rejection: Option<Rejection>,
    /// The attempts, if there were any.
    journal: Option<Box<Journal>>,
}

impl ErrorResponse {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), rejection: None, journal: None }
    }

    pub(crate) fn rejected(rejection: Rejection) -> Self {
        Self { rejection: Some(rejection), ..Self::new(rejection.status(), rejection.message()) }
    }

    pub(crate) fn too_large(error: &BodyTooLarge) -> Self {
        Self { message: error.to_string(), ..Self::rejected(Rejection::BodyTooLarge) }
    }

    pub(crate) fn unexpected_upgrade() -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "the upstream switched protocols without being asked to")
    }

    /// Describes a failed call. The address of the upstream is only logged.
    pub(crate) fn from_failure(error: &Error) -> Self {
        Self { journal: error.journal().cloned().map(Box::new), ..Self::without_journal(error) }
    }

    fn without_journal(error: &Error) -> Self {
        if let Some(error) = find_cause::<BodyTooLarge>(error) {
            return Self::too_large(error);
        }
        if find_cause::<UploadTimeout>(error).is_some() {
            return Self::new(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time");
        }
        let (status, what) = match error.kind() {
            ErrorKind::Connect => (StatusCode::BAD_GATEWAY, "cannot connect to the upstream"),
            ErrorKind::ConnectionClosed => (StatusCode::BAD_GATEWAY, "the upstream closed the connection"),
            ErrorKind::BadResponse => (StatusCode::BAD_GATEWAY, "the upstream sent an invalid response"),
            ErrorKind::Outage => {
                return Self::new(StatusCode::SERVICE_UNAVAILABLE, "the upstream cannot be connected to");
            }
            ErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, "the upstream did not respond in time"),
            _ => return Self::new(StatusCode::BAD_REQUEST, error.to_string()),
        };
        let attempts = error.journal().map_or(0, Journal::attempts);
        let plural = if attempts == 1 { "" } else { "s" };
        Self::new(status, format!("{what} ({attempts} attempt{plural})"))
    }

    pub(crate) fn into_response(self, method: &Method, uri: &Uri) -> Response<Outgoing> {
        let mut response = error_response(Timestamp::now(), self.status, &self.message, method, uri).map(Into::into);
        if let Some(journal) = self.journal {
            response.extensions_mut().insert(*journal);
        }
        if let Some(rejection) = self.rejection {
            response.extensions_mut().insert(rejection);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            // Requests in flight and tunnels end soon, and an upstream may be back soon.
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn find_cause<E: StdError + 'static>(error: &Error) -> Option<&E> {
    successors(error.source(), |&error| error.source()).find_map(<dyn StdError>::downcast_ref)
}

//! Error responses of the service itself.

use http::{HeaderValue, Method, Response, StatusCode, Uri, header::RETRY_AFTER};
use jiff::Timestamp;
use retry_client::{EndReason, Error, ErrorKind, History};

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
    history: Option<Box<History>>,
}

impl ErrorResponse {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), rejection: None, history: None }
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
        Self { history: error.history().cloned().map(Box::new), ..Self::without_history(error) }
    }

    fn without_history(error: &Error) -> Self {
        let cause = error.root_cause();
        if let Some(error) = cause.downcast_ref::<BodyTooLarge>() {
            return Self::too_large(error);
        }
        if cause.is::<UploadTimeout>() {
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
            _ => return Self::new(StatusCode::BAD_REQUEST, error.message()),
        };
        let attempts = error.history().map_or(0, History::attempts);
        let plural = if attempts == 1 { "" } else { "s" };
        let reason = match error.reason() {
            Some(reason @ EndReason::NotSafeToRepeat) => format!(", {reason}"),
            _ => String::new(),
        };
        Self::new(status, format!("{what} ({attempts} attempt{plural}{reason})"))
    }

    pub(crate) fn into_response(self, method: &Method, uri: &Uri) -> Response<Outgoing> {
        let mut response = error_response(Timestamp::now(), self.status, &self.message, method, uri).map(Into::into);
        if let Some(history) = self.history {
            response.extensions_mut().insert(*history);
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

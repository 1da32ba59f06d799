//! The responses of the control API.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;

use crate::script::error::ScriptError;
use crate::stubs::error::{StubError, StubScriptError};
use crate::wait_error::WaitError;

pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A request that changes nothing, because it is invalid.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Invalid {
    /// What is wrong, as on the command line.
    error: String,
    /// The line of the mistake in the body; the first is line 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// The column of the mistake in its line; the first is column 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// The field or parameter with the mistake.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip)]
    status: StatusCode,
}

impl Invalid {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { error: error.into(), status, ..Self::default() }
    }

    /// Names the parameter with the mistake.
    pub(crate) fn in_field(self, field: &str) -> Self {
        Self { field: Some(field.to_owned()), ..self }
    }

    /// Adds how the mistake may have come about.
    pub(crate) fn with_tip(self, tip: &str) -> Self {
        Self { error: format!("{}; {tip}", self.error), ..self }
    }

    pub(crate) fn reply(&self) -> Reply {
        let mut reply = json(self.status, self);
        if self.status == StatusCode::REQUEST_TIMEOUT {
            // The rest of the body may never arrive.
            reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}

impl From<ScriptError> for Invalid {
    fn from(error: ScriptError) -> Self {
        let (line, column) = (Some(error.line()), Some(error.column()));
        Self { line, column, ..Self::new(StatusCode::BAD_REQUEST, error.to_string()).in_field("script") }
    }
}

impl From<StubError> for Invalid {
    fn from(error: StubError) -> Self {
        let (line, column) = (Some(error.line()), Some(error.column()));
        let field = Some(error.field()).filter(|field| !field.is_empty()).map(str::to_owned);
        Self { line, column, field, ..Self::new(StatusCode::BAD_REQUEST, error.to_string()) }
    }
}

impl From<StubScriptError> for Invalid {
    fn from(error: StubScriptError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string()).in_field("stub")
    }
}

impl From<WaitError> for Invalid {
    fn from(error: WaitError) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, error.to_string()).in_field("wait")
    }
}

/// Returns a response without a body: the change has been made.
pub(crate) fn done() -> Reply {
    let mut reply = typed("text/plain", Bytes::new());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply.headers_mut().remove(header::CONTENT_TYPE);
    reply
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    // Serializing numbers, strings and dates cannot fail.
    let mut reply = typed("application/json", serde_json::to_vec(value).unwrap_or_default());
    *reply.status_mut() = status;
    reply
}

pub(crate) fn typed(content_type: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(body.into()).boxed_unsync());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

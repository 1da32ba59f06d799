//! The JSON body of an error response.

use bytes::Bytes;
use http::{Method, Response, StatusCode, Uri, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde::Serialize;

/// An error, with its fields in the order of the JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorPayload {
    /// The time in UTC, to the microsecond: `2026-07-06T10:00:00.123456Z`.
    pub(crate) timestamp: String,
    /// The status code of the response.
    pub(crate) status: u16,
    /// The reason phrase of the status code.
    pub(crate) reason: &'static str,
    /// A description of the error.
    pub(crate) message: String,
    /// The path and query of the request.
    pub(crate) path: String,
    /// The method of the request.
    pub(crate) method: String,
}

impl ErrorPayload {
    /// Describes the failure of a request.
    #[must_use]
    pub(crate) fn new(
        time: Timestamp,
        status: StatusCode,
        message: impl Into<String>,
        method: &Method,
        uri: &Uri,
    ) -> Self {
        let target = uri.path_and_query();
        Self {
            timestamp: format!("{time:.6}"),
            status: status.as_u16(),
            reason: status.canonical_reason().unwrap_or_default(),
            message: message.into(),
            path: target.map_or_else(String::new, ToString::to_string),
            method: method.to_string(),
        }
    }

    /// Returns a response with the payload.
    #[must_use]
    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        // Serializing numbers and strings cannot fail.
        let json = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Full::from(json));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or_default();
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn parity_error_payload_fields_in_order() {
        let payload = ErrorPayload::new(
            "2026-07-06T10:00:00.123456789Z".parse().unwrap(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "it \"broke\"",
            &Method::GET,
            &Uri::from_static("/path?x=1"),
        );
        let response = payload.into_response();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            body,
            r#"{"timestamp":"2026-07-06T10:00:00.123456Z","status":500,"reason":"Internal Server Error","message":"it \"broke\"","path":"/path?x=1","method":"GET"}"#
        );
    }

    #[test]
    fn a_whole_second_keeps_its_microseconds() {
        let payload = ErrorPayload::new(
            Timestamp::UNIX_EPOCH,
            StatusCode::NOT_FOUND,
            "",
            &Method::from_bytes(b"PURGE").unwrap(),
            &Uri::from_static("http://127.0.0.1/a?b"),
        );
        assert_eq!(payload.timestamp, "1970-01-01T00:00:00.000000Z");
        assert_eq!(payload.path, "/a?b");
        assert_eq!(payload.method, "PURGE");
    }
}

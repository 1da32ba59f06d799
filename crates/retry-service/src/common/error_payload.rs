//! The JSON body of an answer that is an error.

use bytes::Bytes;
use http::{Method, Response, StatusCode, Uri, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde::Serialize;

/// What went wrong with a request; its fields appear in the JSON in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ErrorPayload {
    /// When, in UTC to the microsecond: `2026-07-06T10:00:00.123456Z`.
    pub timestamp: String,
    /// The answer's status code.
    pub status: u16,
    /// The status code's standard phrase.
    pub reason: &'static str,
    /// What went wrong, in words.
    pub message: String,
    /// The raw request target, query included.
    pub path: String,
    /// The request's method.
    pub method: String,
}

impl ErrorPayload {
    /// Describes the failure of a request at `time`.
    #[must_use]
    pub fn new(time: Timestamp, status: StatusCode, message: impl Into<String>, method: &Method, uri: &Uri) -> Self {
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

    /// Describes what could not be read as a request: it has neither a path nor a method.
    #[must_use]
    pub(crate) fn of_unread(time: Timestamp, status: StatusCode, message: &str) -> Self {
        let (method, uri) = (Method::default(), Uri::default());
        Self { path: String::new(), method: String::new(), ..Self::new(time, status, message, &method, &uri) }
    }

    /// The payload as it is sent.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Numbers and strings always serialize; an empty body is the harmless way to say so in types.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The payload as an answer.
    #[must_use]
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(self.to_json()));
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

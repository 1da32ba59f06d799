//! The JSON body of an answer that is an error.

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde::Serialize;

/// What went wrong with a request; its fields appear in the JSON in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ErrorPayload {
    /// When, in UTC to the microsecond: `2026-07-06T10:00:00.123456Z`.
    pub(crate) timestamp: String,
    /// The answer's status code.
    pub(crate) status: u16,
    /// The status code's standard phrase.
    pub(crate) reason: &'static str,
    /// What went wrong, in words.
    pub(crate) message: String,
    /// The raw request target, query included.
    pub(crate) path: String,
    /// The request's method.
    pub(crate) method: String,
}

impl ErrorPayload {
    /// Describes the failure of `request` at `time`.
    #[must_use]
    pub(crate) fn new(time: Timestamp, status: StatusCode, message: impl Into<String>, request: &Parts) -> Self {
        let target = request.uri.path_and_query();
        Self {
            timestamp: format!("{time:.6}"),
            status: status.as_u16(),
            reason: status.canonical_reason().unwrap_or_default(),
            message: message.into(),
            path: target.map_or_else(String::new, ToString::to_string),
            method: request.method.to_string(),
        }
    }

    /// The payload as an answer.
    #[must_use]
    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        // Numbers and strings always serialize; an empty body is the harmless way to say so in types.
        let json = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Full::from(json));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or_default();
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::BodyExt as _;

    use super::*;

    fn request(method: &str, target: &str) -> Parts {
        let request = Request::builder().method(method).uri(target).body(()).unwrap();
        request.into_parts().0
    }

    #[tokio::test]
    async fn parity_error_payload_fields_in_order() {
        let payload = ErrorPayload::new(
            "2026-07-06T10:00:00.123456789Z".parse().unwrap(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "it \"broke\"",
            &request("GET", "/path?x=1"),
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
            &request("PURGE", "http://127.0.0.1/a?b"),
        );
        assert_eq!(payload.timestamp, "1970-01-01T00:00:00.000000Z");
        assert_eq!(payload.path, "/a?b");
        assert_eq!(payload.method, "PURGE");
    }
}

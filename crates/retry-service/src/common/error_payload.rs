//! The JSON body of an error response.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Response, StatusCode, Uri, header};
use http_body_util::Full;
use jiff::Timestamp;
use serde::Serialize;

/// An error, with its fields in the order of the JSON.
#[derive(Debug, Serialize)]
struct ErrorPayload<'a> {
    /// The time in UTC, to the microsecond: `2026-07-06T10:00:00.123456Z`.
    timestamp: String,
    status: u16,
    /// The reason phrase of the status.
    reason: &'static str,
    message: &'a str,
    /// The path and query of the request.
    path: &'a str,
    method: &'a str,
}

/// Returns a response whose JSON body describes the error.
pub(crate) fn error_response(
    time: Timestamp,
    status: StatusCode,
    message: &str,
    method: &Method,
    uri: &Uri,
) -> Response<Full<Bytes>> {
    let payload = ErrorPayload {
        timestamp: format!("{time:.6}"),
        status: status.as_u16(),
        reason: status.canonical_reason().unwrap_or_default(),
        message,
        path: uri.path_and_query().map_or("", PathAndQuery::as_str),
        method: method.as_str(),
    };
    // Serializing numbers and strings cannot fail.
    let mut response = Response::new(Full::from(serde_json::to_vec(&payload).unwrap_or_default()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn parity_error_payload_fields_in_order() {
        let response = error_response(
            "2026-07-06T10:00:00.123456789Z".parse().unwrap(),
            StatusCode::INTERNAL_SERVER_ERROR,
            "it \"broke\"",
            &Method::GET,
            &Uri::from_static("/path?x=1"),
        );
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()["content-type"], "application/json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            body,
            r#"{"timestamp":"2026-07-06T10:00:00.123456Z","status":500,"reason":"Internal Server Error","message":"it \"broke\"","path":"/path?x=1","method":"GET"}"#
        );
    }

    #[tokio::test]
    async fn a_timestamp_always_has_six_decimals() {
        let response = error_response(
            Timestamp::UNIX_EPOCH,
            StatusCode::NOT_FOUND,
            "",
            &Method::from_bytes(b"PURGE").unwrap(),
            &Uri::from_static("http://127.0.0.1/a?b"),
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let payload: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(payload["timestamp"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(payload["path"], "/a?b");
        assert_eq!(payload["method"], "PURGE");
    }
}

//! What is recorded of a request, and reported as JSON by `/requests`.

use std::num::NonZeroU64;

use http::HeaderValue;
use http::request::Parts;
use jiff::Timestamp;
use serde::Serialize;

/// The maximum number of characters that are recorded of a method, a target or an `Idempotency-Key`.
const MAX_TEXT: usize = 1024;

/// A request that the script was applied to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordedRequest {
    /// Its number; the first is number 1.
    pub number: NonZeroU64,
    /// The time at which its head was read.
    pub time: Timestamp,
    /// Its method.
    pub method: String,
    /// Its path and query, up to 1024 characters.
    pub target: String,
    /// Its protocol: `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The number of its connection; the first is number 1.
    pub connection: u64,
    /// Its `Idempotency-Key`, up to 1024 characters.
    pub idempotency_key: Option<String>,
    /// Its body, once it has been read completely.
    pub body: Option<RecordedBody>,
    /// The behaviour that the script selected for it.
    pub behaviour: String,
}

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordedBody {
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256 digest, in hexadecimal.
    pub sha256: String,
    /// The trailers, as `name: value`.
    pub trailers: Vec<String>,
}

impl RecordedRequest {
    pub(crate) fn new(number: NonZeroU64, head: &Parts, connection: u64, behaviour: String) -> Self {
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let text = |value: &HeaderValue| truncated(&String::from_utf8_lossy(value.as_bytes()));
        Self {
            number,
            time: Timestamp::now(),
            method: truncated(head.method.as_str()),
            target: truncated(target),
            version: format!("{:?}", head.version),
            connection,
            idempotency_key: head.headers.get("idempotency-key").map(text),
            body: None,
            behaviour,
        }
    }
}

fn truncated(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_start_of_a_long_target_is_recorded() {
        assert_eq!(truncated(&"x".repeat(MAX_TEXT + 1)).len(), MAX_TEXT);
        assert_eq!(truncated("/hello"), "/hello");
    }
}

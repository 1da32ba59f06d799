//! What is recorded of a request, and reported as JSON by `/requests`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem::size_of;
use std::num::NonZeroU64;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// The maximum number of characters that are recorded of a method or a target.
const MAX_TEXT: usize = 1024;

/// The maximum number of bytes that are recorded of a body.
pub(crate) const MAX_CONTENT: usize = 64 << 10;

/// A request that has arrived, whether or not a route or a stub matched.
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
    /// Its header fields. In JSON, fields of the same name are one, joined by commas (cookies by semicolons).
    #[serde(serialize_with = "joined_fields")]
    pub headers: HeaderMap,
    /// The number of its connection; the first is number 1.
    pub connection: u64,
    /// Its body, once it has been read completely.
    pub body: Option<RecordedBody>,
    /// The name of the stub that matched, or `None` if none did.
    pub stub: Option<String>,
    /// The behavior that the script selected for it; `ok` if no script applies. It is cut after 1024 characters, and ends
    /// with `…` then, or with the delay.
    pub behavior: String,
    /// Whether the fault of the behavior had no effect, because the response ended before: with `truncate=100`, a body of 14
    /// bytes is complete. What counts the bytes of the connection, such as `stall-after=130`, is known to be missed when the
    /// response has been sent; over HTTP/2, at the next response or the end of the connection.
    pub fault_missed: bool,
    /// Its response, as soon as there is one. `None` for faults instead of a response.
    pub response: Option<RecordedResponse>,
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
    /// Its first 64 KiB. In JSON, it is `text`, or `base64` if it is not UTF-8.
    #[serde(flatten, serialize_with = "text_or_base64")]
    pub content: Bytes,
}

/// The response to a request, as far as it has been given to the connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RecordedResponse {
    /// Its status.
    pub status: u16,
    /// The number of bytes of its body.
    pub length: u64,
    /// Whether the body has ended. It has not while it is being sent, or if the connection ended before.
    pub complete: bool,
    /// The time from the request's head to the end of the response, or to its head while the body is being sent.
    pub milliseconds: u64,
}

impl RecordedRequest {
    pub(crate) fn new(
        number: NonZeroU64,
        head: &Parts,
        connection: u64,
        stub: Option<String>,
        behavior: String,
    ) -> Self {
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        Self {
            number,
            time: Timestamp::now(),
            method: truncated(head.method.as_str()),
            target: truncated(target),
            version: format!("{:?}", head.version),
            headers: copied(&head.headers),
            connection,
            body: None,
            stub,
            behavior,
            fault_missed: false,
            response: None,
        }
    }

    /// Returns about how many bytes of memory the record takes.
    pub(crate) fn size(&self) -> usize {
        let field = |(name, value): (&header::HeaderName, &HeaderValue)| {
            size_of::<(header::HeaderName, HeaderValue)>() + name.as_str().len() + value.len()
        };
        let texts = [&self.method, &self.target, &self.version, &self.behavior];
        let body = |body: &RecordedBody| {
            body.content.len() + body.sha256.len() + body.trailers.iter().map(String::len).sum::<usize>()
        };
        size_of::<Self>()
            + texts.into_iter().chain(&self.stub).map(String::len).sum::<usize>()
            + self.headers.iter().map(field).sum::<usize>()
            + self.body.as_ref().map_or(0, body)
    }
}

impl RecordedBody {
    /// Returns the recorded content as text, with U+FFFD for what is not UTF-8.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.content)
    }
}

fn truncated(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

/// Copies the fields. A clone would share the buffer of the connection, and so keep it in memory.
fn copied(fields: &HeaderMap) -> HeaderMap {
    let copy = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).ok();
    fields.iter().filter_map(|(name, value)| Some((name.clone(), copy(value)?))).collect()
}

/// Serializes the fields as an object. RFC 9110, section 5.2 joins fields of the same name by commas; RFC 9113, section
/// 8.2.3 joins cookies by semicolons.
fn joined_fields<S: Serializer>(fields: &HeaderMap, serializer: S) -> Result<S::Ok, S::Error> {
    let joined = fields.keys().map(|name| {
        let separator = if name == header::COOKIE { "; " } else { ", " };
        let values = fields.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        (name.as_str(), values.collect::<Vec<_>>().join(separator))
    });
    serializer.collect_map(joined)
}

fn text_or_base64<S: Serializer>(content: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    // The end of the recorded part may cut a character.
    let field = match std::str::from_utf8(content) {
        Ok(text) => ("text", Cow::Borrowed(text)),
        Err(error) if error.error_len().is_none() => {
            let valid = content.get(..error.valid_up_to()).unwrap_or_default();
            ("text", String::from_utf8_lossy(valid))
        }
        Err(_) => ("base64", Cow::Owned(STANDARD.encode(content))),
    };
    BTreeMap::from([field]).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_start_of_a_long_target_is_recorded() {
        assert_eq!(truncated(&"x".repeat(MAX_TEXT + 1)).len(), MAX_TEXT);
        assert_eq!(truncated("/hello"), "/hello");
    }

    #[test]
    fn fields_of_the_same_name_are_joined() {
        #[derive(Serialize)]
        struct Fields(#[serde(serialize_with = "joined_fields")] HeaderMap);
        let mut fields = HeaderMap::new();
        for (name, value) in [("accept", "a"), ("accept", "b"), ("cookie", "c=1"), ("cookie", "d=2")] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let json = serde_json::to_value(Fields(fields)).unwrap();
        assert_eq!(json, serde_json::json!({"accept": "a, b", "cookie": "c=1; d=2"}));
    }

    #[test]
    fn content_that_is_not_text_is_base64() {
        let json = |content: &'static [u8]| {
            let content = Bytes::from_static(content);
            let body = RecordedBody { length: 0, sha256: String::new(), trailers: Vec::new(), content };
            let mut json = serde_json::to_value(body).unwrap();
            (json["text"].take(), json["base64"].take())
        };
        assert_eq!(json("é".as_bytes()), ("é".into(), serde_json::Value::Null));
        assert_eq!(json(b"a\xc3"), ("a".into(), serde_json::Value::Null));
        assert_eq!(json(b"\xff\0"), (serde_json::Value::Null, "/wA=".into()));
    }
}

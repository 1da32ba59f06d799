//! Which responses are buffered before they are handed over, and how much of them.
//!
//! A response that breaks off while it is buffered is an attempt that failed. What the caller has begun to see cannot be
//! taken back.

use std::time::Duration;

use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
};

/// How much of a response is buffered, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseBuffer {
    /// Zero is off.
    pub(crate) bytes: usize,
    /// For how long at most, for a response that does not announce its length, or is one to a request that may not be
    /// repeated.
    pub(crate) time: Duration,
}

impl ResponseBuffer {
    /// Whether the response to a request with these headers may be buffered.
    pub(crate) fn is_for_request(self, headers: &HeaderMap) -> bool {
        self.bytes > 0 && !accepts_only_streams(headers)
    }
}

/// Media types whose parts are to arrive as they are sent, however long the next takes. `application/grpc` stands for
/// its variants, too.
const STREAMS: [&str; 4] = ["text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace", GRPC];

const GRPC: &str = "application/grpc";

/// Whether a response is of a type that is never buffered.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| names_stream(value.as_bytes()))
}

/// Whether a message is gRPC's, whose streams may go both ways at once.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    media_type.get(..GRPC.len()).is_some_and(|start| start.eq_ignore_ascii_case(GRPC.as_bytes()))
}

fn accepts_only_streams(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    accepted.next().is_some_and(names_stream) && accepted.all(names_stream)
}

/// Whether a media type or range, with parameters or without, is one of the streams.
fn names_stream(media_type: &[u8]) -> bool {
    let media_type = media_type.trim_ascii();
    STREAMS.iter().any(|stream| match media_type.split_at_checked(stream.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(stream.as_bytes()) => match rest {
            [] | [b';' | b' ' | b'\t', ..] => true,
            [b'+' | b'-', ..] => *stream == GRPC,
            _ => false,
        },
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn streams_are_known_by_their_type() {
        let check = |value, expected| assert_eq!(is_stream(&headers(&CONTENT_TYPE, &[value])), expected, "{value}");
        check("text/event-stream", true);
        check("Text/Event-Stream; charset=utf-8", true);
        check("application/x-ndjson", true);
        check("multipart/x-mixed-replace; boundary=x", true);
        check("application/grpc", true);
        check("application/grpc+proto", true);
        check("application/grpc-web", true);
        check("application/grpcish", false);
        check("application/json", false);
        check("text/event-streams", false);
        check("", false);
        assert!(!is_stream(&HeaderMap::new()));
    }

    #[test]
    fn a_request_that_accepts_only_streams_is_known_by_its_accept() {
        let check = |values: &[&'static str], expected| {
            assert_eq!(accepts_only_streams(&headers(&ACCEPT, values)), expected, "{values:?}");
        };
        check(&[], false);
        check(&["*/*"], false);
        check(&["text/event-stream"], true);
        check(&["text/event-stream;q=0.5, application/x-ndjson"], true);
        check(&["text/event-stream", "application/x-ndjson"], true);
        check(&["text/event-stream", "application/json"], false);
        check(&["text/event-stream, */*"], false);
    }
}

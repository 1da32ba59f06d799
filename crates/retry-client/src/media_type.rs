//! The media types of streams, whose parts have to arrive as they are sent.

use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, CONTENT_TYPE},
};

/// Media types that are never buffered.
const STREAMS: [&str; 4] = ["text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace", GRPC];

/// Stands for its variants too, such as `application/grpc+proto`.
const GRPC: &str = "application/grpc";

/// Whether a message is a stream.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    is_stream_type(content_type(headers))
}

/// Whether a message belongs to gRPC, where client and server may both stream at the same time.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    is_type(content_type(headers), GRPC)
}

/// Whether a message with these headers belongs to gRPC over HTTP/2, where the status of a call is in `grpc-status`. gRPC-Web
/// has it in the body.
///
/// ```
/// use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
/// use retry_client::has_grpc_status;
///
/// let headers = |value| HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
/// assert!(has_grpc_status(&headers("application/grpc+proto")));
/// assert!(!has_grpc_status(&headers("application/grpc-web+proto")));
/// ```
#[must_use]
pub fn has_grpc_status(headers: &HeaderMap) -> bool {
    is_grpc(headers) && content_type(headers).trim_ascii().get(GRPC.len()) != Some(&b'-')
}

/// Whether the response to a request with these headers can only be a stream.
pub(crate) fn accepts_only_streams(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    accepted.next().is_some_and(is_stream_type) && accepted.all(is_stream_type)
}

fn content_type(headers: &HeaderMap) -> &[u8] {
    headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default()
}

fn is_stream_type(media_type: &[u8]) -> bool {
    STREAMS.iter().any(|stream| is_type(media_type, stream))
}

/// Whether a media type, with or without parameters, is `name`.
fn is_type(media_type: &[u8], name: &str) -> bool {
    match media_type.trim_ascii().split_at_checked(name.len()) {
        Some((start, rest)) if start.eq_ignore_ascii_case(name.as_bytes()) => match rest {
            [] | [b';' | b' ' | b'\t', ..] => true,
            [b'+' | b'-', ..] => name == GRPC,
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn headers(name: &HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn streams_are_recognized_by_content_type() {
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
    fn grpc_web_has_its_status_elsewhere() {
        let check =
            |value, expected| assert_eq!(has_grpc_status(&headers(&CONTENT_TYPE, &[value])), expected, "{value}");
        check("application/grpc", true);
        check(" Application/gRPC+proto", true);
        check("application/grpc;charset=utf-8", true);
        check("application/grpc-web", false);
        check("application/grpc-web-text+proto", false);
        check("application/json", false);
        check("application/grpcfoo", false);
        assert!(!has_grpc_status(&HeaderMap::new()));
    }

    #[test]
    fn requests_for_streams_are_recognized_by_accept() {
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

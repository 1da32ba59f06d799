//! `/bytes/N`: content that a client can verify, because each byte depends only on its position.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::request::Parts;
use http::{StatusCode, header};
use http_body::{Body, Frame, SizeHint};

use crate::routes::range::{Selection, etag, select};
use crate::routes::responses::{Response, boxed, error, set};

/// The length after which the bytes repeat. It is a prime, so that a shift by the size of a buffer is detected.
const PERIOD: usize = 61;
const ALPHABET: &[u8; PERIOD] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxy";

/// The maximum size of a frame.
const MAX_FRAME: usize = PERIOD * 256;

/// Contains a frame of the largest size for each start position in the first period.
static BLOCK: LazyLock<Bytes> = LazyLock::new(|| ALPHABET.repeat(257).into());

/// Returns the byte at this position of any `/bytes/N`, counted from 0.
///
/// ```
/// let start: Vec<u8> = (0..12).map(delayed_backend::known_byte).collect();
/// assert_eq!(start, b"0123456789AB");
/// ```
#[must_use]
pub fn known_byte(position: u64) -> u8 {
    let index = usize::try_from(position % PERIOD as u64).unwrap_or_default();
    ALPHABET.get(index).copied().unwrap_or_default()
}

/// Responds with this many known bytes, or with the range of them that the request selects.
pub(crate) fn respond(request: &Parts, length: u64) -> Response {
    let (status, start, end) = match select(&request.method, &request.headers, length) {
        Selection::Full => (StatusCode::OK, 0, length),
        Selection::Range { first, last } => (StatusCode::PARTIAL_CONTENT, first, last + 1),
        Selection::Unsatisfiable => {
            let mut response = error(StatusCode::RANGE_NOT_SATISFIABLE, "The range is not satisfiable", request);
            set(&mut response, header::CONTENT_RANGE, &format!("bytes */{length}"));
            return response;
        }
        Selection::PreconditionFailed => {
            return error(StatusCode::PRECONDITION_FAILED, "If-Match does not match", request);
        }
    };
    let mut response = Response::new(boxed(KnownBytes { start, end }));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, "text/plain");
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::ETAG, &etag(length));
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut response, header::CONTENT_RANGE, &format!("bytes {start}-{}/{length}", end - 1));
    }
    response
}

/// Returns a response whose body is longer than this. It has neither `Accept-Ranges` nor `ETag`, so that clients do not
/// request the rest.
pub(crate) fn longer_than(bytes: u64) -> Response {
    let mut response = Response::new(boxed(KnownBytes { start: 0, end: bytes.saturating_mul(2).saturating_add(1024) }));
    set(&mut response, header::CONTENT_TYPE, "text/plain");
    response
}

/// A body with the known bytes between two positions, generated as they are sent.
#[derive(Debug, Clone)]
struct KnownBytes {
    start: u64,
    end: u64,
}

impl KnownBytes {
    fn left(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

impl Body for KnownBytes {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = usize::try_from(self.left()).unwrap_or(MAX_FRAME).min(MAX_FRAME);
        if length == 0 {
            return Poll::Ready(None);
        }
        let start = usize::try_from(self.start % PERIOD as u64).unwrap_or_default();
        self.start += length as u64;
        Poll::Ready(Some(Ok(Frame::data(BLOCK.slice(start..start + length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn each_byte_depends_only_on_its_position() {
        for (start, end) in [(0, 0), (0, 1), (0, 100_000), (60, 62), (12_345, 54_321), (5, 3)] {
            let body = KnownBytes { start, end }.collect().await.unwrap().to_bytes();
            assert!(body.iter().copied().eq((start..end).map(known_byte)), "{start}..{end}");
        }
    }

    #[tokio::test]
    async fn the_largest_body_can_be_started() {
        let mut body = KnownBytes { start: 0, end: u64::MAX };
        assert_eq!(body.size_hint().exact(), Some(u64::MAX));
        assert!(body.frame().await.is_some());
    }
}

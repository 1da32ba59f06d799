//! `/bytes/N`: a body that anyone can check, and the part of it that a request asks for.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, header};
use http_body::{Body, Frame, SizeHint};

/// The bytes come round after so many: a prime, so that no shift by a buffer's size goes unseen.
const PERIOD: usize = 61;
const ALPHABET: &[u8; PERIOD] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxy";

/// Whole periods, as much as one frame may carry and one more.
static BLOCK: LazyLock<Bytes> = LazyLock::new(|| ALPHABET.repeat(257).into());
const FRAME: usize = PERIOD * 256;

/// The byte at this place of any `/bytes/N`.
///
/// ```
/// let start: Vec<u8> = (0..12).map(delayed_backend::known_byte).collect();
/// assert_eq!(start, b"0123456789AB");
/// ```
#[must_use]
pub fn known_byte(place: u64) -> u8 {
    let index = usize::try_from(place % PERIOD as u64).unwrap_or_default();
    ALPHABET.get(index).copied().unwrap_or_default()
}

/// The known bytes from one place to another, made as they are sent.
#[derive(Debug, Clone)]
pub(crate) struct KnownBytes {
    from: u64,
    to: u64,
}

impl KnownBytes {
    /// The bytes at the places `from..to`.
    pub(crate) fn new(from: u64, to: u64) -> Self {
        Self {
            from,
            to: to.max(from),
        }
    }

    fn left(&self) -> u64 {
        self.to - self.from
    }
}

impl Body for KnownBytes {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = usize::try_from(self.left()).unwrap_or(FRAME).min(FRAME);
        if length == 0 {
            return Poll::Ready(None);
        }
        let start = usize::try_from(self.from % PERIOD as u64).unwrap_or_default();
        self.from += length as u64;
        Poll::Ready(Some(Ok(Frame::data(BLOCK.slice(start..start + length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

/// The strong validator of `/bytes/N`.
pub(crate) fn etag(length: u64) -> String {
    format!("\"bytes-{length}\"")
}

/// The part of a body that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// All of it: 200.
    Whole,
    /// These places, the last included: 206.
    Part { first: u64, last: u64 },
    /// A part it does not have: 416.
    Unsatisfiable,
    /// Nothing, since it is not the one the request means: 412.
    Changed,
}

/// Reads `If-Match`, `If-Range` and `Range` (RFC 9110, sections 13.1 and 14.2).
///
/// Ranges that cannot be read, and several at once, ask for the whole, as the RFC allows.
pub(crate) fn select(method: &Method, headers: &HeaderMap, length: u64) -> Selection {
    let etag = etag(length);
    let text = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    if text(header::IF_MATCH).is_some_and(|wanted| !matches_any(wanted, &etag)) {
        return Selection::Changed;
    }
    let same = text(header::IF_RANGE).is_none_or(|wanted| wanted.trim() == etag);
    match text(header::RANGE) {
        Some(range) if *method == Method::GET && same => range_of(range, length),
        _ => Selection::Whole,
    }
}

fn matches_any(wanted: &str, etag: &str) -> bool {
    wanted
        .split(',')
        .map(str::trim)
        .any(|one| one == "*" || one == etag)
}

fn range_of(range: &str, length: u64) -> Selection {
    let places = range
        .split_once('=')
        .filter(|(unit, _)| unit.trim().eq_ignore_ascii_case("bytes"));
    let bounds = places.and_then(|(_, places)| places.trim().split_once('-'));
    let Some((first, last)) = bounds else {
        return Selection::Whole;
    };
    match (place(first), place(last)) {
        (Some(Some(first)), Some(None)) => part(first, length.saturating_sub(1), length),
        (Some(Some(first)), Some(Some(last))) if first <= last => {
            part(first, last.min(length.saturating_sub(1)), length)
        }
        (Some(None), Some(Some(0))) => Selection::Unsatisfiable,
        (Some(None), Some(Some(count))) => part(
            length.saturating_sub(count),
            length.saturating_sub(1),
            length,
        ),
        _ => Selection::Whole,
    }
}

fn part(first: u64, last: u64, length: u64) -> Selection {
    if first < length {
        Selection::Part { first, last }
    } else {
        Selection::Unsatisfiable
    }
}

/// A bound of a range: absent, a number however large, or not to be read.
fn place(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn the_bytes_are_the_same_wherever_one_starts() {
        for (from, to) in [
            (0, 0),
            (0, 1),
            (0, 100_000),
            (60, 62),
            (12_345, 54_321),
            (5, 3),
        ] {
            let body = KnownBytes::new(from, to)
                .collect()
                .await
                .unwrap()
                .to_bytes();
            assert!(
                body.iter().copied().eq((from..to).map(known_byte)),
                "{from}..{to}"
            );
        }
    }

    #[tokio::test]
    async fn the_largest_body_can_be_started() {
        let mut body = KnownBytes::new(0, u64::MAX);
        assert_eq!(body.size_hint().exact(), Some(u64::MAX));
        assert!(body.frame().await.is_some());
    }

    #[track_caller]
    fn check(headers: &[(&str, &str)], length: u64, expected: Selection) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (
                    name.parse::<header::HeaderName>().unwrap(),
                    value.parse().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            select(&Method::GET, &headers, length),
            expected,
            "{headers:?}"
        );
    }

    #[test]
    fn ranges() {
        let part = |first, last| Selection::Part { first, last };
        check(&[], 10, Selection::Whole);
        check(&[("range", "bytes=0-3")], 10, part(0, 3));
        check(&[("range", "bytes=3-")], 10, part(3, 9));
        check(&[("range", "bytes=9-99")], 10, part(9, 9));
        check(&[("range", "bytes=-3")], 10, part(7, 9));
        check(&[("range", "bytes=-99")], 10, part(0, 9));
        check(&[("range", "BYTES=0-0")], 10, part(0, 0));
        check(
            &[("range", "bytes=0-99999999999999999999999")],
            10,
            part(0, 9),
        );
        check(&[("range", "bytes=10-")], 10, Selection::Unsatisfiable);
        check(
            &[("range", "bytes=99999999999999999999999-")],
            10,
            Selection::Unsatisfiable,
        );
        check(&[("range", "bytes=-0")], 10, Selection::Unsatisfiable);
        check(&[("range", "bytes=0-")], 0, Selection::Unsatisfiable);
        check(&[("range", "bytes=-5")], 0, Selection::Unsatisfiable);
        for ignored in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=3-1",
            "bytes=a-",
            "bytes=0-1,3-4",
            "lines=0-1",
            "bytes=+1-2",
        ] {
            check(&[("range", ignored)], 10, Selection::Whole);
        }
    }

    #[test]
    fn a_range_needs_the_body_it_was_meant_for() {
        let part = Selection::Part { first: 3, last: 9 };
        check(
            &[("range", "bytes=3-"), ("if-range", "\"bytes-10\"")],
            10,
            part,
        );
        check(
            &[("range", "bytes=3-"), ("if-range", "\"bytes-11\"")],
            10,
            Selection::Whole,
        );
        check(
            &[("range", "bytes=3-"), ("if-range", "W/\"bytes-10\"")],
            10,
            Selection::Whole,
        );
        check(
            &[
                ("range", "bytes=3-"),
                ("if-range", "Fri, 31 Dec 1999 23:59:59 GMT"),
            ],
            10,
            Selection::Whole,
        );
        check(
            &[("range", "bytes=3-"), ("if-match", "\"bytes-10\"")],
            10,
            part,
        );
        check(
            &[("range", "bytes=3-"), ("if-match", "\"x\", \"bytes-10\"")],
            10,
            part,
        );
        check(&[("range", "bytes=3-"), ("if-match", "*")], 10, part);
        check(
            &[("range", "bytes=3-"), ("if-match", "\"bytes-11\"")],
            10,
            Selection::Changed,
        );
        check(&[("if-match", "W/\"bytes-10\"")], 10, Selection::Changed);
    }

    #[test]
    fn only_get_has_ranges() {
        let headers = [(header::RANGE, "bytes=0-1".parse().unwrap())]
            .into_iter()
            .collect();
        assert_eq!(select(&Method::HEAD, &headers, 10), Selection::Whole);
    }
}

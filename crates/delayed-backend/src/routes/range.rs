//! The part of `/bytes/N` that a request asks for.

use http::{HeaderMap, Method, header};

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
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
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
    wanted.split(',').map(str::trim).any(|one| one == "*" || one == etag)
}

fn range_of(range: &str, length: u64) -> Selection {
    match bounds(range) {
        Some((Some(first), None)) => part(first, u64::MAX, length),
        Some((Some(first), Some(last))) if first <= last => part(first, last, length),
        Some((None, Some(count))) => part(length.saturating_sub(count), u64::MAX, length),
        _ => Selection::Whole,
    }
}

fn part(first: u64, last: u64, length: u64) -> Selection {
    if first < length {
        let last = last.min(length - 1);
        Selection::Part { first, last }
    } else {
        Selection::Unsatisfiable
    }
}

/// The two sides of `bytes=first-last`.
fn bounds(range: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, places) = range.split_once('=')?;
    let (first, last) = places.trim().split_once('-')?;
    let bytes = unit.trim().eq_ignore_ascii_case("bytes");
    bytes.then_some((place(first)?, place(last)?))
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
    use super::*;

    #[track_caller]
    fn check(headers: &[(&str, &str)], length: u64, expected: Selection) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        assert_eq!(select(&Method::GET, &headers, length), expected, "{headers:?}");
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
        check(&[("range", "bytes=0-99999999999999999999999")], 10, part(0, 9));
        check(&[("range", "bytes=10-")], 10, Selection::Unsatisfiable);
        check(&[("range", "bytes=99999999999999999999999-")], 10, Selection::Unsatisfiable);
        check(&[("range", "bytes=-0")], 10, Selection::Unsatisfiable);
        check(&[("range", "bytes=0-")], 0, Selection::Unsatisfiable);
        check(&[("range", "bytes=-5")], 0, Selection::Unsatisfiable);
        for ignored in
            ["", "bytes", "bytes=", "bytes=-", "bytes=3-1", "bytes=a-", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2"]
        {
            check(&[("range", ignored)], 10, Selection::Whole);
        }
    }

    #[test]
    fn a_range_needs_the_body_it_was_meant_for() {
        let part = Selection::Part { first: 3, last: 9 };
        check(&[("range", "bytes=3-"), ("if-range", "\"bytes-10\"")], 10, part);
        check(&[("range", "bytes=3-"), ("if-range", "\"bytes-11\"")], 10, Selection::Whole);
        check(&[("range", "bytes=3-"), ("if-range", "W/\"bytes-10\"")], 10, Selection::Whole);
        check(&[("range", "bytes=3-"), ("if-range", "Fri, 31 Dec 1999 23:59:59 GMT")], 10, Selection::Whole);
        check(&[("range", "bytes=3-"), ("if-match", "\"bytes-10\"")], 10, part);
        check(&[("range", "bytes=3-"), ("if-match", "\"x\", \"bytes-10\"")], 10, part);
        check(&[("range", "bytes=3-"), ("if-match", "*")], 10, part);
        check(&[("range", "bytes=3-"), ("if-match", "\"bytes-11\"")], 10, Selection::Changed);
        check(&[("if-match", "W/\"bytes-10\"")], 10, Selection::Changed);
    }

    #[test]
    fn only_get_has_ranges() {
        let headers = [(header::RANGE, "bytes=0-1".parse().unwrap())].into_iter().collect();
        assert_eq!(select(&Method::HEAD, &headers, 10), Selection::Whole);
    }
}

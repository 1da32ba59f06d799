//! The part of `/bytes/N` that a request selects: `Range`, `If-Range`, `If-Match`.

use http::{HeaderMap, Method, header};

/// Returns the strong `ETag` of `/bytes/N`.
pub(crate) fn etag(length: u64) -> String {
    format!("\"bytes-{length}\"")
}

/// What a request selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Selection {
    /// The full content: 200.
    Full,
    /// The bytes from the first to the last position, inclusive: 206.
    Range { first: u64, last: u64 },
    /// A range beyond the end: 416.
    Unsatisfiable,
    /// Another version of the content: 412.
    PreconditionFailed,
}

/// Evaluates `If-Match`, `If-Range` and `Range` (RFC 9110, sections 13.1 and 14.2).
///
/// Invalid ranges and requests for several ranges are ignored, as the RFC allows.
pub(crate) fn select(method: &Method, headers: &HeaderMap, length: u64) -> Selection {
    let etag = etag(length);
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if text(header::IF_MATCH).is_some_and(|wanted| !matches_any(wanted, &etag)) {
        return Selection::PreconditionFailed;
    }
    let unchanged = text(header::IF_RANGE).is_none_or(|wanted| wanted.trim() == etag);
    match text(header::RANGE) {
        Some(range) if *method == Method::GET && unchanged => select_range(range, length),
        _ => Selection::Full,
    }
}

fn matches_any(wanted: &str, etag: &str) -> bool {
    wanted.split(',').map(str::trim).any(|one| one == "*" || one == etag)
}

fn select_range(range: &str, length: u64) -> Selection {
    let (first, last) = match bounds(range) {
        Some((Some(first), None)) => (first, u64::MAX),
        Some((Some(first), Some(last))) if first <= last => (first, last),
        Some((None, Some(count))) => (length.saturating_sub(count), u64::MAX),
        _ => return Selection::Full,
    };
    if first < length { Selection::Range { first, last: last.min(length - 1) } } else { Selection::Unsatisfiable }
}

/// Parses the two bounds of `bytes=first-last`.
fn bounds(range: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, bounds) = range.split_once('=')?;
    let (first, last) = bounds.trim().split_once('-')?;
    let bytes = unit.trim().eq_ignore_ascii_case("bytes");
    bytes.then_some((bound(first)?, bound(last)?))
}

/// Parses a bound, which may be empty or larger than any length.
fn bound(text: &str) -> Option<Option<u64>> {
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
    fn valid_ranges_are_selected_and_others_ignored() {
        let part = |first, last| Selection::Range { first, last };
        check(&[], 10, Selection::Full);
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
            check(&[("range", ignored)], 10, Selection::Full);
        }
    }

    #[test]
    fn a_range_applies_only_to_the_expected_version() {
        let part = Selection::Range { first: 3, last: 9 };
        check(&[("range", "bytes=3-"), ("if-range", "\"bytes-10\"")], 10, part);
        check(&[("range", "bytes=3-"), ("if-range", "\"bytes-11\"")], 10, Selection::Full);
        check(&[("range", "bytes=3-"), ("if-range", "W/\"bytes-10\"")], 10, Selection::Full);
        check(&[("range", "bytes=3-"), ("if-range", "Fri, 31 Dec 1999 23:59:59 GMT")], 10, Selection::Full);
        check(&[("range", "bytes=3-"), ("if-match", "\"bytes-10\"")], 10, part);
        check(&[("range", "bytes=3-"), ("if-match", "\"x\", \"bytes-10\"")], 10, part);
        check(&[("range", "bytes=3-"), ("if-match", "*")], 10, part);
        check(&[("range", "bytes=3-"), ("if-match", "\"bytes-11\"")], 10, Selection::PreconditionFailed);
        check(&[("if-match", "W/\"bytes-10\"")], 10, Selection::PreconditionFailed);
    }

    #[test]
    fn only_get_supports_ranges() {
        let headers = [(header::RANGE, "bytes=0-1".parse().unwrap())].into_iter().collect();
        assert_eq!(select(&Method::HEAD, &headers, 10), Selection::Full);
    }
}

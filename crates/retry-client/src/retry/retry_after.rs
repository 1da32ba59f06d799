//! `Retry-After`: how long the client should wait before the next attempt. RFC 9110, section 10.2.3.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::RETRY_AFTER};

/// Returns the wait of the first valid `Retry-After`, at the time `now`.
///
/// Seconds beyond the range of `u64` are its maximum, and a date in the past is a wait of zero. Similar headers such as
/// `X-RateLimit-Reset` are ignored, as servers do not agree on their meaning.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let values = headers.get_all(RETRY_AFTER).iter();
    values.filter_map(|value| value.to_str().ok()).find_map(|value| parse(value.trim(), now))
}

fn parse(value: &str, now: SystemTime) -> Option<Duration> {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits fail to parse only if there are too many.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const NOON: u64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT, the date of RFC 9110's examples

    fn check(values: &[&'static str], seconds: Option<u64>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(RETRY_AFTER, HeaderValue::from_static(value));
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOON);
        assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{values:?}");
    }

    #[test]
    fn seconds() {
        check(&["2"], Some(2));
        check(&["0"], Some(0));
        check(&[" 120 "], Some(120));
        check(&["99999999999999999999"], Some(u64::MAX));
    }

    #[test]
    fn all_three_date_formats() {
        check(&["Sun, 06 Nov 1994 08:50:37 GMT"], Some(60));
        check(&["Sunday, 06-Nov-94 08:50:37 GMT"], Some(60));
        check(&["Sun Nov  6 08:50:37 1994"], Some(60));
        check(&["Fri, 31 Dec 1993 23:59:59 GMT"], Some(0));
    }

    #[test]
    fn invalid_values_are_ignored() {
        for value in ["-2", "+1", "1.0", "1e3", "", " ", "soon", "Fri, 32 Dec 1999 23:59:59 GMT", "2, 3", "٣"] {
            let mut headers = HeaderMap::new();
            headers.append(RETRY_AFTER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(retry_after(&headers, SystemTime::UNIX_EPOCH), None, "{value:?}");
        }
        check(&[], None);
    }

    #[test]
    fn the_first_valid_value_counts() {
        check(&["2", "7"], Some(2));
        check(&["soon", "7"], Some(7));
    }

    #[test]
    fn similar_headers_are_ignored() {
        let headers = HeaderMap::from_iter([("x-ratelimit-reset".parse().unwrap(), HeaderValue::from_static("9"))]);
        assert_eq!(retry_after(&headers, SystemTime::UNIX_EPOCH), None);
    }
}

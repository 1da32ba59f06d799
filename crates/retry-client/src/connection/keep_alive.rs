//! `Keep-Alive`: how long a server keeps a connection without a request. RFC 2068, section 19.7.1, and in use since.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A request needs time to arrive: so much before the server closes a connection, it is used no more.
const MARGIN: Duration = Duration::from_secs(1);

/// How long a connection may be kept unused after a response with these headers; `None` if the server does not say.
///
/// It is the server's own limit less a second, and at least half of it.
pub(crate) fn limit(headers: &HeaderMap) -> Option<Duration> {
    // Most responses have none: to look at each name is cheaper than to look this one up.
    let (_, value) = headers.iter().find(|(name, _)| **name == KEEP_ALIVE)?;
    let parameters = value.to_str().ok()?.split(',');
    let mut timeouts = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().trim_matches('"').parse().ok()).flatten()
    });
    let timeout = Duration::from_secs(timeouts.next()?);
    Some(timeout.saturating_sub(MARGIN).max(timeout / 2))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_connection_is_kept_for_less_than_its_server_keeps_it() {
        let check = |value, expected: Option<u64>| {
            let headers = HeaderMap::from_iter([(KEEP_ALIVE, HeaderValue::from_static(value))]);
            assert_eq!(limit(&headers), expected.map(Duration::from_millis), "{value}");
        };
        check("timeout=5", Some(4_000));
        check("timeout=5, max=100", Some(4_000));
        check("max=100,Timeout = 2", Some(1_000));
        check("timeout=\"3\"", Some(2_000));
        check("timeout=1", Some(500));
        check("timeout=0", Some(0));
        check("max=100", None);
        check("timeout=soon", None);
        check("timeout", None);
        check("", None);
        assert_eq!(limit(&HeaderMap::new()), None);
    }
}

//! `Keep-Alive`: how long a server keeps an idle connection open. RFC 2068, section 19.7.1.

use std::time::Duration;

use http::HeaderMap;

use crate::request::hop_by_hop::KEEP_ALIVE;

/// A connection is not reused this long before the server closes it, as a request takes time to arrive.
const MARGIN: Duration = Duration::from_secs(1);

/// Returns how long a connection may be idle after a response with these headers: the server's limit minus a second, but
/// at least half of it. `None` if the server does not say.
pub(crate) fn limit(headers: &HeaderMap) -> Option<Duration> {
    // Few responses have it: comparing each name is cheaper than a look-up.
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
    fn a_connection_expires_before_its_server_closes_it() {
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

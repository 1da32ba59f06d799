//! The deadlines that clients set for their requests.

use std::time::Duration;

use http::HeaderMap;
use retry_client::DeadlineHeader;

/// How clients set deadlines for their requests.
#[derive(Clone, Debug)]
pub(crate) struct ClientDeadlines {
    /// The header in which they do so.
    pub(crate) header: DeadlineHeader,
    /// The deadline of the other requests, which no client can extend. `None` if there is none.
    pub(crate) longest: Option<Duration>,
}

impl ClientDeadlines {
    /// Returns the deadline of a request if its client has shortened it.
    pub(crate) fn shortened(&self, headers: &HeaderMap) -> Option<Duration> {
        self.header.read(headers).filter(|deadline| self.longest.is_none_or(|longest| *deadline < longest))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_client_can_shorten_its_deadline_but_not_extend_it() {
        let name = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
        let check = |longest: Option<u64>, value: &'static str, expected: Option<u64>| {
            let deadlines =
                ClientDeadlines { header: name.clone().into(), longest: longest.map(Duration::from_millis) };
            let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(value))]);
            assert_eq!(deadlines.shortened(&headers), expected.map(Duration::from_millis), "{longest:?} {value}");
        };
        check(Some(1000), "999", Some(999));
        check(Some(1000), "1000", None);
        check(Some(1000), "5000", None);
        check(None, "5000", Some(5000));
        for ignored in ["0", "-1", "soon", ""] {
            check(Some(1000), ignored, None);
            check(None, ignored, None);
        }
    }
}

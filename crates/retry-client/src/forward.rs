//! What of an inbound request goes on to the next server.

use http::{
    HeaderMap, HeaderName,
    header::{CONNECTION, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE},
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

const ALWAYS: [HeaderName; 8] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE];

/// Removes the headers that concern one hop only: those of RFC 9110, section 7.6.1, and those named in
/// `Connection`. For whoever sends an inbound request on with [`execute`](crate::Client::execute);
/// [`forward`](crate::Client::forward) does it by itself.
///
/// `Trailer` stays: without it trailers are not sent on over HTTP/1.1.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have few headers and none of these: to look at each once is cheaper than to look up eight.
    let mut hop_by_hop: Vec<HeaderName> = headers.keys().filter(|name| ALWAYS.contains(name)).cloned().collect();
    if hop_by_hop.contains(&CONNECTION) {
        let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        hop_by_hop.extend(named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()));
    }
    for name in hop_by_hop {
        headers.remove(name);
    }
}

/// Makes the headers of an inbound request those of one to the client's own server.
pub(crate) fn readdress(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(HOST);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_concerns_one_hop_stays_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Secret-Hop"),
            ("connection", "x-other, @@@"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-secret-hop", "1"),
            ("x-other", "2"),
            ("host", "inbound"),
            ("trailer", "digest"),
            ("x-kept", "3"),
            ("content-type", "text/plain"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        readdress(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "trailer", "x-kept"]);
    }
}

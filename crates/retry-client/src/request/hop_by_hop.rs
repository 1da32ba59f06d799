//! What of an inbound message goes on to the next hop.

use http::{
    HeaderMap, HeaderName, HeaderValue,
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

/// Removes white space around values. HTTP/1.1 ignores it, and in HTTP/2 it makes a message malformed (RFC 9113, section
/// 8.2.1), which h2 lets pass. For whoever passes messages of HTTP/2 on; the client cleans each response so.
pub fn trim_values(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        let trimmed = value.as_bytes().trim_ascii();
        if trimmed.len() < value.len()
            && let Ok(trimmed) = HeaderValue::from_bytes(trimmed)
        {
            *value = trimmed;
        }
    }
}

/// Makes the headers of an inbound request those of one to the client's own server.
pub(crate) fn readdress(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    headers.remove(HOST);
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn values_lose_their_outer_white_space() {
        let mut headers = HeaderMap::new();
        for value in [" a ", "b", "\tc d\t", " "] {
            headers.append("x", HeaderValue::from_static(value));
        }
        trim_values(&mut headers);
        assert_eq!(Vec::from_iter(headers.get_all("x")), ["a", "b", "c d", ""]);
    }
}

//! The headers of messages that are forwarded to the next hop.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE},
};

pub(crate) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

const HOP_BY_HOP: [HeaderName; 8] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE];

/// Removes the hop-by-hop headers: those of RFC 9110, section 7.6.1, and those named in `Connection`.
///
/// Call it before you forward a request with [`execute`](crate::Client::execute); [`forward`](crate::Client::forward)
/// does so itself. `Trailer` is not removed, as hyper sends trailers over HTTP/1.1 only if it names them.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have few headers and none of these: one pass is cheaper than eight look-ups.
    let mut hop_by_hop: Vec<HeaderName> = headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned().collect();
    if hop_by_hop.contains(&CONNECTION) {
        let named = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
        hop_by_hop.extend(named.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()));
    }
    for name in hop_by_hop {
        headers.remove(name);
    }
}

/// Removes whitespace around header values.
///
/// HTTP/1.1 ignores it. An HTTP/2 message with such whitespace is malformed (RFC 9113, section 8.2.1), but h2 accepts it.
/// Call it before you forward an HTTP/2 request; the client does so for each response.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_by_hop_headers_are_removed() {
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
            ("trailer", "digest"),
            ("x-kept", "3"),
            ("content-type", "text/plain"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "trailer", "x-kept"]);
    }

    #[test]
    fn whitespace_around_values_is_removed() {
        let mut headers = HeaderMap::new();
        for value in [" a ", "b", "\tc d\t", " "] {
            headers.append("x", HeaderValue::from_static(value));
        }
        trim_values(&mut headers);
        assert_eq!(Vec::from_iter(headers.get_all("x")), ["a", "b", "c d", ""]);
    }
}

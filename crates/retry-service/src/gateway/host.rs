//! The host that a request is for. RFC 9112, section 3.2; RFC 9113, section 8.3.1.

use std::net::Ipv6Addr;

use http::{HeaderValue, Request, Version, header::HOST};

/// The host of a request is missing, ambiguous or malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadHost;

/// Returns the host that a request is for, in the form of `Host`: that of its target, or else of its `Host` header.
/// `None` for an HTTP/1.0 request without a host.
pub(super) fn of<B>(request: &Request<B>) -> Result<Option<HeaderValue>, BadHost> {
    let mut named = request.headers().get_all(HOST).iter();
    let host = named.next();
    if named.next().is_some() || host.is_some_and(|host| !is_host(host.as_bytes())) {
        return Err(BadHost);
    }
    match (request.uri().authority(), host) {
        // Over HTTP/1.1 the target takes precedence; over HTTP/2 both must agree.
        (Some(authority), Some(host)) if request.version() == Version::HTTP_2 && !is_same(authority.as_str(), host) => {
            Err(BadHost)
        }
        (Some(authority), Some(host)) if authority.as_str().as_bytes() == host.as_bytes() => Ok(Some(host.clone())),
        (Some(authority), _) if is_host(authority.as_str().as_bytes()) => {
            HeaderValue::from_str(authority.as_str()).map(Some).map_err(|_| BadHost)
        }
        (Some(_), _) => Err(BadHost),
        (None, None) if request.version() > Version::HTTP_10 => Err(BadHost),
        (None, host) => Ok(host.cloned()),
    }
}

fn is_same(authority: &str, host: &HeaderValue) -> bool {
    authority.as_bytes().eq_ignore_ascii_case(host.as_bytes())
}

/// Whether a text is a host with an optional port, in the form of RFC 3986, section 3.2: without a user name, and safe
/// to put into a URL or a page. It may be empty, as for a target without an authority.
pub(super) fn is_host(text: &[u8]) -> bool {
    if let Some(rest) = text.strip_prefix(b"[") {
        let literal = str::from_utf8(rest).ok().and_then(|rest| rest.split_once(']'));
        return literal.is_some_and(|(address, port)| address.parse::<Ipv6Addr>().is_ok() && is_port(port.as_bytes()));
    }
    let colon = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
    let (name, port) = text.split_at(colon);
    is_name(name) && is_port(port)
}

/// Whether a text is empty, or a colon and a port.
fn is_port(text: &[u8]) -> bool {
    let [b':', port @ ..] = text else { return text.is_empty() };
    let digits = str::from_utf8(port).ok().filter(|_| port.iter().all(u8::is_ascii_digit));
    digits.is_some_and(|digits| digits.is_empty() || digits.parse::<u16>().is_ok())
}

fn is_name(name: &[u8]) -> bool {
    let is_escape = |at: usize| name.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
    name.iter().enumerate().all(|(at, byte)| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => true,
        b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
        b'%' => is_escape(at),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_host_is_an_error() {
        for host in [
            "",
            "a",
            "shop.example",
            "shop.example:80",
            "a_b",
            "10.0.0.1:8080",
            "[::1]",
            "[::1]:80",
            "a:",
            "%41b",
            "xn--a",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b", "<script>", "evil/../", "u:p@h", "u@h", "a:b", "a:99999", "a:80:80", "[::1", "[x]", "[::1]x", "a%4",
            "a%zz", "a\"b", "a\\b", "a#b", "a?b", "é",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
        assert!(!is_host(b"\xff"));
    }

    #[test]
    fn the_host_of_the_target_takes_precedence() {
        let check = |version, uri: &str, hosts: &[&str], expected: Result<Option<&str>, BadHost>| {
            let mut request = Request::builder().version(version).uri(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let host = of(&request.body(()).unwrap());
            assert_eq!(
                host,
                expected.map(|host| host.map(|host| HeaderValue::from_str(host).unwrap())),
                "{uri} {hosts:?}"
            );
        };
        check(Version::HTTP_11, "/", &["a"], Ok(Some("a")));
        check(Version::HTTP_11, "/", &[""], Ok(Some("")));
        check(Version::HTTP_11, "/", &[], Err(BadHost));
        check(Version::HTTP_10, "/", &[], Ok(None));
        check(Version::HTTP_11, "/", &["a", "a"], Err(BadHost));
        check(Version::HTTP_11, "/", &["a b"], Err(BadHost));
        check(Version::HTTP_11, "http://good/", &["evil"], Ok(Some("good")));
        check(Version::HTTP_11, "http://good/", &["a b"], Err(BadHost));
        check(Version::HTTP_2, "http://good/", &["evil"], Err(BadHost));
        check(Version::HTTP_2, "http://good/", &["Good"], Ok(Some("good")));
        check(Version::HTTP_2, "http://good/", &[], Ok(Some("good")));
        check(Version::HTTP_2, "/", &["a"], Ok(Some("a")));
        check(Version::HTTP_2, "/", &[], Err(BadHost));
        check(Version::HTTP_2, "http://u:p@good/", &[], Err(BadHost));
    }
}

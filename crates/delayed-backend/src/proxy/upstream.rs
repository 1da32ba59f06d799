//! The server that requests are passed to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};

/// The server that a backend passes requests to.
///
/// A path is put before the path of each request.
///
/// ```
/// use delayed_backend::Upstream;
///
/// let upstream: Upstream = "http://127.0.0.1:3000/api/".parse()?;
/// assert_eq!(upstream.to_string(), "http://127.0.0.1:3000/api");
///
/// let error = "https://example.com".parse::<Upstream>().unwrap_err();
/// assert!(error.to_string().starts_with("https is not supported"));
/// # Ok::<(), delayed_backend::UpstreamError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    authority: Authority,
    /// The `Host` of its requests.
    host: HeaderValue,
    /// Empty, or a path without a slash at its end.
    prefix: String,
}

/// A text that is not the URL of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The text is not an http URL.
    #[error("expected a URL such as http://127.0.0.1:3000")]
    NotHttp,
    /// The scheme is https.
    #[error("https is not supported; put a proxy that terminates TLS in between, or use an http URL")]
    Https,
    /// The URL has a user name, or a query.
    #[error("expected scheme, host, port and path only, such as http://127.0.0.1:3000/api")]
    Parts,
}

impl Upstream {
    /// Returns the name or IP address, without the brackets of an IPv6 address.
    pub(crate) fn host(&self) -> &str {
        self.authority.host().trim_matches(['[', ']'])
    }

    pub(crate) fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(80)
    }

    /// Returns whether the upstream is a server of this machine that listens on this address.
    pub(crate) fn is_at(&self, listener: SocketAddr) -> bool {
        let is_same = match self.host().parse::<IpAddr>() {
            Ok(ip) => ip == listener.ip() || (ip.is_loopback() && listener.ip().is_unspecified()),
            Err(_) => self.host() == "localhost" && (listener.ip().is_loopback() || listener.ip().is_unspecified()),
        };
        is_same && self.port() == listener.port()
    }

    pub(crate) fn host_field(&self) -> HeaderValue {
        self.host.clone()
    }

    /// Returns the target of a request to the upstream, in origin form or as `*` (RFC 9112, section 3.2).
    pub(crate) fn target(&self, request: &Uri) -> Uri {
        let target = request.path_and_query().map_or("/", PathAndQuery::as_str);
        if target == "*" {
            return Uri::from_static("*");
        }
        let target = format!("{}{target}", self.prefix);
        // Both parts are valid, so the whole is.
        target.parse().unwrap_or_default()
    }
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.parse::<Uri>().map_err(|_| UpstreamError::NotHttp)?.into_parts();
        match parts.scheme {
            Some(scheme) if scheme == Scheme::HTTP => {}
            Some(scheme) if scheme == Scheme::HTTPS => return Err(UpstreamError::Https),
            _ => return Err(UpstreamError::NotHttp),
        }
        let authority = parts.authority.ok_or(UpstreamError::NotHttp)?;
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if authority.as_str().contains('@') || path.query().is_some() {
            return Err(UpstreamError::Parts);
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| UpstreamError::NotHttp)?;
        if authority
            .as_str()
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']') && port.parse() == Ok(0_u16))
        {
            return Err(UpstreamError::NotHttp);
        }
        Ok(Self { authority, host, prefix: path.path().trim_end_matches('/').to_owned() })
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: u16, target: &str) {
        let upstream: Upstream = text.parse().unwrap();
        let request = "/a%20b?c=d".parse().unwrap();
        assert_eq!((upstream.host(), upstream.port()), (host, port));
        assert_eq!(upstream.target(&request), target);
    }

    #[test]
    fn a_path_comes_before_the_path_of_a_request() {
        check("http://example.com", "example.com", 80, "/a%20b?c=d");
        check("http://example.com:3000/", "example.com", 3000, "/a%20b?c=d");
        check("http://[::1]:3000/api", "::1", 3000, "/api/a%20b?c=d");
        check("http://127.0.0.1/api/v1/", "127.0.0.1", 80, "/api/v1/a%20b?c=d");
    }

    #[test]
    fn other_forms_of_a_target_are_sent_in_origin_form_or_as_an_asterisk() {
        let upstream: Upstream = "http://example.com/api".parse().unwrap();
        assert_eq!(upstream.target(&"http://proxy:8080/a?b".parse().unwrap()), "/api/a?b");
        assert_eq!(upstream.target(&"http://proxy:8080".parse().unwrap()), "/api/");
        assert_eq!(upstream.target(&"*".parse().unwrap()), "*");
    }

    #[test]
    fn an_upstream_may_be_the_backend_itself() {
        let is_at = |url: &str, listener: &str| url.parse::<Upstream>().unwrap().is_at(listener.parse().unwrap());
        for url in ["http://127.0.0.1:8080", "http://localhost:8080/api"] {
            assert!(is_at(url, "127.0.0.1:8080") && is_at(url, "0.0.0.0:8080"));
            assert!(!is_at(url, "127.0.0.1:8081") && !is_at(url, "192.0.2.1:8080"));
        }
        assert!(is_at("http://[::1]:8080", "[::1]:8080") && !is_at("http://example.com:8080", "127.0.0.1:8080"));
    }

    #[test]
    fn other_urls_are_rejected() {
        for (text, expected) in [
            ("", UpstreamError::NotHttp),
            ("example.com", UpstreamError::NotHttp),
            ("/api", UpstreamError::NotHttp),
            ("ftp://example.com", UpstreamError::NotHttp),
            ("http://example.com:0", UpstreamError::NotHttp),
            ("https://example.com", UpstreamError::Https),
            ("http://user@example.com", UpstreamError::Parts),
            ("http://example.com/?a=b", UpstreamError::Parts),
        ] {
            assert_eq!(text.parse::<Upstream>().unwrap_err(), expected, "{text}");
        }
    }
}

//! A proxy from the environment: which one, and how a connection gets through it.

use std::fmt;

use bytes::Bytes;
use http::{
    HeaderValue, Request, StatusCode, Uri,
    header::{HOST, PROXY_AUTHORIZATION},
    uri::Scheme,
};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::proxy::matcher::Matcher;

use crate::{connection::connect::Plain, error::Error, error_chain::BoxError};

/// A proxy for one server.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    uri: Uri,
    /// Marked as sensitive, so that it does not print.
    authorization: Option<HeaderValue>,
    /// The server's host and port, where the proxy is asked for a tunnel to it. Otherwise the proxy gets the
    /// requests themselves.
    tunnel: Option<String>,
}

impl Proxy {
    /// What the environment says of a server. The one place that reads it.
    pub(crate) fn from_env(server: &Uri, http2: bool) -> Result<Option<Self>, Error> {
        Self::find(&Matcher::from_env(), server, http2)
    }

    fn find(matcher: &Matcher, server: &Uri, http2: bool) -> Result<Option<Self>, Error> {
        let Some(found) = matcher.intercept(server) else { return Ok(None) };
        let https = server.scheme() == Some(&Scheme::HTTPS);
        // Known to speak HTTP/2 is the server, not the proxy.
        let tunnel = (https || http2).then(|| place(server, if https { 443 } else { 80 }));
        let proxy = Self { uri: found.uri().clone(), authorization: found.basic_auth().cloned(), tunnel };
        if proxy.uri.scheme() != Some(&Scheme::HTTP) {
            let scheme = proxy.uri.scheme_str().unwrap_or_default();
            return Err(Error::bad_input(format!(
                "proxy_from_env: the environment has '{scheme}://{proxy}': expected a proxy that starts with http://"
            )));
        }
        Ok(Some(proxy))
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The header for requests that the proxy itself reads.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref().filter(|_| self.tunnel.is_none())
    }

    /// Makes a connection to the proxy one to the server.
    pub(crate) async fn enter(self, io: Plain) -> Result<Plain, BoxError> {
        let Some(server) = self.tunnel else { return Ok(io.proxied()) };
        let (mut sender, connection) = http1::handshake(io).await?;
        // Ends by itself: with the tunnel, or as soon as nobody holds the sender.
        let connection = tokio::spawn(connection.without_shutdown());
        let mut request = Request::connect(&*server).header(HOST, &*server);
        if let Some(authorization) = self.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let status = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.status();
        if !status.is_success() {
            return Err(NoTunnel(status).into());
        }
        let parts = connection.await??;
        // A server of HTTP/2 may have spoken already.
        Ok(parts.io.unread(parts.read_buf))
    }
}

/// The proxy's host and port. Not what the environment has: in a malformed URL, what stands before them may
/// be a secret.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&place(&self.uri, 80))
    }
}

fn place(uri: &Uri, default_port: u16) -> String {
    format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(default_port))
}

/// The proxy's refusal of a tunnel.
#[derive(Debug, thiserror::Error)]
#[error("the proxy returned {0} for CONNECT")]
pub(crate) struct NoTunnel(StatusCode);

impl NoTunnel {
    /// Whether the proxy would refuse again: what it says of us and not of the server or the moment.
    pub(crate) fn is_hopeless(&self) -> bool {
        let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        self.0.is_client_error() && !passes.contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(matcher: &Matcher, server: &'static str) -> Option<Proxy> {
        Proxy::find(matcher, &Uri::from_static(server), false).unwrap()
    }

    #[test]
    fn http_goes_to_the_proxy_and_https_through_it() {
        let matcher = Matcher::builder().http("http://a:1").https("b:2").no("internal,10.0.0.0/8").build();
        let check = |server, expected: Option<(&str, Option<&str>)>| {
            let proxy = find(&matcher, server);
            let found = proxy.as_ref().map(|proxy| (proxy.to_string(), proxy.tunnel.as_deref()));
            assert_eq!(found, expected.map(|(proxy, tunnel)| (proxy.to_owned(), tunnel)), "{server}");
        };
        check("http://server/", Some(("a:1", None)));
        check("https://server/", Some(("b:2", Some("server:443"))));
        check("https://[::1]:8443/", Some(("b:2", Some("[::1]:8443"))));
        check("http://internal/", None);
        check("https://x.internal/", None);
        check("http://10.1.2.3/", None);
        let http2 = Proxy::find(&matcher, &Uri::from_static("http://server/"), true).unwrap().unwrap();
        assert_eq!(http2.tunnel.as_deref(), Some("server:80"));
    }

    #[test]
    fn credentials_are_for_the_proxy_alone_and_never_print() {
        let matcher = Matcher::builder().all("http://me:hush@proxy:1").build();
        let (http, https) = (find(&matcher, "http://h/").unwrap(), find(&matcher, "https://h/").unwrap());
        assert_eq!(http.authorization().unwrap(), "Basic bWU6aHVzaA==");
        assert_eq!(https.authorization(), None, "the server would get them");
        let odd = find(&Matcher::builder().all("http://me:hu@sh@proxy:1").build(), "http://h/").unwrap();
        assert_eq!(odd.to_string(), "proxy:1");
        let printed = format!("{http:?} {https:?}");
        assert!(!printed.contains("hush") && !printed.contains("bWU6"), "{printed}");
    }

    #[test]
    fn a_proxy_of_another_kind_is_refused_rather_than_passed_by() {
        let matcher = Matcher::builder().all("socks5://me:hush@h:1").build();
        let error = Proxy::find(&matcher, &Uri::from_static("http://h/"), false).unwrap_err();
        let expected = "proxy_from_env: the environment has 'socks5://h:1': expected a proxy that starts with http://";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_tunnel_refused_for_our_own_sake_is_not_asked_for_again() {
        let check = |code, expected| {
            assert_eq!(NoTunnel(StatusCode::from_u16(code).unwrap()).is_hopeless(), expected, "{code}");
        };
        check(403, true);
        check(407, true);
        check(408, false);
        check(429, false);
        check(502, false);
        check(503, false);
    }
}

//! The proxy that the environment names, and connecting through it.

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

use crate::{connection::tracked_io::TrackedIo, error::Error, error_chain::BoxError};

/// The proxy for one server.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    uri: Uri,
    /// Marked as sensitive, so that it is not displayed.
    authorization: Option<HeaderValue>,
    /// The server's host and port if the proxy is to open a tunnel to it. `None` if the proxy forwards the requests.
    tunnel: Option<String>,
}

impl Proxy {
    /// Reads from the environment which proxy is for this server.
    pub(crate) fn from_env(server: &Uri, http2: bool) -> Result<Option<Self>, Error> {
        Self::find(&Matcher::from_env(), server, http2)
    }

    fn find(matcher: &Matcher, server: &Uri, http2: bool) -> Result<Option<Self>, Error> {
        let Some(found) = matcher.intercept(server) else { return Ok(None) };
        let https = server.scheme() == Some(&Scheme::HTTPS);
        // The server is known to support HTTP/2, the proxy is not.
        let tunnel = (https || http2).then(|| host_and_port(server, if https { 443 } else { 80 }));
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

    /// Returns the header for requests that the proxy forwards. A tunnel has it in its own request.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref().filter(|_| self.tunnel.is_none())
    }

    /// Turns a connection to the proxy into a connection to the server.
    pub(crate) async fn connect(self, io: TrackedIo) -> Result<TrackedIo, BoxError> {
        let Some(server) = self.tunnel else { return Ok(io.proxied()) };
        let (mut sender, connection) = http1::handshake(io).await?;
        // The task ends with the tunnel, or when the sender is dropped.
        let connection = tokio::spawn(connection.without_shutdown());
        let mut request = Request::connect(&*server).header(HOST, &*server);
        if let Some(authorization) = self.authorization {
            request = request.header(PROXY_AUTHORIZATION, authorization);
        }
        let status = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.status();
        if !status.is_success() {
            return Err(TunnelRejected(status).into());
        }
        let parts = connection.await??;
        // An HTTP/2 server may have sent its settings already.
        Ok(parts.io.unread(parts.read_buf))
    }
}

/// Displays only host and port, as the rest of a malformed URL may be confidential.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&host_and_port(&self.uri, 80))
    }
}

fn host_and_port(uri: &Uri, default_port: u16) -> String {
    format!("{}:{}", uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(default_port))
}

/// The proxy rejected a tunnel.
#[derive(Debug, thiserror::Error)]
#[error("the proxy returned {0} for CONNECT")]
pub(crate) struct TunnelRejected(StatusCode);

impl TunnelRejected {
    /// Whether the proxy would reject another request too: the status is about the client, not about the server or the
    /// load.
    pub(crate) fn is_permanent(&self) -> bool {
        let temporary = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        self.0.is_client_error() && !temporary.contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(matcher: &Matcher, server: &'static str) -> Option<Proxy> {
        Proxy::find(matcher, &Uri::from_static(server), false).unwrap()
    }

    #[test]
    fn http_is_forwarded_and_https_is_tunneled() {
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
    fn credentials_are_for_the_proxy_only_and_not_displayed() {
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
    fn a_proxy_of_another_kind_is_an_error() {
        let matcher = Matcher::builder().all("socks5://me:hush@h:1").build();
        let error = Proxy::find(&matcher, &Uri::from_static("http://h/"), false).unwrap_err();
        let expected = "proxy_from_env: the environment has 'socks5://h:1': expected a proxy that starts with http://";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn client_errors_of_the_proxy_are_permanent() {
        let check = |code, expected| {
            assert_eq!(TunnelRejected(StatusCode::from_u16(code).unwrap()).is_permanent(), expected, "{code}");
        };
        check(403, true);
        check(407, true);
        check(408, false);
        check(429, false);
        check(502, false);
        check(503, false);
    }
}

//! The base URL of a client, and the forms of request targets.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderValue, Method, Request, Uri, Version,
    header::{AUTHORIZATION, CONTENT_LENGTH, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING},
    uri::{Authority, PathAndQuery, Scheme},
};
use percent_encoding::percent_decode_str;

use crate::{error::Error, request::default_headers::unshared};

/// A valid base URL.
#[derive(Clone, Debug)]
pub(crate) struct BaseUrl {
    scheme: Scheme,
    /// Without user name and password, so that they are not displayed.
    authority: Authority,
    /// The value of `Host`: the authority without the default port.
    pub(crate) host: HeaderValue,
    /// The path without its trailing slash.
    pub(crate) prefix: String,
    /// The user name and password as a header (RFC 7617).
    authorization: Option<HeaderValue>,
    /// Those of the proxy that forwards the requests, if there is one.
    proxy_authorization: Option<HeaderValue>,
}

impl BaseUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::bad_input(format!("base URL '{:?}': {why}", Redacted(url)));
        if url.contains('#') {
            return Err(invalid("expected no fragment: it is never sent"));
        }
        let uri: Uri = url.parse().map_err(|_| invalid("expected a URL like http://host:port"))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.filter(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme)).ok_or_else(|| {
            let redacted = Redacted(url);
            let example = if url.contains("://") { String::new() } else { format!(", such as http://{redacted:?}") };
            invalid(&format!("expected a URL that starts with http:// or https://{example}"))
        })?;
        if scheme == Scheme::HTTPS && !cfg!(feature = "tls") {
            return Err(invalid("https needs the feature `tls` of retry-client"));
        }
        let authority = parts.authority.ok_or_else(|| invalid("expected a host after http://"))?;
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() {
            return Err(invalid("expected no query: paths are appended to it"));
        }
        let (authority, authorization) = split_credentials(&authority)
            .ok_or_else(|| invalid("its host, port, user name or password is not valid"))?;
        let host = host_header(&scheme, &authority).ok_or_else(|| invalid("its host is not valid"))?;
        let prefix = path.path().trim_end_matches('/').to_owned();
        Ok(Self { scheme, authority, host, prefix, authorization, proxy_authorization: None })
    }

    /// Adds the credentials of the proxy that forwards the requests.
    pub(crate) fn with_proxy_authorization(self, proxy_authorization: Option<HeaderValue>) -> Self {
        Self { proxy_authorization, ..self }
    }

    /// Returns a copy for another thread.
    pub(crate) fn unshared(&self) -> Self {
        Self {
            scheme: self.scheme.clone(),
            authority: self.authority.as_str().parse().unwrap_or_else(|_| self.authority.clone()),
            host: unshared(&self.host),
            prefix: self.prefix.clone(),
            authorization: self.authorization.as_ref().map(unshared),
            proxy_authorization: self.proxy_authorization.as_ref().map(unshared),
        }
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Returns the host and port, for messages.
    pub(crate) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Returns the URL of a path, with or without a query.
    pub(crate) fn join(&self, path: &str) -> Result<Uri, Error> {
        let shown = without_query(path);
        let invalid = |why: &dyn fmt::Display| Error::bad_input(format!("path '{shown}': {why}"));
        if path.contains('#') {
            return Err(invalid(&"expected no fragment: it is never sent"));
        }
        // `OPTIONS *` is about the server, whatever the path of the base URL.
        let server_wide = path == "*";
        if !path.starts_with('/') && !server_wide {
            return Err(invalid(&"expected it to start with '/'"));
        }
        let prefix = if server_wide { "" } else { &self.prefix };
        let joined = PathAndQuery::try_from([prefix, path].concat())
            .map_err(|_| invalid(&"it has a character that must be percent-encoded"))?;
        self.url(self.authority.clone(), joined).map_err(|error| invalid(&error))
    }

    fn url(&self, authority: Authority, path: PathAndQuery) -> Result<Uri, http::Error> {
        Uri::builder().scheme(self.scheme.clone()).authority(authority).path_and_query(path).build()
    }

    /// Returns the URL of a path, or of a URL of this server.
    pub(crate) fn locate(&self, method: &Method, path_or_url: &str) -> Result<Uri, Error> {
        if path_or_url.starts_with('/') || !path_or_url.contains("://") {
            return self.join(path_or_url);
        }
        let url = path_or_url.parse().map_err(|_| {
            let shown = Redacted(without_query(path_or_url));
            Error::bad_input(format!("URL '{shown:?}': it is not valid"))
        })?;
        self.resolve(method, &url)
    }

    /// Returns the URL of a request whose URI is either a path, which is appended to the base URL, or a URL of this server,
    /// which has the base URL's path already.
    pub(crate) fn resolve(&self, method: &Method, uri: &Uri) -> Result<Uri, Error> {
        let other_server = uri.scheme().is_some_and(|scheme| *scheme != self.scheme)
            || uri.authority().is_some_and(|authority| *authority != self.authority);
        if other_server {
            let base = format!("{}://{}", self.scheme, self.authority);
            return Err(Error::bad_input(format!(
                "this client is for {base}: expected a path, or a URL that starts with this"
            )));
        }
        let invalid = |why: &dyn fmt::Display| Error::bad_input(format!("path '{}': {why}", uri.path()));
        let path = origin_form(method, uri).ok_or_else(|| invalid(&"expected it to start with '/'"))?;
        if self.prefix.is_empty() || uri.authority().is_some() {
            // Does not parse the path again.
            return self.url(self.authority.clone(), path).map_err(|error| invalid(&error));
        }
        self.join(path.as_str())
    }

    /// Converts a request to the form for an HTTP/1.1 connection to the server or to a proxy: RFC 9112, sections 3.2
    /// and 6. A request without `Host` gets that of the URL.
    pub(crate) fn address_http1<B: http_body::Body>(&self, request: &mut Request<B>, to_proxy: bool) {
        self.authorize(request);
        // A look-up would cost more, and an entry would reserve memory for one more header even if there is a host.
        if !request.headers().keys().any(|name| *name == HOST) {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        if request.version() != Version::HTTP_10 {
            *request.version_mut() = Version::HTTP_11;
            if request.body().size_hint().exact().is_none() && !request.headers().contains_key(CONTENT_LENGTH) {
                // hyper assumes that GET and HEAD have no body.
                request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
        }
        match request.uri().path_and_query().cloned() {
            Some(path) if !to_proxy => *request.uri_mut() = path.into(),
            Some(path) if !self.is_of(request.uri()) => self.set_url(request, self.authority.clone(), path),
            _ => {}
        }
    }

    /// Converts a request to the form for an HTTP/2 connection: RFC 9113, section 8.3.1. The URL's authority is the
    /// `Host` of the request, if that is another one.
    pub(crate) fn address_http2<B>(&self, request: &mut Request<B>) {
        self.authorize(request);
        let host = request.headers_mut().remove(HOST).filter(|host| *host != self.host);
        if host.is_none() && self.is_of(request.uri()) {
            return;
        }
        let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        let authority = authority.unwrap_or_else(|| self.authority.clone());
        if let Some(path) = request.uri().path_and_query().cloned() {
            self.set_url(request, authority, path);
        }
    }

    /// Adds the credentials, except to TRACE, whose response contains the request (RFC 9110, section 9.3.8).
    fn authorize<B>(&self, request: &mut Request<B>) {
        if *request.method() == Method::TRACE {
            return;
        }
        for (name, value) in [(AUTHORIZATION, &self.authorization), (PROXY_AUTHORIZATION, &self.proxy_authorization)] {
            if let Some(value) = value {
                request.headers_mut().entry(name).or_insert_with(|| value.clone());
            }
        }
    }

    /// Whether a URL has this scheme and authority.
    fn is_of(&self, uri: &Uri) -> bool {
        uri.scheme() == Some(&self.scheme) && uri.authority() == Some(&self.authority)
    }

    fn set_url<B>(&self, request: &mut Request<B>, authority: Authority, path: PathAndQuery) {
        if let Ok(uri) = self.url(authority, path) {
            *request.uri_mut() = uri;
        }
    }
}

/// Returns the path and query of a request target, whichever form of RFC 9112, section 3.2, it has. A URL without a path
/// has the path `/`.
///
/// `None` if the target is neither a path nor a URL, such as the `host:port` of `CONNECT`, and for `*` with a method other
/// than `OPTIONS`. The result has no fragment, as [`Uri`] drops it.
///
/// ```
/// use http::{Method, Uri};
/// use retry_client::origin_form;
///
/// let path = |uri: &'static str| origin_form(&Method::GET, &Uri::from_static(uri)).map(|path| path.to_string());
/// assert_eq!(path("http://shop.example?x").as_deref(), Some("/?x"));
/// assert_eq!(path("/a?b").as_deref(), Some("/a?b"));
/// assert_eq!(path("shop.example:80"), None);
/// ```
#[must_use]
pub fn origin_form(method: &Method, uri: &Uri) -> Option<PathAndQuery> {
    let path = uri.path_and_query()?;
    match path.as_str() {
        // The path of `http://host` reads the same, but would be sent as an empty one.
        "/" => Some(PathAndQuery::from_static("/")),
        "*" => (*method == Method::OPTIONS).then(|| path.clone()),
        text if text.starts_with('/') => Some(path.clone()),
        text if text.starts_with('?') => PathAndQuery::try_from(format!("/{text}")).ok(),
        _ => None,
    }
}

/// Returns a path or URL without its query, which may be confidential.
fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

/// Returns the value of `Host`: RFC 9110, section 7.2.
fn host_header(scheme: &Scheme, authority: &Authority) -> Option<HeaderValue> {
    let default_port = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let without_port = authority.port_u16() == Some(default_port);
    HeaderValue::from_str(if without_port { authority.host() } else { authority.as_str() }).ok()
}

/// Returns the authority without credentials, and the credentials as a header. `None` if they are invalid.
fn split_credentials(authority: &Authority) -> Option<(Authority, Option<HeaderValue>)> {
    let Some((credentials, host)) = authority.as_str().rsplit_once('@') else {
        return is_valid(authority).then(|| (authority.clone(), None));
    };
    let host = host.parse().ok().filter(is_valid)?;
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let mut plain = Vec::from_iter(percent_decode_str(user));
    plain.push(b':');
    plain.extend(percent_decode_str(password));
    let mut header = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(plain))).ok()?;
    // Excludes it from debug output, and from HTTP/2's compression tables.
    header.set_sensitive(true);
    Some((host, Some(header)))
}

/// Whether the host is not empty, and the port, if any, is from 0 to 65535.
fn is_valid(authority: &Authority) -> bool {
    !authority.host().is_empty() && (authority.port().is_some() || authority.as_str() == authority.host())
}

/// Prints a URL with `***` for user name and password, even if it is malformed.
#[derive(Clone)]
pub(crate) struct Redacted<T>(pub(crate) T);

impl<T: AsRef<str>> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.0.as_ref();
        // Everything before the last @ may be confidential, except a scheme.
        let Some((secret, rest)) = url.rsplit_once('@') else { return f.write_str(url) };
        if let Some((scheme, _)) = secret.split_once("://")
            && !scheme.is_empty()
            && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
        {
            write!(f, "{scheme}://")?;
        }
        write!(f, "***@{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_for_another_thread_is_equal_and_shares_nothing() {
        let url = BaseUrl::parse("http://me:secret@h:1/a").unwrap();
        let copy = url.unshared();
        let values = |url: &BaseUrl| {
            let authorization = url.authorization.clone().unwrap();
            assert!(authorization.is_sensitive());
            (url.authority.clone(), url.host.clone(), authorization, url.scheme.clone(), url.prefix.clone())
        };
        assert_eq!(values(&url), values(&copy));
        assert_ne!(url.authority.as_str().as_ptr(), copy.authority.as_str().as_ptr());
        assert_ne!(url.host.as_bytes().as_ptr(), copy.host.as_bytes().as_ptr());
    }

    #[test]
    fn paths_are_appended_to_the_base() {
        let check = |base, path, expected| {
            assert_eq!(BaseUrl::parse(base).unwrap().join(path).unwrap().to_string(), expected, "{base} {path}");
        };
        check("http://localhost:8080", "/hello", "http://localhost:8080/hello");
        check("http://localhost:8080/", "/hello?a=b", "http://localhost:8080/hello?a=b");
        check("http://h/api/v1", "/hello", "http://h/api/v1/hello");
        check("http://h/api/v1/", "/", "http://h/api/v1/");
        check("http://[::1]:80/", "/a/../b%2F", "http://[::1]:80/a/../b%2F");
        check("http://h/api", "*", "http://h*");
    }

    #[test]
    fn an_invalid_base_url_is_an_error() {
        let check = |base: &str, expected: &str| {
            assert_eq!(BaseUrl::parse(base).unwrap_err().to_string(), expected);
        };
        check("", "base URL '': expected a URL like http://host:port");
        check(
            "localhost",
            "base URL 'localhost': expected a URL that starts with http:// or https://, such as http://localhost",
        );
        check("ftp://localhost", "base URL 'ftp://localhost': expected a URL that starts with http:// or https://");
        check("http://", "base URL 'http://': expected a URL like http://host:port");
        check("http://h:99999", "base URL 'http://h:99999': its host, port, user name or password is not valid");
        check("http://h/#f", "base URL 'http://h/#f': expected no fragment: it is never sent");
        check("http://h/?q", "base URL 'http://h/?q': expected no query: paths are appended to it");
        check("http:x//me:secret@[://h", "base URL '***@[://h': expected a URL like http://host:port");
        check(
            "me:secret@h",
            "base URL '***@h': expected a URL that starts with http:// or https://, such as http://***@h",
        );
        check("http://me:secret@ho st", "base URL 'http://***@ho st': expected a URL like http://host:port");
    }

    #[test]
    fn https_needs_its_feature() {
        let https = BaseUrl::parse("https://h").map(|base| base.is_https());
        let unsupported = "base URL 'https://h': https needs the feature `tls` of retry-client";
        if cfg!(feature = "tls") {
            assert!(https.unwrap());
        } else {
            assert_eq!(https.unwrap_err().to_string(), unsupported);
        }
    }

    #[test]
    fn an_invalid_path_is_an_error() {
        let base = BaseUrl::parse("http://h").unwrap();
        let check = |path, expected: &str| assert_eq!(base.join(path).unwrap_err().to_string(), expected);
        check("hello", "path 'hello': expected it to start with '/'");
        check("", "path '': expected it to start with '/'");
        check("/a b", "path '/a b': it has a character that must be percent-encoded");
        check("/a?secret#f", "path '/a': expected no fragment: it is never sent");
        check("a?secret", "path 'a': expected it to start with '/'");
        check("/a?sec ret", "path '/a': it has a character that must be percent-encoded");
    }

    #[test]
    fn every_form_of_a_target_becomes_origin_form() {
        let check = |method: Method, target: &str, expected: Option<&str>| {
            let path = origin_form(&method, &target.parse().unwrap());
            let written = path.map(|path| Uri::from(path).to_string());
            assert_eq!(written.as_deref(), expected, "{method} {target}");
        };
        for target in ["/", "http://a", "http://a/", "http://a#f", "http://a/#f"] {
            check(Method::GET, target, Some("/"));
        }
        check(Method::GET, "http://a?x", Some("/?x"));
        check(Method::GET, "http://a?", Some("/?"));
        check(Method::GET, "http://a?x#f", Some("/?x"));
        check(Method::GET, "http://a/b?x", Some("/b?x"));
        check(Method::GET, "/a?b#c", Some("/a?b"));
        check(Method::GET, "//x", Some("//x"));
        check(Method::OPTIONS, "*", Some("*"));
        check(Method::GET, "*", None);
        // The form of HTTP/2.
        let server = Uri::builder().scheme("http").authority("a").path_and_query("*").build().unwrap();
        assert_eq!(origin_form(&Method::OPTIONS, &server).unwrap(), "*");
        check(Method::GET, "a", None);
        check(Method::CONNECT, "a:80", None);
    }

    #[test]
    fn over_http2_the_host_is_the_authority() {
        let base = BaseUrl::parse("http://h:1/x").unwrap();
        let check = |host: Option<&'static str>, uri: &'static str, expected: &str| {
            let mut request = Request::new(());
            *request.uri_mut() = Uri::from_static(uri);
            if let Some(host) = host {
                request.headers_mut().insert(HOST, HeaderValue::from_static(host));
            }
            base.address_http2(&mut request);
            assert_eq!(request.uri().to_string(), expected, "{host:?} {uri}");
            assert!(!request.headers().contains_key(HOST));
        };
        check(None, "http://h:1/x/y?z", "http://h:1/x/y?z");
        check(Some("h:1"), "http://h:1/x/y", "http://h:1/x/y");
        check(Some("shop.example"), "http://h:1/x/y?z", "http://shop.example/x/y?z");
        check(Some("shop.example"), "/x/y", "http://shop.example/x/y");
        check(None, "/x/y", "http://h:1/x/y");
        check(Some("no host"), "/x/y", "http://h:1/x/y");
    }

    #[test]
    fn a_request_for_another_server_is_an_error() {
        let base = BaseUrl::parse("http://me:secret@h:1").unwrap();
        let resolve = |uri| base.resolve(&Method::GET, &Uri::from_static(uri));
        assert!(resolve("http://h:1/x").is_ok());
        assert!(resolve("/x").is_ok());
        assert_eq!(resolve("http://h:1?x").unwrap().to_string(), "http://h:1/?x");
        assert_eq!(resolve("*").unwrap_err().to_string(), "path '*': expected it to start with '/'");
        assert_eq!(base.locate(&Method::GET, "http://h:1/x?y").unwrap(), "http://h:1/x?y");
        let other = resolve("http://evil/x").unwrap_err();
        assert_eq!(other.to_string(), "this client is for http://h:1: expected a path, or a URL that starts with this");
        for other in ["http://evil/x", "http://me:secret@evil/x", "ftp://h:1/"] {
            let error = base.locate(&Method::GET, other).unwrap_err();
            assert_eq!(
                error.to_string(),
                "this client is for http://h:1: expected a path, or a URL that starts with this"
            );
        }
        let invalid = base.locate(&Method::GET, "http://me:secret@h /x?token").unwrap_err();
        assert_eq!(invalid.to_string(), "URL 'http://***@h /x': it is not valid");
    }

    #[test]
    fn the_path_of_the_base_is_added_to_paths_and_not_to_urls() {
        let base = BaseUrl::parse("http://h/api").unwrap();
        let check = |target: &str, expected: &str| {
            assert_eq!(base.locate(&Method::GET, target).unwrap(), expected, "{target}");
            assert_eq!(base.resolve(&Method::GET, &target.parse().unwrap()).unwrap(), expected, "{target}");
        };
        check("/x?y", "http://h/api/x?y");
        check("/api/x", "http://h/api/api/x");
        check("/?to=http://elsewhere", "http://h/api/?to=http://elsewhere");
        check("http://h/api/x?y", "http://h/api/x?y");
        check("http://h/other", "http://h/other");
        check("http://h?y", "http://h/?y");
    }

    #[test]
    fn credentials_become_a_header_that_is_not_displayed() {
        let base = BaseUrl::parse("http://me:p%40ss@h:1/x").unwrap();
        let header = base.authorization.as_ref().unwrap();
        assert_eq!(header, "Basic bWU6cEBzcw==");
        assert_eq!(base.join("/y").unwrap().to_string(), "http://h:1/x/y");
        assert!(!format!("{base:?}").contains("bWU6"));
    }
}

//! The base URL of a client, and what paths become on it.

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderValue, Request, Uri, Version,
    header::HOST,
    uri::{Authority, PathAndQuery, Scheme},
};
use percent_encoding::percent_decode_str;

use crate::error::{Error, Redacted};

/// A checked base URL.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    scheme: Scheme,
    /// Without user name and password, so that whatever prints it prints no secret.
    authority: Authority,
    /// The authority as `Host` has it: without the port that the scheme implies.
    host: HeaderValue,
    /// Without the slash at its end: what is put before each path.
    prefix: String,
    /// The URL's user name and password, as the header they stand for (RFC 7617).
    pub(crate) authorization: Option<HeaderValue>,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let refuse = |why: &str| Error::bad_input(format!("base URL '{}': {why}", Redacted(url)));
        let uri: Uri = url.parse().map_err(|_| refuse("expected a URL like http://host:port"))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.filter(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
        let scheme = scheme.ok_or_else(|| refuse("expected a URL that starts with http:// or https://"))?;
        if scheme == Scheme::HTTPS && !cfg!(feature = "tls") {
            return Err(refuse("https needs the feature `tls` of retry-client"));
        }
        let authority = parts.authority.ok_or_else(|| refuse("expected a host after http://"))?;
        let path = parts.path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() {
            return Err(refuse("expected no query: paths are put behind it"));
        }
        let (authority, authorization) = split_credentials(&authority)
            .ok_or_else(|| refuse("its host, port, user name or password is not valid"))?;
        let host = host(&scheme, &authority).ok_or_else(|| refuse("its host is not valid"))?;
        Ok(Self { scheme, authority, host, prefix: path.path().trim_end_matches('/').to_owned(), authorization })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The host and port, for people to read.
    pub(crate) fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// The URL of a path (with or without a query) on this target.
    pub(crate) fn join(&self, path: &str) -> Result<Uri, Error> {
        let path = path.split_once('#').map_or(path, |(path, _fragment)| path);
        let refuse = |why| Error::bad_input(format!("path '{path}': {why}"));
        // `OPTIONS *` asks about the server as a whole, wherever on it the base is.
        let server_wide = path == "*";
        if !path.starts_with('/') && !server_wide {
            return Err(refuse("expected it to start with '/'"));
        }
        let joined = if self.prefix.is_empty() || server_wide {
            PathAndQuery::try_from(path)
        } else {
            PathAndQuery::try_from([&self.prefix, path].concat())
        };
        let joined = joined.map_err(|_| refuse("it has a character that must be percent-encoded"))?;
        self.at(joined).map_err(|error| Error::bad_input(format!("path '{path}': {error}")))
    }

    fn at(&self, path: PathAndQuery) -> Result<Uri, http::Error> {
        Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path).build()
    }

    /// The URL of a request that names either a path alone or a whole URL on this target.
    pub(crate) fn resolve(&self, uri: &Uri) -> Result<Uri, Error> {
        let elsewhere = uri.scheme().is_some_and(|scheme| *scheme != self.scheme)
            || uri.authority().is_some_and(|authority| *authority != self.authority);
        if elsewhere {
            let base = format!("{}://{}", self.scheme, self.authority);
            return Err(Error::bad_input(format!(
                "this client is for {base}: expected a path, or a URL that starts so"
            )));
        }
        match uri.path_and_query() {
            // As it is: a parsed path is a valid one.
            Some(path) if self.prefix.is_empty() && path.as_str().starts_with('/') => {
                self.at(path.clone()).map_err(|error| Error::bad_input(format!("path '{path}': {error}")))
            }
            path => self.join(path.map_or("/", PathAndQuery::as_str)),
        }
    }

    /// Names the server in a request that names none; once for all its attempts.
    pub(crate) fn name_host(&self, headers: &mut HeaderMap) {
        headers.entry(HOST).or_insert_with(|| self.host.clone());
    }

    /// Puts a request for this target into the form for an HTTP/1.1 connection to it, or to a proxy: RFC 9112,
    /// section 3.2.
    pub(crate) fn address_http1<B>(&self, request: &mut Request<B>, to_proxy: bool) {
        if request.version() != Version::HTTP_10 {
            *request.version_mut() = Version::HTTP_11;
        }
        if !to_proxy && let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = path.into();
        }
    }

    /// Puts a request for this target into the form for an HTTP/2 connection, should it not be any more: RFC 9113,
    /// section 8.3.1. The server's name is in its URL.
    pub(crate) fn address_http2<B>(&self, request: &mut Request<B>) {
        if request.headers().get(HOST) == Some(&self.host) {
            request.headers_mut().remove(HOST);
        }
        if request.uri().scheme().is_none()
            && let Some(Ok(uri)) = request.uri().path_and_query().cloned().map(|path| self.at(path))
        {
            *request.uri_mut() = uri;
        }
    }
}

/// The value of `Host`: RFC 9110, section 7.2.
fn host(scheme: &Scheme, authority: &Authority) -> Option<HeaderValue> {
    let implied = if *scheme == Scheme::HTTPS { 443 } else { 80 };
    let without_port = authority.port_u16() == Some(implied);
    HeaderValue::from_str(if without_port { authority.host() } else { authority.as_str() }).ok()
}

/// The authority without credentials, and the credentials as a header. None where they make no sense.
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
    // Keeps it out of debug output, and out of HTTP/2's compression tables.
    header.set_sensitive(true);
    Some((host, Some(header)))
}

/// Whether there is a host, and a port from 0 to 65535 if any.
fn is_valid(authority: &Authority) -> bool {
    !authority.host().is_empty() && (authority.port().is_some() || authority.as_str() == authority.host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_behind_the_base() {
        let check = |base, path, expected| {
            assert_eq!(Target::parse(base).unwrap().join(path).unwrap().to_string(), expected, "{base} {path}");
        };
        check("http://localhost:8080", "/hello", "http://localhost:8080/hello");
        check("http://localhost:8080/", "/hello?a=b", "http://localhost:8080/hello?a=b");
        check("http://h/api/v1", "/hello", "http://h/api/v1/hello");
        check("http://h/api/v1/", "/", "http://h/api/v1/");
        check("http://[::1]:80/", "/a/../b%2F#fragment", "http://[::1]:80/a/../b%2F");
        check("http://h/api", "*", "http://h*");
    }

    #[test]
    fn what_is_no_base_url_is_refused_with_its_reason() {
        let check = |base: &str, expected: &str| {
            assert_eq!(Target::parse(base).unwrap_err().to_string(), expected);
        };
        check("", "base URL '': expected a URL like http://host:port");
        check("localhost", "base URL 'localhost': expected a URL that starts with http:// or https://");
        check("ftp://localhost", "base URL 'ftp://localhost': expected a URL that starts with http:// or https://");
        check("http://", "base URL 'http://': expected a URL like http://host:port");
        check("http://h:99999", "base URL 'http://h:99999': its host, port, user name or password is not valid");
        check("http://h/?q", "base URL 'http://h/?q': expected no query: paths are put behind it");
        check("http://me:secret@ho st", "base URL 'http://***@ho st': expected a URL like http://host:port");
    }

    #[test]
    fn https_is_refused_where_it_is_not_compiled_in() {
        let https = Target::parse("https://h").map(|target| target.is_https());
        let refused = "base URL 'https://h': https needs the feature `tls` of retry-client";
        if cfg!(feature = "tls") {
            assert!(https.unwrap());
        } else {
            assert_eq!(https.unwrap_err().to_string(), refused);
        }
    }

    #[test]
    fn a_path_is_refused_with_its_reason() {
        let target = Target::parse("http://h").unwrap();
        let check = |path, expected: &str| assert_eq!(target.join(path).unwrap_err().to_string(), expected);
        check("hello", "path 'hello': expected it to start with '/'");
        check("", "path '': expected it to start with '/'");
        check("/a b", "path '/a b': it has a character that must be percent-encoded");
    }

    #[test]
    fn a_request_for_another_server_is_refused() {
        let target = Target::parse("http://me:secret@h:1").unwrap();
        assert!(target.resolve(&Uri::from_static("http://h:1/x")).is_ok());
        assert!(target.resolve(&Uri::from_static("/x")).is_ok());
        let refused = target.resolve(&Uri::from_static("http://evil/x")).unwrap_err();
        assert_eq!(refused.to_string(), "this client is for http://h:1: expected a path, or a URL that starts so");
    }

    #[test]
    fn credentials_become_a_header_that_does_not_print() {
        let target = Target::parse("http://me:p%40ss@h:1/x").unwrap();
        let header = target.authorization.as_ref().unwrap();
        assert_eq!(header, "Basic bWU6cEBzcw==");
        assert_eq!(target.join("/y").unwrap().to_string(), "http://h:1/x/y");
        assert!(!format!("{target:?}").contains("bWU6"));
    }
}

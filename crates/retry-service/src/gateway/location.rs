//! `Location` and `Content-Location`: an upstream that gets its own name in `Host` may return URLs that bypass the
//! gateway. They are rewritten.

use http::{
    HeaderMap, HeaderValue, Uri,
    header::{CONTENT_LOCATION, LOCATION},
};

/// Rewrites URLs that begin with a base URL of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocationRewriter(Vec<BaseUrl>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct BaseUrl {
    scheme: String,
    host: String,
    port: u16,
    /// The path of the base URL, without a trailing slash.
    prefix: String,
}

impl LocationRewriter {
    /// Creates a rewriter for base URLs such as `http://host:port/prefix`. One without a host is ignored.
    pub(crate) fn new<'a>(urls: impl Iterator<Item = &'a str>) -> Self {
        Self(urls.filter_map(BaseUrl::parse).collect())
    }

    /// Rewrites URLs of the upstream to URLs of the gateway, whose `scheme` and `host` are those that the client used.
    pub(super) fn rewrite(&self, headers: &mut HeaderMap, scheme: &str, host: Option<&HeaderValue>) {
        for name in [LOCATION, CONTENT_LOCATION] {
            let Some(url) = headers.get(&name).and_then(|url| url.to_str().ok()) else { continue };
            let Some(rest) = self.0.iter().find_map(|base| base.rest_of(url)) else { continue };
            let slash = if rest.starts_with('/') { "" } else { "/" };
            let url = match host.and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty()) {
                Some(host) => format!("{scheme}://{host}{slash}{rest}"),
                // The client did not send a host, and resolves a path against the one that it knows.
                None => format!("{slash}{rest}"),
            };
            if let Ok(url) = HeaderValue::try_from(url) {
                headers.insert(name, url);
            }
        }
    }
}

impl BaseUrl {
    fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(default_port(&scheme)?);
        let host = uri.host()?.to_ascii_lowercase();
        Some(Self { scheme, host, port, prefix: uri.path().trim_end_matches('/').to_owned() })
    }

    /// Returns what follows the base URL: path, query and fragment. `None` if the URL does not begin with the base URL.
    fn rest_of<'a>(&self, url: &'a str) -> Option<&'a str> {
        let (scheme, rest) = match url.strip_prefix("//") {
            Some(rest) => (self.scheme.clone(), rest),
            None => url.split_once("://").map(|(scheme, rest)| (scheme.to_ascii_lowercase(), rest))?,
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = match authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()))
        {
            Some((host, port)) => (host, if port.is_empty() { default_port(&scheme)? } else { port.parse().ok()? }),
            None => (authority, default_port(&scheme)?),
        };
        if scheme != self.scheme || !host.eq_ignore_ascii_case(&self.host) || port != self.port {
            return None;
        }
        // A URL outside the base path cannot be reached through the gateway.
        let rest = path.strip_prefix(&*self.prefix)?;
        // A path that begins with two slashes would be read as a host.
        (rest.is_empty() || rest.starts_with(['/', '?', '#']) && !rest.starts_with("//")).then_some(rest)
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_the_upstream_become_urls_of_the_gateway() {
        let check = |base: &str, location: &'static str, expected: &str| {
            let mut headers = HeaderMap::from_iter([
                (LOCATION, HeaderValue::from_static(location)),
                (CONTENT_LOCATION, HeaderValue::from_static(location)),
            ]);
            let host = HeaderValue::from_static("shop.example");
            LocationRewriter::new(base.split(',')).rewrite(&mut headers, "https", Some(&host));
            assert_eq!(headers[LOCATION], expected, "{location}");
            assert_eq!(headers[CONTENT_LOCATION], expected, "{location}");
        };
        let base = "http://127.0.0.1:8080";
        check(base, "http://127.0.0.1:8080/a?b#c", "https://shop.example/a?b#c");
        check(base, "HTTP://127.0.0.1:8080", "https://shop.example/");
        check(base, "http://127.0.0.1:8080?x", "https://shop.example/?x");
        check(base, "//127.0.0.1:8080/a", "https://shop.example/a");
        for other in [
            "/a",
            "a",
            "http://127.0.0.1/a",
            "http://127.0.0.1:80801/a",
            "https://127.0.0.1:8080/a",
            "http://other:8080/a",
            "http://127.0.0.1:8080@evil/",
            "http://127.0.0.1:8080//evil/x",
            "mailto:a@b",
            "",
            "http://",
            "://",
        ] {
            check(base, other, other);
        }
        check("http://u:p@H/", "http://h:80/a", "https://shop.example/a");
        check("https://h", "https://h:443/a", "https://shop.example/a");
        check("http://[::1]:1/", "http://[::1]:1/a", "https://shop.example/a");
        check("http://h/api/", "http://h/api/x", "https://shop.example/x");
        check("http://h/api", "http://h/api?x", "https://shop.example/?x");
        check("http://h/api", "http://h/apix", "http://h/apix");
        check("http://h/api", "http://h/", "http://h/");
        let several = "http://a,https://b:8";
        check(several, "http://a/x", "https://shop.example/x");
        check(several, "https://b:8/x", "https://shop.example/x");
        check(several, "//b:8/x", "https://shop.example/x");
        check(several, "http://b:8/x", "http://b:8/x");
    }

    #[test]
    fn a_client_without_a_host_gets_a_path() {
        let mut headers = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static("http://h/a"))]);
        LocationRewriter::new(["http://h"].into_iter()).rewrite(&mut headers, "http", None);
        assert_eq!(headers[LOCATION], "/a");
    }
}

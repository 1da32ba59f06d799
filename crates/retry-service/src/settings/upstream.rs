//! The URLs of the upstream.

use std::{fmt, net::IpAddr};

use http::Uri;

/// The URL of an upstream as it was given. Neither its `Debug` nor its `Display` output has the user name and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UpstreamUrl(String);

/// URLs that were given together, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamList(pub(super) Vec<UpstreamUrl>);

impl UpstreamUrl {
    /// Returns the URL with the user name and password.
    pub(crate) fn secret(&self) -> &str {
        &self.0
    }

    pub(super) fn is_https(&self) -> bool {
        self.0.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
    }

    /// Returns the host and port as they were given, even if they are not valid.
    fn authority(&self) -> &str {
        let rest = self.0.split_once("://").map_or(&*self.0, |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit_once('@').map_or(authority, |(_, host)| host)
    }

    /// Returns the host and port. They are in lower case, and the port is never implied.
    fn server(&self) -> Option<(String, u16)> {
        let uri: Uri = self.0.parse().ok()?;
        let port = uri.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 });
        Some((uri.host()?.to_ascii_lowercase(), port))
    }

    /// Whether its host is a name that may have several addresses, each of which is an endpoint.
    pub(super) fn is_resolved(&self) -> bool {
        self.server()
            .is_some_and(|(host, _)| host != "localhost" && host.trim_matches(['[', ']']).parse::<IpAddr>().is_err())
    }

    /// Returns the path without its trailing slash.
    fn path(&self) -> Option<String> {
        let uri: Uri = self.0.parse().ok()?;
        Some(uri.path().trim_end_matches('/').to_owned())
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamUrl({self})")
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Everything before the last @ may be confidential, except a scheme, even if this is not a URL.
        let Some((secret, host)) = self.0.rsplit_once('@') else { return f.write_str(&self.0) };
        match secret.split_once("://").filter(|_| begins_with_scheme(secret)) {
            Some((scheme, _)) => write!(f, "{scheme}://***@{host}"),
            None => write!(f, "***@{host}"),
        }
    }
}

/// Splits at the commas that a URL follows. Others may belong to a password or to a path.
impl From<&str> for UpstreamList {
    fn from(text: &str) -> Self {
        let mut urls = Vec::<String>::new();
        for part in text.split(',') {
            match urls.last_mut() {
                Some(last) if !begins_with_scheme(part.trim_start()) => *last = format!("{last},{part}"),
                _ => urls.push(part.to_owned()),
            }
        }
        Self(urls.iter().map(|url| UpstreamUrl(url.trim().to_owned())).collect())
    }
}

fn begins_with_scheme(text: &str) -> bool {
    let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
    !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl fmt::Display for UpstreamList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&urls.join(","))
    }
}

/// Checks what the client does not: that each URL is meant as it was given, and that they are one service. Whether they
/// are URLs at all is left to the client.
pub(super) fn check(urls: &[&UpstreamUrl]) -> Result<(), String> {
    for (position, url) in urls.iter().enumerate() {
        if url.secret().contains("://***@") {
            return Err("*** stands for a user name and password that are not shown".to_owned());
        }
        if url.authority().contains(',') {
            return Err(format!("'{url}': expected http:// or https:// after each comma"));
        }
        let Some((server, path)) = url.server().zip(url.path()) else { continue };
        if server.1 == 0 {
            return Err("port 0 cannot be connected to".to_owned());
        }
        if urls.iter().take(position).any(|other| other.server().as_ref() == Some(&server)) {
            return Err(format!("'{url}': expected each host and port only once"));
        }
        if let Some(first) = urls.first().filter(|first| first.path() != Some(path)) {
            return Err(format!("'{url}': expected the same path as in '{first}'"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_separated_by_commas() {
        let check = |text: &str, expected: &[&str]| {
            let urls = UpstreamList::from(text).0;
            assert_eq!(urls.iter().map(UpstreamUrl::secret).collect::<Vec<_>>(), expected);
        };
        check("http://a", &["http://a"]);
        check("http://a,https://b:8", &["http://a", "https://b:8"]);
        check(" http://a , HTTP://b ", &["http://a", "HTTP://b"]);
        check("http://me:a,b@h/x,y,http://b", &["http://me:a,b@h/x,y", "http://b"]);
        check("http://a,b", &["http://a,b"]);
        check("http://a,,http://b,", &["http://a,", "http://b,"]);
        check("a:1,http://b", &["a:1", "http://b"]);
        check("", &[""]);
    }

    #[test]
    fn the_urls_are_one_service() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(
                check(&UpstreamList::from(text).0.iter().collect::<Vec<_>>()).err().as_deref(),
                expected,
                "{text}"
            );
        };
        check("http://a:1,http://a:2,https://me:hush@a", None);
        check("http://a/x,http://b/x/", None);
        // The client's errors say more.
        check("nonsense", None);
        check("http://h:0", Some("port 0 cannot be connected to"));
        check("http://a,http://h:0", Some("port 0 cannot be connected to"));
        check("http://a,http://***@b", Some("*** stands for a user name and password that are not shown"));
        check("http://a,b", Some("'http://a,b': expected http:// or https:// after each comma"));
        check("http://a:1,b:1/x", Some("'http://a:1,b:1/x': expected http:// or https:// after each comma"));
        check("http://a,", Some("'http://a,': expected http:// or https:// after each comma"));
        check("http://a/x,http://me:hush@b/y", Some("'http://***@b/y': expected the same path as in 'http://a/x'"));
        check(
            "http://a,http://b,http://me:hush@A:80",
            Some("'http://***@A:80': expected each host and port only once"),
        );
    }

    #[test]
    fn names_are_resolved_except_for_localhost() {
        let check = |url: &str, expected| assert_eq!(UpstreamUrl(url.to_owned()).is_resolved(), expected, "{url}");
        check("http://shop:80", true);
        check("http://LOCALHOST", false);
        check("http://10.0.0.1:80/x", false);
        check("https://me:hush@[::1]:8", false);
    }

    #[test]
    fn passwords_are_not_shown() {
        let list = UpstreamList::from("http://me:hu,sh@a,https://b");
        assert_eq!(list.to_string(), "http://***@a,https://b");
        assert!(!format!("{list:?}").contains("hu"));
        assert_eq!(UpstreamList::from("me:hush@a,").to_string(), "***@a,");
        assert_eq!(UpstreamList::from("me:hush://x@a").to_string(), "***@a");
    }
}

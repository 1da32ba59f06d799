//! `X-Forwarded-*` and `Forwarded` (RFC 7239): whom the upstream is told that a request came from.
//!
//! What a client sends of them is its own invention, so it is replaced; what a trusted proxy sends is added to, if it is
//! well-formed. Of the two families only the one that is asked for goes on: the other could say something else.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};

use super::host::is_host;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The prefix of all headers of one family. `X-Real-IP` belongs to them, too.
const X_FORWARDED: &str = "x-forwarded-";

/// Which headers tell the upstream of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Standard,
    /// None, and none of those that came goes on.
    Off,
}

/// What is told of one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop<'a> {
    /// The peer's address.
    pub(crate) ip: IpAddr,
    /// The same as a header value.
    pub(crate) ip_value: &'a HeaderValue,
    pub(crate) host: Option<&'a HeaderValue>,
    /// Whether the peer is believed in what it says of those before it.
    pub(crate) trusted: bool,
}

/// Whether a header belongs to either family.
pub(crate) fn is_forwarding(name: &HeaderName) -> bool {
    *name == FORWARDED || is_x_forwarded(name)
}

fn is_x_forwarded(name: &HeaderName) -> bool {
    name.as_str().starts_with(X_FORWARDED) || *name == X_REAL_IP
}

impl Forwarded {
    /// Adds a hop to a request's headers. `exist` tells whether they have any of either family.
    pub(crate) fn add(self, headers: &mut HeaderMap, exist: bool, hop: Hop<'_>) {
        if exist {
            self.remove_unwanted(headers, hop.trusted);
        }
        match self {
            Self::XForwarded => add_x_forwarded(headers, exist, hop),
            Self::Standard => add_forwarded(headers, exist, hop),
            Self::Off => {}
        }
    }

    /// Removes what does not go on: everything that a peer says that is not believed, and the other family.
    fn remove_unwanted(self, headers: &mut HeaderMap, trusted: bool) {
        let stays = |name: &HeaderName| match self {
            Self::XForwarded => trusted && is_x_forwarded(name),
            Self::Standard => trusted && *name == FORWARDED,
            Self::Off => false,
        };
        let unwanted: Vec<_> = headers.keys().filter(|name| is_forwarding(name) && !stays(name)).cloned().collect();
        for name in unwanted {
            headers.remove(name);
        }
    }

    /// The addresses that a request was forwarded for, in the order in which they were added; `None` for what is no
    /// address, and empty if the headers are malformed.
    pub(crate) fn chain(self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        match self {
            Self::XForwarded => list(headers, &X_FORWARDED_FOR)
                .map(|list| list.split(',').map(|address| address_of(address.trim())).collect())
                .unwrap_or_default(),
            Self::Standard => {
                elements(headers).unwrap_or_default().iter().map(|element| forwarded_for(element)).collect()
            }
            Self::Off => Vec::new(),
        }
    }

    /// The scheme that the client used, as a trusted proxy tells.
    pub(crate) fn scheme(self, headers: &HeaderMap) -> Option<&'static str> {
        let told = match self {
            Self::XForwarded => headers.get(X_FORWARDED_PROTO)?.to_str().ok()?.split(',').next()?.trim().to_owned(),
            Self::Standard => parameter(elements(headers)?.first()?, "proto")?,
            Self::Off => return None,
        };
        ["http", "https"].into_iter().find(|scheme| told.eq_ignore_ascii_case(scheme))
    }
}

/// Adds the peer to those before it; host and scheme are those that the first of them saw.
fn add_x_forwarded(headers: &mut HeaderMap, exist: bool, hop: Hop<'_>) {
    let chain = if exist { list(headers, &X_FORWARDED_FOR) } else { None };
    append(headers, X_FORWARDED_FOR, chain.filter(|chain| is_plain_list(chain)), hop.ip_value);
    if exist && headers.get(&X_FORWARDED_HOST).is_some_and(|host| !is_host(host.as_bytes())) {
        headers.remove(&X_FORWARDED_HOST);
    }
    if let Some(host) = hop.host {
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
    }
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
}

/// Adds an element to `Forwarded`. Elements that are malformed are dropped, as they could swallow what is added.
fn add_forwarded(headers: &mut HeaderMap, exist: bool, hop: Hop<'_>) {
    let by = match hop.ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    // It has neither quotes nor backslashes, being a host.
    let host = hop.host.and_then(|host| host.to_str().ok());
    let host = host.map_or_else(String::new, |host| format!(";host=\"{host}\""));
    let chain = if exist { list(headers, &FORWARDED).filter(|list| split(list, ',').is_some()) } else { None };
    if let Ok(element) = HeaderValue::try_from(format!("{by}{host};proto=http")) {
        append(headers, FORWARDED, chain, &element);
    }
}

/// Makes a value the last of a list, all in one line.
fn append(headers: &mut HeaderMap, name: HeaderName, list: Option<String>, value: &HeaderValue) {
    let joined =
        list.and_then(|list| HeaderValue::from_bytes(&[list.as_bytes(), b", ", value.as_bytes()].concat()).ok());
    headers.insert(name, joined.unwrap_or_else(|| value.clone()));
}

/// The values of a header as one list; `None` if there are none, or they are not ASCII.
fn list(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Result<Vec<_>, _> = headers.get_all(name).iter().map(HeaderValue::to_str).collect();
    values.ok().filter(|values| !values.is_empty()).map(|values| values.join(", "))
}

/// Whether a list has addresses and names alone, and nothing that would need quotes.
fn is_plain_list(list: &str) -> bool {
    list.split(',').map(str::trim).all(|item| {
        !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-[]%".contains(&byte))
    })
}

/// An address with or without a port; `None` for what is none, such as `unknown`.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|ip| ip.to_canonical())
}

fn elements(headers: &HeaderMap) -> Option<Vec<String>> {
    let list = list(headers, &FORWARDED)?;
    split(&list, ',').map(|elements| elements.into_iter().map(str::to_owned).collect())
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    address_of(&parameter(element, "for")?)
}

/// The value of a parameter of an element, without its quotes.
fn parameter(element: &str, name: &str) -> Option<String> {
    split(element, ';')?.into_iter().find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').replace('\\', ""))
    })
}

/// The parts between separators that stand outside quoted strings; `None` if a quote is not closed.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, char) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if quoted && char == '\\' {
            escaped = true;
        } else if char == '"' {
            quoted = !quoted;
        } else if char == separator && !quoted {
            parts.push(text.get(start..at)?);
            start = at + separator.len_utf8();
        }
    }
    parts.push(text.get(start..)?);
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR: &str = "x-forwarded-for";

    #[track_caller]
    fn check(forwarded: Forwarded, trusted: bool, given: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let (ip_value, host) = (HeaderValue::from_static("10.1.2.3"), HeaderValue::from_static("shop:80"));
        let hop = Hop { ip: "10.1.2.3".parse().unwrap(), ip_value: &ip_value, host: Some(&host), trusted };
        forwarded.add(&mut headers, !given.is_empty(), hop);
        let mut told: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        told.sort_unstable();
        assert_eq!(told, expected);
    }

    const NEW: [(&str, &str); 3] = [(FOR, "10.1.2.3"), ("x-forwarded-host", "shop:80"), ("x-forwarded-proto", "http")];
    const NEW_STANDARD: [(&str, &str); 1] = [("forwarded", "for=10.1.2.3;host=\"shop:80\";proto=http")];

    #[test]
    fn what_a_client_says_is_replaced() {
        let said = [
            (FOR, "1.1.1.1"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-prefix", "/x"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ];
        check(Forwarded::XForwarded, false, &[], &NEW);
        check(Forwarded::XForwarded, false, &said, &NEW);
        check(Forwarded::Standard, false, &said, &NEW_STANDARD);
        check(Forwarded::Off, false, &said, &[]);
    }

    #[test]
    fn what_a_trusted_proxy_says_is_added_to() {
        let said = [
            (FOR, "1.1.1.1"),
            (FOR, "2.2.2.2"),
            ("x-forwarded-host", "outer"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "443"),
            ("forwarded", "for=1.1.1.1"),
        ];
        let added = [
            (FOR, "1.1.1.1, 2.2.2.2, 10.1.2.3"),
            ("x-forwarded-host", "outer"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-proto", "https"),
        ];
        check(Forwarded::XForwarded, true, &said, &added);
        let chained = [("forwarded", "for=1.1.1.1, for=10.1.2.3;host=\"shop:80\";proto=http")];
        check(Forwarded::Standard, true, &said, &chained);
        check(Forwarded::Off, true, &said, &[]);
    }

    #[test]
    fn what_is_malformed_is_not_added_to() {
        for malformed in ["for=\"unclosed", "for=1.1.1.1, for=\"a\\\"", "for=é"] {
            check(Forwarded::Standard, true, &[("forwarded", malformed)], &NEW_STANDARD);
        }
        for malformed in ["1.1.1.1, <script>", "1.1.1.1,, 2.2.2.2", "a\"b", ""] {
            check(Forwarded::XForwarded, true, &[(FOR, malformed), ("x-forwarded-host", "a b")], &NEW);
        }
    }

    #[test]
    fn the_chain_is_read_from_either_family() {
        let check = |forwarded: Forwarded, name: &'static str, value: &'static str, expected: &[Option<&str>]| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            let expected: Vec<Option<IpAddr>> =
                expected.iter().map(|address| address.map(|address| address.parse().unwrap())).collect();
            assert_eq!(forwarded.chain(&headers), expected, "{value}");
        };
        let x = |value, expected: &[Option<&str>]| check(Forwarded::XForwarded, FOR, value, expected);
        x(
            "1.1.1.1, 2.2.2.2:80,::1, [::2], [::3]:80",
            &[Some("1.1.1.1"), Some("2.2.2.2"), Some("::1"), Some("::2"), Some("::3")],
        );
        x("unknown, ::ffff:1.1.1.1", &[None, Some("1.1.1.1")]);
        let standard = |value, expected: &[Option<&str>]| check(Forwarded::Standard, "forwarded", value, expected);
        standard("for=1.1.1.1;proto=http, For=\"[::1]:80\"", &[Some("1.1.1.1"), Some("::1")]);
        standard("proto=http, for=_hidden, for=\"1.1.1.1, 2.2.2.2\"", &[None, None, None]);
        standard("for=\"unclosed", &[]);
    }

    #[test]
    fn the_scheme_is_the_one_that_the_client_used() {
        let check = |forwarded: Forwarded, name: &'static str, value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            assert_eq!(forwarded.scheme(&headers), expected, "{value}");
        };
        check(Forwarded::XForwarded, "x-forwarded-proto", "https", Some("https"));
        check(Forwarded::XForwarded, "x-forwarded-proto", "HTTPS, http", Some("https"));
        check(Forwarded::XForwarded, "x-forwarded-proto", "javascript", None);
        check(Forwarded::Standard, "forwarded", "for=a;proto=https, for=b;proto=http", Some("https"));
        check(Forwarded::Off, "x-forwarded-proto", "https", None);
    }
}

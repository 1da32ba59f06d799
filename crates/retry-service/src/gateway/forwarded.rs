//! `X-Forwarded-*` and `Forwarded` (RFC 7239): tell the upstream where a request came from.
//!
//! Headers from clients are replaced, since a client can write anything into them; headers from trusted proxies are
//! extended. Trusted proxies append, so lists are read from their end, up to the first malformed item: a client may
//! have sent that to a proxy that only appends. Only one of the two families is forwarded, as the other could
//! contradict it.

use std::net::{IpAddr, SocketAddr};

use clap::ValueEnum;
use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};

use super::host::is_host;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The prefix of all headers of one family.
const X_FORWARDED: &str = "x-forwarded-";

/// The headers that tell the upstream about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ForwardedHeaders {
    /// X-Forwarded-For, X-Forwarded-Host and X-Forwarded-Proto
    XForwarded,
    /// Forwarded (RFC 7239)
    #[value(name = "forwarded")]
    Standard,
    /// None; those that a client or proxy sent are removed
    #[value(alias = "none")]
    Off,
}

/// What the gateway adds to the forwarding headers of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hop<'a> {
    /// The peer's address.
    pub(crate) ip: IpAddr,
    /// The peer's address as a header value.
    pub(crate) ip_value: &'a HeaderValue,
    /// The host that the request is for.
    pub(crate) host: Option<&'a HeaderValue>,
    /// Whether the forwarding headers of the peer are trusted.
    pub(crate) is_trusted: bool,
}

/// Whether a header belongs to one of the two families.
pub(super) fn is_forwarding(name: &HeaderName) -> bool {
    *name == FORWARDED || is_x_forwarded(name)
}

/// Whether a header is one of `X-Forwarded-*`, or `X-Real-IP`, in any spelling.
fn is_x_forwarded(name: &HeaderName) -> bool {
    let start = name.as_str().get(..X_FORWARDED.len());
    start.is_some_and(|start| is_spelling(start, X_FORWARDED)) || is_spelling(name.as_str(), X_REAL_IP.as_str())
}

/// Whether a server that treats `_` as `-`, as CGI does, takes one name for another.
pub(super) fn is_spelling(name: &str, of: &str) -> bool {
    let same = |(one, other): (u8, u8)| one == other || one == b'_' && other == b'-';
    name.len() == of.len() && name.bytes().zip(of.bytes()).all(same)
}

pub(super) fn remove_all(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<_> = headers.keys().filter(|name| is_unwanted(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

impl ForwardedHeaders {
    /// Adds a hop to the headers of a request. `has_any` says whether they have any of either family.
    pub(super) fn add(self, headers: &mut HeaderMap, has_any: bool, hop: Hop<'_>) {
        if has_any {
            self.remove_unwanted(headers, hop.is_trusted);
        }
        match self {
            Self::XForwarded => add_x_forwarded(headers, has_any, hop),
            Self::Standard => add_forwarded(headers, has_any, hop),
            Self::Off => {}
        }
    }

    /// Removes what is not forwarded: all headers of a peer that is not trusted, other spellings, and the other family.
    fn remove_unwanted(self, headers: &mut HeaderMap, is_trusted: bool) {
        let stays = |name: &HeaderName| match self {
            Self::XForwarded => is_trusted && is_x_forwarded(name) && !name.as_str().contains('_'),
            Self::Standard => is_trusted && *name == FORWARDED,
            Self::Off => false,
        };
        remove_all(headers, |name| is_forwarding(name) && !stays(name));
    }

    /// Returns the addresses that a request was forwarded for, in the order in which they were added; `None` for an
    /// item that is not an address.
    pub(super) fn chain(self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        match self {
            Self::XForwarded => {
                well_formed(headers, &X_FORWARDED_FOR, is_plain).iter().map(|address| address_of(address)).collect()
            }
            Self::Standard => {
                let elements = well_formed(headers, &FORWARDED, is_element);
                elements.iter().map(|element| address_of(&parameter(element, "for")?)).collect()
            }
            Self::Off => Vec::new(),
        }
    }

    /// Returns the scheme that the client used, according to a trusted proxy.
    pub(super) fn scheme(self, headers: &HeaderMap) -> Option<&'static str> {
        let scheme = match self {
            Self::XForwarded => well_formed(headers, &X_FORWARDED_PROTO, is_plain).pop()?,
            Self::Standard => parameter(well_formed(headers, &FORWARDED, is_element).last()?, "proto")?,
            Self::Off => return None,
        };
        ["http", "https"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known))
    }
}

/// Appends the peer to `X-Forwarded-For`. Host and scheme stay as the first proxy set them.
fn add_x_forwarded(headers: &mut HeaderMap, has_any: bool, hop: Hop<'_>) {
    let chain = if has_any { well_formed(headers, &X_FORWARDED_FOR, is_plain) } else { Vec::new() };
    append(headers, X_FORWARDED_FOR, &chain, hop.ip_value);
    if has_any {
        keep_well_formed(headers, X_FORWARDED_HOST, |host| is_host(host.as_bytes()));
        keep_well_formed(headers, X_FORWARDED_PROTO, is_plain);
    }
    // Most requests have none of them, and then an insertion without a look-up is cheaper than an entry.
    let lacks = |headers: &HeaderMap, name| !has_any || !headers.contains_key(name);
    if let Some(host) = hop.host.filter(|_| lacks(headers, X_FORWARDED_HOST)) {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    if lacks(headers, X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
}

/// Appends an element to `Forwarded`.
fn add_forwarded(headers: &mut HeaderMap, has_any: bool, hop: Hop<'_>) {
    let by = match hop.ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    // A host contains neither quotes nor backslashes.
    let host = hop.host.and_then(|host| host.to_str().ok());
    let host = host.map_or_else(String::new, |host| format!(";host=\"{host}\""));
    let chain = if has_any { well_formed(headers, &FORWARDED, is_element) } else { Vec::new() };
    if let Ok(element) = HeaderValue::try_from(format!("{by}{host};proto=http")) {
        append(headers, FORWARDED, &chain, &element);
    }
}

/// Appends a value to a list, and sets the header to the result as a single field line.
fn append(headers: &mut HeaderMap, name: HeaderName, list: &[String], value: &HeaderValue) {
    if list.is_empty() {
        headers.insert(name, value.clone());
        return;
    }
    let list = list.join(", ");
    let joined = HeaderValue::from_bytes(&[list.as_bytes(), b", ", value.as_bytes()].concat());
    headers.insert(name, joined.unwrap_or_else(|_| value.clone()));
}

/// Removes the malformed items of a header.
fn keep_well_formed(headers: &mut HeaderMap, name: HeaderName, is_item: impl Fn(&str) -> bool) {
    if headers.contains_key(&name) {
        let items = well_formed(headers, &name, is_item);
        headers.remove(&name);
        if let Ok(value) = HeaderValue::try_from(items.join(", "))
            && !items.is_empty()
        {
            headers.insert(name, value);
        }
    }
}

/// Maximum number of commas in a quoted string.
const QUOTED_COMMAS: usize = 8;

/// Returns the well-formed items at the end of a list.
fn well_formed(headers: &HeaderMap, name: &HeaderName, is_item: impl Fn(&str) -> bool) -> Vec<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let list = values.join(",");
    let (mut items, mut rest) = (Vec::new(), list.as_str());
    // From the end: a comma may be quoted, and then the part behind it has an unbalanced quote.
    let (mut from, mut quoted) = (rest.len(), 0);
    while !rest.is_empty() {
        let comma = rest.get(..from).and_then(|before| before.rfind(','));
        let item = rest.get(comma.map_or(0, |comma| comma + 1)..).unwrap_or_default().trim();
        if is_item(item) {
            items.push(item.to_owned());
            rest = comma.and_then(|comma| rest.get(..comma)).unwrap_or_default();
            (from, quoted) = (rest.len(), 0);
        } else {
            match comma.filter(|_| item.contains('"') && quoted < QUOTED_COMMAS) {
                Some(comma) => (from, quoted) = (comma, quoted + 1),
                None => break,
            }
        }
    }
    items.reverse();
    items
}

/// Whether an item is an address or a name that needs no quotes.
fn is_plain(item: &str) -> bool {
    !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-[]%".contains(&byte))
}

/// Whether an item is an element of `Forwarded`: RFC 7239, section 4.
fn is_element(item: &str) -> bool {
    pairs(item).is_some_and(|pairs| !pairs.is_empty())
}

/// Returns the unquoted value of a parameter of an element.
fn parameter(element: &str, name: &str) -> Option<String> {
    let (_, value) = pairs(element)?.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value)
}

/// Returns the parameters of an element; `None` if the element is malformed.
fn pairs(element: &str) -> Option<Vec<(String, String)>> {
    let (mut pairs, mut rest) = (Vec::new(), element.trim());
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = value_at(after)?;
        pairs.push((is_plain(key).then(|| key.to_owned())?, value));
        match after.trim_start() {
            "" => return Some(pairs),
            after => rest = after.strip_prefix(';')?.trim_start(),
        }
    }
}

/// Parses the token or quoted string at the start of a text; returns it with the rest of the text.
fn value_at(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t']).unwrap_or(text.len());
        let (value, after) = text.split_at_checked(end)?;
        return is_plain(value).then(|| (value.to_owned(), after));
    };
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, quoted.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            _ if char.is_ascii() => value.push(char),
            _ => return None,
        }
    }
    None
}

/// Parses an address with or without a port; `None` for anything else, such as `unknown`.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR: &str = "x-forwarded-for";

    #[track_caller]
    fn check(forwarded: ForwardedHeaders, is_trusted: bool, sent: &[(&str, &str)], expected: &[(&str, &str)]) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let (ip_value, host) = (HeaderValue::from_static("10.1.2.3"), HeaderValue::from_static("shop:80"));
        let hop = Hop { ip: "10.1.2.3".parse().unwrap(), ip_value: &ip_value, host: Some(&host), is_trusted };
        forwarded.add(&mut headers, !sent.is_empty(), hop);
        let mut headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        headers.sort_unstable();
        assert_eq!(headers, expected);
    }

    const NEW: [(&str, &str); 3] = [(FOR, "10.1.2.3"), ("x-forwarded-host", "shop:80"), ("x-forwarded-proto", "http")];
    const NEW_STANDARD: [(&str, &str); 1] = [("forwarded", "for=10.1.2.3;host=\"shop:80\";proto=http")];

    #[test]
    fn headers_from_a_client_are_replaced() {
        let sent = [
            (FOR, "1.1.1.1"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-prefix", "/x"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ];
        check(ForwardedHeaders::XForwarded, false, &[], &NEW);
        check(ForwardedHeaders::XForwarded, false, &sent, &NEW);
        check(ForwardedHeaders::Standard, false, &sent, &NEW_STANDARD);
        check(ForwardedHeaders::Off, false, &sent, &[]);
    }

    #[test]
    fn headers_from_a_trusted_proxy_are_extended() {
        let sent = [
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
        check(ForwardedHeaders::XForwarded, true, &sent, &added);
        let chained = [("forwarded", "for=1.1.1.1, for=10.1.2.3;host=\"shop:80\";proto=http")];
        check(ForwardedHeaders::Standard, true, &sent, &chained);
        check(ForwardedHeaders::Off, true, &sent, &[]);
    }

    #[test]
    fn items_before_a_malformed_one_are_dropped() {
        for malformed in ["for=\"unclosed", "for=1.1.1.1, for=\"a\\\"", "for=é", "nonsense", "for=1.1.1.1, ;"] {
            check(ForwardedHeaders::Standard, true, &[("forwarded", malformed)], &NEW_STANDARD);
        }
        let kept = [("forwarded", "for=2.2.2.2, for=10.1.2.3;host=\"shop:80\";proto=http")];
        for before in ["for=\"x, for=2.2.2.2", "for=é,for=2.2.2.2", ", for=2.2.2.2", "\", for=2.2.2.2"] {
            check(ForwardedHeaders::Standard, true, &[("forwarded", before)], &kept);
        }
        check(ForwardedHeaders::Standard, true, &[("forwarded", "for=\"x"), ("forwarded", "for=2.2.2.2")], &kept);
        let quoted = [("forwarded", "for=\"a, b\", for=10.1.2.3;host=\"shop:80\";proto=http")];
        check(ForwardedHeaders::Standard, true, &[("forwarded", "for=\"a, b\"")], &quoted);
        for malformed in ["<script>", "1.1.1.1, ", "a\"b", ""] {
            let sent = [(FOR, malformed), ("x-forwarded-host", "a b"), ("x-forwarded-proto", "<x>")];
            check(ForwardedHeaders::XForwarded, true, &sent, &NEW);
        }
        for before in ["\", 2.2.2.2", ", 2.2.2.2", "<script>,2.2.2.2", "1.1.1.1,, 2.2.2.2"] {
            let kept = [(FOR, "2.2.2.2, 10.1.2.3"), NEW[1], NEW[2]];
            check(ForwardedHeaders::XForwarded, true, &[(FOR, before)], &kept);
        }
        let hosts = [("x-forwarded-host", "outer"), ("x-forwarded-host", "<script>")];
        check(ForwardedHeaders::XForwarded, true, &hosts, &NEW);
        let hosts = [NEW[0], ("x-forwarded-host", "outer, inner"), NEW[2]];
        check(ForwardedHeaders::XForwarded, true, &[("x-forwarded-host", "outer, inner")], &hosts);
    }

    #[test]
    fn other_spellings_are_never_forwarded() {
        for name in ["x_forwarded_for", "x-forwarded_for", "x_forwarded_host", "x_real_ip"] {
            for trusted in [true, false] {
                check(ForwardedHeaders::XForwarded, trusted, &[(name, "6.6.6.6")], &NEW);
            }
        }
        assert!(
            !is_forwarding(&HeaderName::from_static("x-forward"))
                && !is_forwarding(&HeaderName::from_static("y-real-ip"))
        );
    }

    #[test]
    fn the_chain_is_read_from_either_family() {
        let check =
            |forwarded: ForwardedHeaders, name: &'static str, value: &'static str, expected: &[Option<&str>]| {
                let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
                let expected: Vec<Option<IpAddr>> =
                    expected.iter().map(|address| address.map(|address| address.parse().unwrap())).collect();
                assert_eq!(forwarded.chain(&headers), expected, "{value}");
            };
        let x = |value, expected: &[Option<&str>]| check(ForwardedHeaders::XForwarded, FOR, value, expected);
        x(
            "1.1.1.1, 2.2.2.2:80,::1, [::2], [::3]:80",
            &[Some("1.1.1.1"), Some("2.2.2.2"), Some("::1"), Some("::2"), Some("::3")],
        );
        x("unknown, ::ffff:1.1.1.1", &[None, Some("1.1.1.1")]);
        let standard =
            |value, expected: &[Option<&str>]| check(ForwardedHeaders::Standard, "forwarded", value, expected);
        standard("for=1.1.1.1;proto=http, For=\"[::1]:80\"", &[Some("1.1.1.1"), Some("::1")]);
        standard("proto=http, for=_hidden, for=\"1.1.1.1, 2.2.2.2\"", &[None, None, None]);
        standard("for=\"x, for=1.1.1.1", &[Some("1.1.1.1")]);
        x("\", 1.1.1.1", &[Some("1.1.1.1")]);
        standard("for=\"unclosed", &[]);
    }

    #[test]
    fn the_scheme_is_that_of_the_client() {
        let check = |forwarded: ForwardedHeaders, name: &'static str, value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            assert_eq!(forwarded.scheme(&headers), expected, "{value}");
        };
        check(ForwardedHeaders::XForwarded, "x-forwarded-proto", "https", Some("https"));
        check(ForwardedHeaders::XForwarded, "x-forwarded-proto", "javascript, HTTPS", Some("https"));
        check(ForwardedHeaders::XForwarded, "x-forwarded-proto", "javascript", None);
        check(ForwardedHeaders::Standard, "forwarded", "for=a;proto=http, for=b;proto=https", Some("https"));
        check(ForwardedHeaders::Off, "x-forwarded-proto", "https", None);
    }
}

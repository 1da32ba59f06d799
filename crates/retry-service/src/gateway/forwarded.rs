//! `X-Forwarded-*` and `Forwarded` (RFC 7239): whom the upstream is told that a request came from.
//!
//! What a client sends of them is its own invention, so it is replaced; what a trusted proxy sends is added to. Trusted
//! proxies add at the end, so lists are read from there, up to what is malformed: a client may have sent that to a proxy
//! that only adds. Of the two families only the one that is asked for goes on: the other could say something else.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header::FORWARDED};

use super::host::is_host;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// The prefix of all headers of one family.
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

/// Whether it is one of `X-Forwarded-*`, or `X-Real-IP`, in any spelling.
fn is_x_forwarded(name: &HeaderName) -> bool {
    let start = name.as_str().get(..X_FORWARDED.len());
    start.is_some_and(|start| is_spelling(start, X_FORWARDED)) || is_spelling(name.as_str(), X_REAL_IP.as_str())
}

/// Whether a name reads like another to a server that takes `_` for `-`, as CGI does.
pub(crate) fn is_spelling(name: &str, of: &str) -> bool {
    let same = |(one, other): (u8, u8)| one == other || one == b'_' && other == b'-';
    name.len() == of.len() && name.bytes().zip(of.bytes()).all(same)
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

    /// Removes what does not go on: everything that a peer says that is not believed, other spellings, and the other
    /// family.
    fn remove_unwanted(self, headers: &mut HeaderMap, trusted: bool) {
        let stays = |name: &HeaderName| match self {
            Self::XForwarded => trusted && is_x_forwarded(name) && !name.as_str().contains('_'),
            Self::Standard => trusted && *name == FORWARDED,
            Self::Off => false,
        };
        let unwanted: Vec<_> = headers.keys().filter(|name| is_forwarding(name) && !stays(name)).cloned().collect();
        for name in unwanted {
            headers.remove(name);
        }
    }

    /// The addresses that a request was forwarded for, in the order in which they were added; `None` for what is no
    /// address.
    pub(crate) fn chain(self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
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

    /// The scheme that the client used, as a trusted proxy tells.
    pub(crate) fn scheme(self, headers: &HeaderMap) -> Option<&'static str> {
        let told = match self {
            Self::XForwarded => well_formed(headers, &X_FORWARDED_PROTO, is_plain).pop()?,
            Self::Standard => parameter(well_formed(headers, &FORWARDED, is_element).last()?, "proto")?,
            Self::Off => return None,
        };
        ["http", "https"].into_iter().find(|scheme| told.eq_ignore_ascii_case(scheme))
    }
}

/// Adds the peer to those before it; host and scheme are those that the first of them saw.
fn add_x_forwarded(headers: &mut HeaderMap, exist: bool, hop: Hop<'_>) {
    let chain = if exist { well_formed(headers, &X_FORWARDED_FOR, is_plain) } else { Vec::new() };
    append(headers, X_FORWARDED_FOR, &chain, hop.ip_value);
    if exist {
        keep_well_formed(headers, X_FORWARDED_HOST, |host| is_host(host.as_bytes()));
        keep_well_formed(headers, X_FORWARDED_PROTO, is_plain);
    }
    if let Some(host) = hop.host {
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
    }
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
}

/// Adds an element to `Forwarded`.
fn add_forwarded(headers: &mut HeaderMap, exist: bool, hop: Hop<'_>) {
    let by = match hop.ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    // It has neither quotes nor backslashes, being a host.
    let host = hop.host.and_then(|host| host.to_str().ok());
    let host = host.map_or_else(String::new, |host| format!(";host=\"{host}\""));
    let chain = if exist { well_formed(headers, &FORWARDED, is_element) } else { Vec::new() };
    if let Ok(element) = HeaderValue::try_from(format!("{by}{host};proto=http")) {
        append(headers, FORWARDED, &chain, &element);
    }
}

/// Makes a value the last of a list, all in one line.
fn append(headers: &mut HeaderMap, name: HeaderName, list: &[String], value: &HeaderValue) {
    if list.is_empty() {
        headers.insert(name, value.clone());
        return;
    }
    let list = list.join(", ");
    let joined = HeaderValue::from_bytes(&[list.as_bytes(), b", ", value.as_bytes()].concat());
    headers.insert(name, joined.unwrap_or_else(|_| value.clone()));
}

/// Leaves what is well-formed of a header.
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

/// How many commas one quoted string may have.
const QUOTED_COMMAS: usize = 8;

/// The items at the end of a list that are well-formed, up to one that is not.
fn well_formed(headers: &HeaderMap, name: &HeaderName, is_item: impl Fn(&str) -> bool) -> Vec<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let list = values.join(",");
    let (mut items, mut rest) = (Vec::new(), list.as_str());
    // From the end: a comma may stand in quotes, and then what follows it has one quote too many.
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

/// Whether it is an address or a name that needs no quotes.
fn is_plain(item: &str) -> bool {
    !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-[]%".contains(&byte))
}

/// Whether it is an element of `Forwarded`: RFC 7239, section 4.
fn is_element(item: &str) -> bool {
    pairs(item).is_some_and(|pairs| !pairs.is_empty())
}

/// The value of a parameter of an element, without its quotes.
fn parameter(element: &str, name: &str) -> Option<String> {
    let (_, value) = pairs(element)?.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(value)
}

/// The parameters of an element; `None` if it is malformed.
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

/// The value that a text begins with, a token or a quoted string, and what follows it.
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

/// An address with or without a port; `None` for what is none, such as `unknown`.
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
    fn what_stands_before_something_malformed_is_dropped() {
        for malformed in ["for=\"unclosed", "for=1.1.1.1, for=\"a\\\"", "for=é", "nonsense", "for=1.1.1.1, ;"] {
            check(Forwarded::Standard, true, &[("forwarded", malformed)], &NEW_STANDARD);
        }
        let kept = [("forwarded", "for=2.2.2.2, for=10.1.2.3;host=\"shop:80\";proto=http")];
        for before in ["for=\"x, for=2.2.2.2", "for=é,for=2.2.2.2", ", for=2.2.2.2", "\", for=2.2.2.2"] {
            check(Forwarded::Standard, true, &[("forwarded", before)], &kept);
        }
        check(Forwarded::Standard, true, &[("forwarded", "for=\"x"), ("forwarded", "for=2.2.2.2")], &kept);
        let quoted = [("forwarded", "for=\"a, b\", for=10.1.2.3;host=\"shop:80\";proto=http")];
        check(Forwarded::Standard, true, &[("forwarded", "for=\"a, b\"")], &quoted);
        for malformed in ["<script>", "1.1.1.1, ", "a\"b", ""] {
            let said = [(FOR, malformed), ("x-forwarded-host", "a b"), ("x-forwarded-proto", "<x>")];
            check(Forwarded::XForwarded, true, &said, &NEW);
        }
        for before in ["\", 2.2.2.2", ", 2.2.2.2", "<script>,2.2.2.2", "1.1.1.1,, 2.2.2.2"] {
            let kept = [(FOR, "2.2.2.2, 10.1.2.3"), NEW[1], NEW[2]];
            check(Forwarded::XForwarded, true, &[(FOR, before)], &kept);
        }
        let hosts = [("x-forwarded-host", "outer"), ("x-forwarded-host", "<script>")];
        check(Forwarded::XForwarded, true, &hosts, &NEW);
        let hosts = [NEW[0], ("x-forwarded-host", "outer, inner"), NEW[2]];
        check(Forwarded::XForwarded, true, &[("x-forwarded-host", "outer, inner")], &hosts);
    }

    #[test]
    fn other_spellings_never_go_on() {
        for name in ["x_forwarded_for", "x-forwarded_for", "x_forwarded_host", "x_real_ip"] {
            for trusted in [true, false] {
                check(Forwarded::XForwarded, trusted, &[(name, "6.6.6.6")], &NEW);
            }
        }
        assert!(
            !is_forwarding(&HeaderName::from_static("x-forward"))
                && !is_forwarding(&HeaderName::from_static("y-real-ip"))
        );
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
        standard("for=\"x, for=1.1.1.1", &[Some("1.1.1.1")]);
        x("\", 1.1.1.1", &[Some("1.1.1.1")]);
        standard("for=\"unclosed", &[]);
    }

    #[test]
    fn the_scheme_is_the_one_that_the_client_used() {
        let check = |forwarded: Forwarded, name: &'static str, value: &'static str, expected| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            assert_eq!(forwarded.scheme(&headers), expected, "{value}");
        };
        check(Forwarded::XForwarded, "x-forwarded-proto", "https", Some("https"));
        check(Forwarded::XForwarded, "x-forwarded-proto", "javascript, HTTPS", Some("https"));
        check(Forwarded::XForwarded, "x-forwarded-proto", "javascript", None);
        check(Forwarded::Standard, "forwarded", "for=a;proto=http, for=b;proto=https", Some("https"));
        check(Forwarded::Off, "x-forwarded-proto", "https", None);
    }
}

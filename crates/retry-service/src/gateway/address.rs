//! What the upstream is told of where a request comes from and goes to.

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Version,
    header::{COOKIE, EXPECT, FORWARDED, HOST, TE, VIA},
};

use super::marks::Marks;
use crate::line::Line;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Which headers tell the upstream of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto`.
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Standard,
    /// None; those that the caller sent go on as they are.
    Off,
}

/// How the head of a request changes on its way.
#[derive(Clone, Debug)]
pub struct Addressing {
    forwarded: Forwarded,
    keep_host: bool,
    /// Who this is in `Via`.
    pseudonym: String,
    via: [HeaderValue; 3],
}

/// The other end of an inbound connection.
#[derive(Debug)]
pub struct Caller {
    address: SocketAddr,
    /// The IP address as a header value: made once for all of a connection's requests.
    ip: HeaderValue,
    line: Line,
}

impl Caller {
    /// The caller at this address, on this line.
    pub(crate) fn new(address: SocketAddr, line: Line) -> Self {
        // Digits, letters, dots and colons are always a valid value.
        let ip = HeaderValue::try_from(address.ip().to_canonical().to_string());
        Self { address, ip: ip.unwrap_or_else(|_| HeaderValue::from_static("unknown")), line }
    }

    /// What its connection is told.
    pub(crate) fn line(&self) -> &Line {
        &self.line
    }

    /// Its IP address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.address.ip().to_canonical()
    }
}

impl Addressing {
    /// Addressing for one process among several: `instance` tells it from the others, so that only a request
    /// that comes back to the same one counts as going in circles.
    #[must_use]
    pub fn new(forwarded: Forwarded, keep_host: bool, instance: u32) -> Self {
        let pseudonym = format!("retry-service-{instance:08x}");
        let via = ["1.0", "1.1", "2.0"].map(|version| {
            let value = HeaderValue::try_from(format!("{version} {pseudonym}"));
            value.unwrap_or_else(|_| HeaderValue::from_static("1.1 retry-service"))
        });
        Self { forwarded, keep_host, pseudonym, via }
    }

    /// What is added to `Via` for a message that came in this version (RFC 9110, section 7.6.3).
    pub(crate) fn via(&self, version: Version) -> HeaderValue {
        let [http10, http11, http2] = &self.via;
        match version {
            Version::HTTP_09 | Version::HTTP_10 => http10.clone(),
            Version::HTTP_2 => http2.clone(),
            _ => http11.clone(),
        }
    }

    /// Whether the request has come through this very process.
    pub(crate) fn has_seen(&self, headers: &HeaderMap) -> bool {
        let ours = |entry: &str| entry.split_whitespace().nth(1) == Some(&self.pseudonym);
        headers.get_all(VIA).iter().filter_map(|via| via.to_str().ok()).flat_map(|via| via.split(',')).any(ours)
    }

    /// Makes the head of an inbound request that of one to the upstream.
    pub(crate) fn readdress<B>(&self, request: &mut Request<B>, marks: Marks, caller: &Caller) {
        let via = self.via(request.version());
        let host = request.headers_mut().remove(HOST).or_else(|| {
            let authority = request.uri().authority()?;
            HeaderValue::from_str(authority.as_str()).ok()
        });
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(Default::default, Into::into);
        let headers = request.headers_mut();
        let is_trailers = |te: &HeaderValue| te.as_bytes().eq_ignore_ascii_case(b"trailers");
        let takes_trailers = marks.te && headers.get_all(TE).iter().any(is_trailers);
        retry_client::remove_hop_by_hop(headers);
        if takes_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if marks.expect {
            // Met by hyper: the caller is told to go on once its body is read, which is when it goes on.
            headers.remove(EXPECT);
        }
        if marks.cookie {
            join_cookies(headers);
        }
        headers.append(VIA, via);
        match self.forwarded {
            Forwarded::XForwarded => tell_x_forwarded(headers, marks, caller, host.as_ref()),
            Forwarded::Standard => tell_forwarded(headers, marks, caller, host.as_ref()),
            Forwarded::Off => {}
        }
        // Otherwise the client adds its own server.
        if let Some(host) = host.filter(|_| self.keep_host) {
            headers.insert(HOST, host);
        }
    }
}

/// Adds the caller to those before it; host and protocol are those that the first of them saw.
fn tell_x_forwarded(headers: &mut HeaderMap, marks: Marks, caller: &Caller, host: Option<&HeaderValue>) {
    add_to_list(headers, X_FORWARDED_FOR, marks.x_forwarded_for, &caller.ip);
    if let Some(host) = host {
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
    }
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
}

/// Adds an element to `Forwarded` (RFC 7239).
fn tell_forwarded(headers: &mut HeaderMap, marks: Marks, caller: &Caller, host: Option<&HeaderValue>) {
    let by = match caller.ip() {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    };
    // A host that would end its quotes says nothing that could be trusted.
    let host = host.and_then(|host| host.to_str().ok()).filter(|host| !host.contains(['"', '\\']));
    let host = host.map_or_else(String::new, |host| format!(";host=\"{host}\""));
    if let Ok(element) = HeaderValue::try_from(format!("{by}{host};proto=http")) {
        add_to_list(headers, FORWARDED, marks.forwarded, &element);
    }
}

/// Makes a value the last of a list, all in one line; there may be such a list already.
fn add_to_list(headers: &mut HeaderMap, name: HeaderName, exists: bool, value: &HeaderValue) {
    if !exists {
        headers.insert(name, value.clone());
        return;
    }
    let values = headers.get_all(&name).iter().chain([value]).map(HeaderValue::as_bytes);
    let joined = values.collect::<Vec<_>>().join(&b", "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(name, joined);
    }
}

/// Joins what HTTP/2 may have split (RFC 9113, section 8.2.3): HTTP/1.1 allows one `Cookie`.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let joined = crumbs.collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[track_caller]
    fn check(forwarded: Forwarded, keep_host: bool, given: &[(&str, &str)], expected: &[(&str, &str)]) {
        let caller = Caller::new("10.1.2.3:4567".parse().unwrap(), Line::default());
        let mut request = request("/path?q", given);
        let marks = Marks::of(request.headers());
        Addressing::new(forwarded, keep_host, 7).readdress(&mut request, marks, &caller);
        let mut told: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        told.retain(|(name, _)| *name != "via");
        told.sort_unstable();
        assert_eq!(told, expected);
    }

    #[test]
    fn the_upstream_is_told_of_the_caller() {
        let new = [("x-forwarded-for", "10.1.2.3"), ("x-forwarded-host", "shop"), ("x-forwarded-proto", "http")];
        check(Forwarded::XForwarded, false, &[("host", "shop")], &new);
        let given = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-host", "outer"),
            ("x-forwarded-proto", "https"),
        ];
        let added = [
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2, 10.1.2.3"),
            ("x-forwarded-host", "outer"),
            ("x-forwarded-proto", "https"),
        ];
        check(Forwarded::XForwarded, false, &given, &added);
        let standard = [("forwarded", "for=10.1.2.3;host=\"shop:80\";proto=http")];
        check(Forwarded::Standard, false, &[("host", "shop:80")], &standard);
        let chained = [("forwarded", "for=1.1.1.1, for=10.1.2.3;proto=http")];
        check(Forwarded::Standard, false, &[("forwarded", "for=1.1.1.1"), ("host", "a\"b")], &chained);
        check(Forwarded::Off, true, &[("host", "shop")], &[("host", "shop")]);
    }

    #[test]
    fn what_concerns_one_hop_stays_behind_but_for_trailers() {
        let given = [
            ("connection", "x-mine, keep-alive"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("expect", "100-continue"),
            ("trailer", "digest"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        ];
        check(Forwarded::Off, false, &given, &[("cookie", "a=1; b=2"), ("te", "trailers"), ("trailer", "digest")]);
    }

    #[test]
    fn a_request_is_known_again_by_its_via() {
        let addressing = Addressing::new(Forwarded::Off, false, 0xab);
        let check = |via: &str, expected| {
            assert_eq!(addressing.has_seen(request("/", &[("via", via)]).headers()), expected, "{via}");
        };
        check("1.1 retry-service-000000ab", true);
        check("1.0 fred, 2.0 retry-service-000000ab (comment), 1.1 x", true);
        check("1.1 retry-service-000000ac", false);
        check("retry-service-000000ab", false);
    }

    #[test]
    fn ipv6_is_told_in_its_canonical_form() {
        assert_eq!(Caller::new("[::ffff:10.1.2.3]:1".parse().unwrap(), Line::default()).ip, "10.1.2.3");
        let mut headers = HeaderMap::new();
        let caller = Caller::new("[::1]:1".parse().unwrap(), Line::default());
        tell_forwarded(&mut headers, Marks::default(), &caller, None);
        assert_eq!(headers["forwarded"], "for=\"[::1]\";proto=http");
    }
}

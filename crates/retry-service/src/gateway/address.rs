//! How the heads of requests and responses change on their way through the gateway.

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{COOKIE, EXPECT, Entry, HOST, TE, VIA},
    uri::PathAndQuery,
};

use super::{
    X_REQUEST_ID,
    forwarded::{Forwarded, Hop, is_forwarding, is_spelling},
    location::UpstreamName,
    marks::Marks,
    max_forwards,
    trusted_proxies::TrustedProxies,
};
use crate::server::connection_state::Line;

/// How the heads of messages change on their way.
#[derive(Clone, Debug)]
pub struct Addressing {
    settings: AddressingSettings,
    /// Who this is in `Via`.
    pseudonym: String,
    via: [HeaderValue; 3],
}

/// What of a message's head is changed, and how.
#[derive(Clone, Debug)]
pub struct AddressingSettings {
    /// Which headers tell the upstream of the client.
    pub forwarded: Forwarded,
    /// Whose word on those before them is taken.
    pub trusted_proxies: TrustedProxies,
    /// By what name the upstream knows itself, if it is to get that in `Host`; `None` if it gets the client's.
    pub rewrite_host: Option<UpstreamName>,
    /// Whether `Via` is added. Without it a loop is not noticed.
    pub via: bool,
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

/// What a request's head is to say, found out before it is changed.
#[derive(Debug)]
pub(crate) struct Destination {
    /// The path and query.
    pub(crate) path: PathAndQuery,
    /// `None` for a request of HTTP/1.0 that names no host.
    pub(crate) host: Option<HeaderValue>,
}

impl Addressing {
    /// Addressing for one process among several: `instance` tells it from the others, so that only a request
    /// that comes back to the same one counts as going in circles.
    #[must_use]
    pub fn new(settings: AddressingSettings, instance: u32) -> Self {
        let pseudonym = format!("retry-service-{instance:08x}");
        let via = ["1.0", "1.1", "2.0"].map(|version| {
            let value = HeaderValue::try_from(format!("{version} {pseudonym}"));
            value.unwrap_or_else(|_| HeaderValue::from_static("1.1 retry-service"))
        });
        Self { settings, pseudonym, via }
    }

    /// Adds this hop to `Via` in a message that came in this version (RFC 9110, section 7.6.3), if it is to be there.
    pub(crate) fn add_via(&self, headers: &mut HeaderMap, version: Version) {
        if !self.settings.via {
            return;
        }
        let [http10, http11, http2] = &self.via;
        let via = match version {
            Version::HTTP_09 | Version::HTTP_10 => http10,
            Version::HTTP_2 => http2,
            _ => http11,
        };
        headers.append(VIA, via.clone());
    }

    /// Whether the request has come through this very process.
    pub(crate) fn has_seen(&self, headers: &HeaderMap) -> bool {
        let ours = |entry: &str| entry.split_whitespace().nth(1) == Some(&self.pseudonym);
        headers.get_all(VIA).iter().filter_map(|via| via.to_str().ok()).flat_map(|via| via.split(',')).any(ours)
    }

    /// Whether the peer's word is taken on those it forwards for.
    pub(crate) fn trusts(&self, caller: &Caller) -> bool {
        self.settings.trusted_proxies.contains(caller.ip())
    }

    /// The address of the client: the peer's, or the one that trusted proxies forward for.
    pub(crate) fn client(&self, caller: &Caller, trusted: bool, headers: &HeaderMap) -> IpAddr {
        if !trusted {
            return caller.ip();
        }
        let chain = self.settings.forwarded.chain(headers);
        self.settings.trusted_proxies.client(caller.ip(), chain.into_iter())
    }

    /// The scheme by which the client knows the gateway: of a proxy before it only a trusted one knows.
    pub(crate) fn scheme(&self, trusted: bool, headers: &HeaderMap) -> &'static str {
        let told = if trusted { self.settings.forwarded.scheme(headers) } else { None };
        told.unwrap_or("http")
    }

    /// Makes the head of an inbound request that of one to the upstream. What the gateway owns is set after the
    /// hop-by-hop headers are removed, as a client can name any header among those.
    pub(crate) fn readdress<B>(
        &self,
        request: &mut Request<B>,
        marks: Marks,
        caller: &Caller,
        trusted: bool,
        destination: Destination,
        id: &HeaderValue,
    ) {
        let (version, Destination { path, host }) = (request.version(), destination);
        let method = request.method().clone();
        *request.uri_mut() = Uri::from(path);
        let headers = request.headers_mut();
        let is_trailers = |te: &HeaderValue| te.as_bytes().eq_ignore_ascii_case(b"trailers");
        let takes_trailers = marks.te && headers.get_all(TE).iter().any(is_trailers);
        headers.remove(HOST);
        // No name in `Connection` takes away what a trusted proxy says.
        let forwarding = (marks.forwarding && marks.connection).then(|| forwarding_of(headers));
        retry_client::remove_hop_by_hop(headers);
        if let Some(forwarding) = forwarding {
            headers.extend(forwarding);
        }
        if marks.misspelt {
            remove_misspelt(headers);
        }
        if takes_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if marks.expect && version == Version::HTTP_10 {
            // To be ignored: RFC 9110, section 10.1.1.
            headers.remove(EXPECT);
        }
        if marks.cookie {
            join_cookies(headers);
        }
        if marks.max_forwards {
            max_forwards::count_down(&method, headers);
        }
        self.add_via(headers, version);
        let hop = Hop { ip: caller.ip(), ip_value: &caller.ip, host: host.as_ref(), trusted };
        self.settings.forwarded.add(headers, marks.forwarding, hop);
        headers.insert(X_REQUEST_ID, id.clone());
        // Otherwise the client adds its own server.
        if let Some(host) = host.filter(|_| self.settings.rewrite_host.is_none()) {
            headers.insert(HOST, host);
        }
    }

    /// Turns URLs of the upstream's own in a response's head into those that the client knows.
    pub(crate) fn relocate(&self, headers: &mut HeaderMap, scheme: &str, host: Option<&HeaderValue>) {
        if let Some(upstream) = &self.settings.rewrite_host {
            upstream.replace(headers, scheme, host);
        }
    }
}

/// Takes the headers out that tell for whom a request is forwarded.
fn forwarding_of(headers: &mut HeaderMap) -> HeaderMap {
    let mut taken = HeaderMap::new();
    let names: Vec<_> = headers.keys().filter(|name| is_forwarding(name)).cloned().collect();
    for name in names {
        if let Entry::Occupied(entry) = headers.entry(name.clone()) {
            entry.remove_entry_mult().1.for_each(|value| drop(taken.try_append(name.clone(), value)));
        }
    }
    taken
}

/// Removes other spellings of the request's id.
fn remove_misspelt(headers: &mut HeaderMap) {
    let names: Vec<_> = headers.keys().filter(|name| is_misspelt_id(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Whether it reads like the header of the request's id to a server that takes `_` for `-`.
fn is_misspelt_id(name: &HeaderName) -> bool {
    *name != X_REQUEST_ID && is_spelling(name.as_str(), X_REQUEST_ID.as_str())
}

/// Whether a trailer says what only the gateway may say.
pub(crate) fn is_gateways(name: &HeaderName) -> bool {
    is_forwarding(name) || is_spelling(name.as_str(), X_REQUEST_ID.as_str())
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

    fn addressing(keep_host: bool, via: bool) -> Addressing {
        let rewrite_host = if keep_host { None } else { UpstreamName::of("http://upstream") };
        let (forwarded, trusted_proxies) = (Forwarded::Off, TrustedProxies::default());
        Addressing::new(AddressingSettings { forwarded, trusted_proxies, rewrite_host, via }, 0xab)
    }

    fn headers(given: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[track_caller]
    fn check(keep_host: bool, given: &[(&'static str, &'static str)], expected: &[(&str, &str)]) {
        let mut request = Request::new(());
        *request.headers_mut() = headers(given);
        let marks = Marks::of(request.headers());
        let caller = Caller::new("10.1.2.3:4567".parse().unwrap(), Line::default());
        let host = request.headers().get(HOST).cloned();
        let destination = Destination { path: PathAndQuery::from_static("/path?q"), host };
        let id = HeaderValue::from_static("id");
        addressing(keep_host, false).readdress(&mut request, marks, &caller, false, destination, &id);
        assert_eq!(request.uri(), "/path?q");
        let mut told: Vec<_> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        told.sort_unstable();
        assert_eq!(told, expected);
    }

    const ID: (&str, &str) = ("x-request-id", "id");

    #[test]
    fn what_concerns_one_hop_stays_behind_but_for_trailers() {
        let given = [
            ("connection", "x-mine, keep-alive, x-request-id, host"),
            ("x-mine", "1"),
            ("x-request-id", "theirs"),
            ("x-request-id", "another"),
            ("x_request_id", "spelt like it"),
            ("te", "trailers"),
            ("trailer", "digest"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("host", "shop"),
        ];
        let kept = [("cookie", "a=1; b=2"), ("host", "shop"), ("te", "trailers"), ("trailer", "digest"), ID];
        check(true, &given, &kept);
    }

    #[test]
    fn the_upstream_gets_the_clients_host_or_its_own() {
        check(true, &[("host", "shop")], &[("host", "shop"), ID]);
        check(false, &[("host", "shop")], &[ID]);
        check(true, &[], &[ID]);
    }

    #[test]
    fn a_request_is_known_again_by_its_via() {
        let addressing = addressing(true, true);
        let check = |via: &'static str, expected| {
            assert_eq!(addressing.has_seen(&headers(&[("via", via)])), expected, "{via}");
        };
        check("1.1 retry-service-000000ab", true);
        check("1.0 fred, 2.0 retry-service-000000ab (comment), 1.1 x", true);
        check("1.1 retry-service-000000ac", false);
        check("retry-service-000000ab", false);
        let mut headers = HeaderMap::new();
        addressing.add_via(&mut headers, Version::HTTP_2);
        assert_eq!(headers[VIA], "2.0 retry-service-000000ab");
    }

    #[test]
    fn an_ipv4_address_in_ipv6_is_told_in_its_canonical_form() {
        assert_eq!(Caller::new("[::ffff:10.1.2.3]:1".parse().unwrap(), Line::default()).ip, "10.1.2.3");
    }
}

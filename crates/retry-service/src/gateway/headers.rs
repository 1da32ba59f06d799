//! How the heads of requests and responses change on their way through the gateway.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{COOKIE, EXPECT, Entry, HOST, TE},
    uri::PathAndQuery,
};

use super::{
    forwarded::{ForwardedHeaders, Hop, is_forwarding, is_spelling, remove_all},
    location::LocationRewriter,
    max_forwards,
    present_headers::PresentHeaders,
    request_id::X_REQUEST_ID,
    trusted_proxies::TrustedProxies,
    via::Via,
};

/// How the heads of messages change on their way through the gateway.
#[derive(Clone, Debug)]
pub(crate) struct HeaderRules {
    /// The headers that tell the upstream about the client.
    pub forwarded: ForwardedHeaders,
    /// The proxies whose forwarding headers are trusted.
    pub trusted_proxies: TrustedProxies,
    /// Replaces the upstream's URL in `Location`, if the upstream gets its own host; `None` if it gets the client's.
    pub location: Option<LocationRewriter>,
    /// `None` if `Via` is not added, and loops are not detected.
    pub via: Option<Via>,
}

impl HeaderRules {
    /// Returns the address of the client: the peer, or the address that trusted proxies forward for.
    pub(super) fn client(&self, peer: IpAddr, is_trusted: bool, headers: &HeaderMap) -> IpAddr {
        if !is_trusted {
            return peer;
        }
        let chain = self.forwarded.chain(headers);
        self.trusted_proxies.client(peer, chain.into_iter())
    }

    /// Returns the scheme that the client used: `http`, unless a trusted proxy says otherwise.
    pub(super) fn scheme(&self, is_trusted: bool, headers: &HeaderMap) -> &'static str {
        let forwarded = if is_trusted { self.forwarded.scheme(headers) } else { None };
        forwarded.unwrap_or("http")
    }

    /// Whether the request has been forwarded by this process before.
    pub(super) fn is_loop(&self, headers: &HeaderMap) -> bool {
        self.via.as_ref().is_some_and(|via| via.is_in(headers))
    }

    /// Turns the head of a received request into that of a request to the upstream. The gateway adds its own headers after
    /// hop-by-hop headers are removed, since a client can name any header in `Connection`.
    pub(super) fn rewrite_request<B>(
        &self,
        request: &mut Request<B>,
        present: PresentHeaders,
        path: PathAndQuery,
        hop: Hop<'_>,
        id: &HeaderValue,
    ) {
        let (version, method) = (request.version(), request.method().clone());
        *request.uri_mut() = Uri::from(path);
        let headers = request.headers_mut();
        let is_trailers = |te: &HeaderValue| te.as_bytes().eq_ignore_ascii_case(b"trailers");
        let accepts_trailers = present.te && headers.get_all(TE).iter().any(is_trailers);
        // A name in `Connection` must not remove what a trusted proxy has added.
        let forwarding = (present.forwarding && present.connection).then(|| take_forwarding(headers));
        retry_client::remove_hop_by_hop(headers);
        if let Some(forwarding) = forwarding {
            headers.extend(forwarding);
        }
        if present.misspelt {
            remove_all(headers, is_misspelt_id);
        }
        if accepts_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if present.expect && version == Version::HTTP_10 {
            // A server ignores it: RFC 9110, section 10.1.1.
            headers.remove(EXPECT);
        }
        if present.cookie {
            join_cookies(headers);
        }
        if present.max_forwards {
            max_forwards::count_down(&method, headers);
        }
        if let Some(via) = &self.via {
            via.add(headers, version);
        }
        self.forwarded.add(headers, present.forwarding, hop);
        headers.insert(X_REQUEST_ID, id.clone());
        // Without a host, the client adds that of the endpoint that it sends the request to.
        match hop.host.filter(|_| self.location.is_none()) {
            Some(host) => drop(headers.insert(HOST, host.clone())),
            None => drop(headers.remove(HOST)),
        }
    }

    /// Rewrites the head of the upstream's response. `version` is that of the client's request, `scheme` and `host` are
    /// those that the client used.
    pub(super) fn rewrite_response(
        &self,
        headers: &mut HeaderMap,
        version: Version,
        scheme: &str,
        host: Option<&HeaderValue>,
    ) {
        if let Some(location) = &self.location {
            location.rewrite(headers, scheme, host);
        }
        if let Some(via) = &self.via {
            via.add(headers, version);
        }
    }
}

/// Removes and returns the headers that say for whom a request is forwarded.
fn take_forwarding(headers: &mut HeaderMap) -> HeaderMap {
    let mut taken = HeaderMap::new();
    let names: Vec<_> = headers.keys().filter(|name| is_forwarding(name)).cloned().collect();
    for name in names {
        if let Entry::Occupied(entry) = headers.entry(name.clone()) {
            entry.remove_entry_mult().1.for_each(|value| drop(taken.try_append(name.clone(), value)));
        }
    }
    taken
}

/// Whether a server that treats `_` as `-` takes this for the header with the request's id.
fn is_misspelt_id(name: &HeaderName) -> bool {
    *name != X_REQUEST_ID && is_spelling(name.as_str(), X_REQUEST_ID.as_str())
}

/// Removes from a request's trailers what only the gateway may set.
pub(crate) fn clean_trailers(trailers: &mut HeaderMap) {
    remove_all(trailers, |name| is_forwarding(name) || is_spelling(name.as_str(), X_REQUEST_ID.as_str()));
}

/// Joins cookies that HTTP/2 allows to split (RFC 9113, section 8.2.3): HTTP/1.1 allows a single `Cookie`.
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

    const ID: (&str, &str) = ("x-request-id", "id");

    #[track_caller]
    fn check(keeps_host: bool, sent: &[(&'static str, &'static str)], expected: &[(&str, &str)]) {
        let rules = HeaderRules {
            forwarded: ForwardedHeaders::Off,
            trusted_proxies: TrustedProxies::default(),
            location: if keeps_host { None } else { Some(LocationRewriter::new(["http://upstream"].into_iter())) },
            via: None,
        };
        let mut request = Request::new(());
        for (name, value) in sent {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let present = PresentHeaders::of(request.headers());
        let ip_value = HeaderValue::from_static("10.1.2.3");
        let host = request.headers().get(HOST).cloned();
        let hop = Hop { ip: "10.1.2.3".parse().unwrap(), ip_value: &ip_value, host: host.as_ref(), is_trusted: false };
        let path = PathAndQuery::from_static("/path?q");
        rules.rewrite_request(&mut request, present, path, hop, &HeaderValue::from_static("id"));
        assert_eq!(request.uri(), "/path?q");
        let headers = request.headers().iter();
        let mut headers: Vec<_> = headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        headers.sort_unstable();
        assert_eq!(headers, expected);
    }

    #[test]
    fn hop_by_hop_headers_are_removed_except_for_trailers() {
        let sent = [
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
        check(true, &sent, &kept);
    }

    #[test]
    fn the_clients_host_is_kept_or_left_to_the_client_of_the_upstream() {
        check(true, &[("host", "shop")], &[("host", "shop"), ID]);
        check(false, &[("host", "shop")], &[ID]);
        check(true, &[], &[ID]);
    }
}

//! How the heads of messages change on their way to the upstream and back.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, request, response};
use http_body::SizeHint;

use crate::proxy::upstream::Upstream;

/// The fields that concern only one connection (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Returns the head of the request to the upstream.
///
/// Its `Host` is that of the upstream, and no field tells about the client, so that the upstream gets the request that it
/// would get without the backend, except for a `Via` with the backend's `pseudonym`.
pub(crate) fn to_upstream(received: &request::Parts, upstream: &Upstream, pseudonym: &str) -> request::Parts {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = received.method.clone();
    head.uri = upstream.target(&received.uri);
    head.headers = received.headers.clone();
    remove_hop_by_hop(&mut head.headers);
    // Transfer codings are those of one connection, but trailers are passed on. The sender of `TE` names it in `Connection`
    // (RFC 9110, section 10.1.4).
    if members(&received.headers, &TE).any(|member| member.eq_ignore_ascii_case("trailers")) {
        head.headers.insert(TE, HeaderValue::from_static("trailers"));
        head.headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    join_cookies(&mut head.headers);
    head.headers.insert(HOST, upstream.host_field());
    let version = match received.version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2.0",
        _ => "1.1",
    };
    if let Ok(via) = format!("{version} {pseudonym}").parse() {
        head.headers.append(VIA, via);
    }
    head
}

/// Returns whether a request has passed the proxy with this pseudonym (RFC 9110, section 7.6.3).
pub(crate) fn is_via(headers: &HeaderMap, pseudonym: &str) -> bool {
    members(headers, &VIA).any(|member| member.split_whitespace().nth(1) == Some(pseudonym))
}

/// Changes the head of the upstream's response to the one that the client gets, whose body has this size.
pub(crate) fn from_upstream(head: &mut response::Parts, request: &request::Parts, size: &SizeHint) {
    // hyper would respond with the version of the upstream, even if the client's is later.
    head.version = Version::default();
    remove_hop_by_hop(&mut head.headers);
    // hyper sets the length of a body, unless a fault hides it. Without content, the field tells the length that there
    // would be (RFC 9110, section 8.6).
    if request.method != Method::HEAD && head.status != StatusCode::NOT_MODIFIED && size.exact().is_some() {
        head.headers.remove(CONTENT_LENGTH);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named = members(headers, &CONNECTION).filter_map(|name| name.parse().ok());
    for name in named.chain(HOP_BY_HOP).collect::<Vec<HeaderName>>() {
        headers.remove(name);
    }
}

/// Returns the members of a field that is a list (RFC 9110, section 5.6.1).
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

/// Joins the cookies, which HTTP/2 may split (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(b"; ".as_slice()))
    {
        headers.insert(COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    #[test]
    fn the_upstream_gets_the_request_for_itself() {
        let mut request = Request::post("http://proxy:8080/a?b=c");
        for (name, value) in [
            ("host", "proxy:8080"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("te", "trailers, deflate"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-other", "2"),
        ] {
            request = request.header(name, value);
        }
        let (received, ()) = request.body(()).unwrap().into_parts();
        let head = to_upstream(&received, &"http://example.com/api".parse().unwrap(), "me");
        assert_eq!((head.method, head.uri.to_string()), (Method::POST, "/api/a?b=c".to_owned()));
        let mut fields: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        fields.sort_unstable();
        let expected: [(&str, &[u8]); 6] = [
            ("connection", b"te"),
            ("cookie", b"a=1; b=2"),
            ("host", b"example.com"),
            ("te", b"trailers"),
            ("via", b"1.1 me"),
            ("x-other", b"2"),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn of_te_only_trailers_are_passed_on() {
        for (te, expected) in [
            ("trailers", Some("trailers")),
            ("trailers, deflate", Some("trailers")),
            ("gzip;q=0.5 , Trailers", Some("trailers")),
            ("deflate", None),
            ("x-trailers", None),
            ("", None),
        ] {
            let (received, ()) = Request::get("/").header("te", te).body(()).unwrap().into_parts();
            let head = to_upstream(&received, &"http://example.com".parse().unwrap(), "me");
            assert_eq!(head.headers.get("te").map(|te| te.to_str().unwrap()), expected, "{te}");
            assert_eq!(head.headers.contains_key("connection"), expected.is_some(), "{te}");
        }
    }

    #[test]
    fn a_request_that_has_come_back_is_recognized_by_its_via() {
        for (via, expected) in [
            (&["1.1 me"][..], true),
            (&["1.0 fred, 1.1 other (a comment)", "HTTP/2.0 me (b), 1.1 x"], true),
            (&["1.1 other"], false),
            (&["1.1 other (me)", "me"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in via {
                headers.append(VIA, HeaderValue::from_static(value));
            }
            assert_eq!(is_via(&headers, "me"), expected, "{via:?}");
        }
    }

    #[track_caller]
    fn check_length(method: Method, status: u16, size: SizeHint, is_kept: bool) {
        let (request, ()) = Request::builder().method(method).body(()).unwrap().into_parts();
        let response = Response::builder().status(status).header("content-length", "5").header("connection", "close");
        let (mut head, ()) = response.version(Version::HTTP_10).body(()).unwrap().into_parts();
        from_upstream(&mut head, &request, &size);
        assert_eq!(head.version, Version::HTTP_11);
        assert_eq!(head.headers.contains_key("content-length"), is_kept);
        assert!(!head.headers.contains_key("connection"));
    }

    #[test]
    fn the_length_is_kept_only_where_there_is_no_content() {
        check_length(Method::GET, 200, SizeHint::with_exact(5), false);
        check_length(Method::HEAD, 200, SizeHint::with_exact(0), true);
        check_length(Method::GET, 304, SizeHint::with_exact(0), true);
    }
}

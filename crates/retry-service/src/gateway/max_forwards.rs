//! `Max-Forwards`: limits how often TRACE and OPTIONS are forwarded. RFC 9110, section 7.6.2.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, COOKIE, MAX_FORWARDS, PROXY_AUTHORIZATION},
};
use http_body_util::Full;

/// Headers that a response to TRACE must not contain (RFC 9110, section 9.3.8).
const SECRETS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");

/// Returns the gateway's own response to a request that must not be forwarded any more.
pub(super) fn respond_at_end<B>(request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    let is_at_end = applies_to(request.method()) && left(request.headers()) == Some(0);
    is_at_end.then(|| if *request.method() == Method::TRACE { trace(request) } else { options() })
}

/// Decrements the header.
pub(super) fn count_down(method: &Method, headers: &mut HeaderMap) {
    if applies_to(method)
        && let Some(left) = left(headers)
    {
        headers.insert(MAX_FORWARDS, left.saturating_sub(1).into());
    }
}

/// Whether the header applies to this method. With other methods it is ignored.
fn applies_to(method: &Method) -> bool {
    *method == Method::TRACE || *method == Method::OPTIONS
}

/// Returns the number of forwards left; `None` if there is no valid number.
fn left(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(MAX_FORWARDS)?.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Returns the request as it was received, without its credentials.
fn trace<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    let mut message = format!("TRACE {} {:?}\r\n", request.uri(), request.version()).into_bytes();
    for (name, value) in request.headers().iter().filter(|(name, _)| !SECRETS.contains(name)) {
        message.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    message.extend(b"\r\n");
    let mut response = Response::new(Full::from(message));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("message/http"));
    response
}

fn options() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: Method, forwards: &str) -> Request<()> {
        let request = Request::builder().method(method).uri("/x").header(MAX_FORWARDS, forwards);
        request.header(COOKIE, "secret").header("x-a", "1").body(()).unwrap()
    }

    #[test]
    fn max_forwards_is_decremented_for_trace_and_options() {
        let check = |method: Method, forwards: &str, expected: &str, ends: bool| {
            let mut request = request(method.clone(), forwards);
            assert_eq!(respond_at_end(&request).is_some(), ends, "{method} {forwards}");
            count_down(&method, request.headers_mut());
            assert_eq!(request.headers()[MAX_FORWARDS], expected, "{method} {forwards}");
        };
        check(Method::TRACE, "5", "4", false);
        check(Method::OPTIONS, "1", "0", false);
        check(Method::OPTIONS, "0", "0", true);
        check(Method::TRACE, "0", "0", true);
        check(Method::GET, "0", "0", false);
        check(Method::TRACE, "many", "many", false);
        check(Method::TRACE, "+1", "+1", false);
    }

    #[test]
    fn a_trace_contains_no_credentials() {
        let response = respond_at_end(&request(Method::TRACE, "0")).unwrap();
        let body = format!("{:?}", response.into_body());
        assert!(body.contains("TRACE /x HTTP/1.1\\r\\nmax-forwards: 0\\r\\nx-a: 1\\r\\n\\r\\n"), "{body}");
    }
}

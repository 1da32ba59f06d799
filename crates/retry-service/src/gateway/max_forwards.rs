//! `Max-Forwards`: how far TRACE and OPTIONS may go. RFC 9110, section 7.6.2.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, COOKIE, MAX_FORWARDS, PROXY_AUTHORIZATION},
};
use http_body_util::Full;

/// What no TRACE tells (RFC 9110, section 9.3.8).
const SECRETS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];

const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");

/// The gateway's own response to a request that may go no further.
pub(crate) fn respond_at_end<B>(request: &Request<B>) -> Option<Response<Full<Bytes>>> {
    let is_at_end = counts(request.method()) && left(request.headers()) == Some(0);
    is_at_end.then(|| if *request.method() == Method::TRACE { trace(request) } else { options() })
}

/// Counts one forward.
pub(crate) fn count_down(method: &Method, headers: &mut HeaderMap) {
    if counts(method)
        && let Some(left) = left(headers)
    {
        headers.insert(MAX_FORWARDS, left.saturating_sub(1).into());
    }
}

/// Whether the method is one that the header is for; with others it is ignored.
fn counts(method: &Method) -> bool {
    *method == Method::TRACE || *method == Method::OPTIONS
}

/// How often the request may be forwarded; `None` if it does not say so in a number.
fn left(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(MAX_FORWARDS)?.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// The request as it was received.
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
    fn forwards_are_counted_down_for_trace_and_options() {
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
    fn a_trace_tells_no_secrets() {
        let response = respond_at_end(&request(Method::TRACE, "0")).unwrap();
        let body = format!("{:?}", response.into_body());
        assert!(body.contains("TRACE /x HTTP/1.1\\r\\nmax-forwards: 0\\r\\nx-a: 1\\r\\n\\r\\n"), "{body}");
    }
}

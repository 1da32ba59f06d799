//! The responses of the routes, before the script is applied.

use std::convert::Infallible;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use jiff::Timestamp;

use crate::common::error_payload::error_response;
use crate::recorder::Report;

/// A response of the backend.
pub(crate) type Response = http::Response<ResponseBody>;

/// The body of a response.
///
/// An error resets the HTTP/2 stream. Over HTTP/1.1 there are no errors.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, h2::Error>;

/// The size of the largest body that is echoed.
pub(crate) const ECHO_LIMIT: usize = 16 << 20;

pub(crate) fn hello() -> Response {
    typed(StatusCode::OK, "text/plain", "Hello World!!!")
}

/// Returns the request as it arrived, in the format of TRACE (RFC 9110, section 9.3.8).
pub(crate) fn echo(request: &Parts, body: &[u8]) -> Response {
    let Parts { method, uri, version, headers, .. } = request;
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let mut message = format!("{method} {target} {version:?}\r\n").into_bytes();
    for (name, value) in headers {
        message.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(body);
    typed(StatusCode::OK, "message/http", message)
}

pub(crate) fn requests(report: &Report) -> Response {
    // Serializing numbers, strings and dates cannot fail.
    typed(StatusCode::OK, "application/json", serde_json::to_vec(report).unwrap_or_default())
}

pub(crate) fn options(allowed: &str) -> Response {
    let mut response = Response::new(boxed(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    set(&mut response, header::ALLOW, allowed);
    response
}

pub(crate) fn method_not_allowed(request: &Parts, allowed: &str) -> Response {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", request);
    set(&mut response, header::ALLOW, allowed);
    response
}

pub(crate) fn not_found(request: &Parts) -> Response {
    let (path, method) = (request.uri.path(), &request.method);
    let message = format!("no matching resource found for path : {path} , method : {method}");
    error(StatusCode::NOT_FOUND, &message, request)
}

/// Returns a response whose JSON body describes an error.
pub(crate) fn error(status: StatusCode, message: &str, request: &Parts) -> Response {
    error_response(Timestamp::now(), status, message, &request.method, &request.uri).map(boxed)
}

pub(crate) fn typed(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(boxed(Full::new(body.into())));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, content_type);
    response
}

/// Sets a header field, if the value is valid.
pub(crate) fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Removes the body of a response to HEAD, but keeps its length. hyper does this only over HTTP/1.1.
pub(crate) fn remove_body(response: &mut Response) {
    if let Some(length) = response.body().size_hint().exact() {
        // That of an upstream has a length, but no body.
        response.headers_mut().entry(header::CONTENT_LENGTH).or_insert_with(|| length.into());
    }
    *response.body_mut() = boxed(Empty::new());
}

pub(crate) fn boxed<B>(body: B) -> ResponseBody
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    body.map_err(|never| match never {}).boxed_unsync()
}

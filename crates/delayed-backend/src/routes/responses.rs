//! The answers of each route, before the script has its way with them.

use std::convert::Infallible;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;

use crate::common::error_payload::ErrorPayload;
use crate::recorder::Report;
use crate::routes::bytes::KnownBytes;
use crate::routes::range::{Selection, etag, select};

/// A response of the backend.
pub(crate) type Answer = Response<AnswerBody>;

/// Its body.
///
/// An error resets the stream; over HTTP/1.1 there is none.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, h2::Error>;

pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain", body)
}

pub(crate) fn allowed_methods(allowed: &'static str) -> Answer {
    let mut answer = Response::new(boxed(Full::default()));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

pub(crate) fn method_not_allowed(request: &Parts, allowed: &'static str) -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", request);
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

pub(crate) fn not_found(request: &Parts) -> Answer {
    let (path, method) = (request.uri.path(), &request.method);
    let message = format!("no matching resource found for path : {path} , method : {method}");
    error(StatusCode::NOT_FOUND, message, request)
}

pub(crate) fn error(status: StatusCode, message: impl Into<String>, request: &Parts) -> Answer {
    ErrorPayload::new(Timestamp::now(), status, message, request).into_response().map(boxed)
}

pub(crate) fn journal(report: &Report) -> Answer {
    // Numbers, strings and dates always serialize; an empty body is how the types say otherwise.
    typed(StatusCode::OK, "application/json", serde_json::to_vec(report).unwrap_or_default())
}

/// The request as it arrived, in the form that TRACE gives it (RFC 9110, section 9.3.8).
pub(crate) fn echo(request: &Parts, body: &[u8]) -> Answer {
    let Parts { method, uri, version, headers, .. } = request;
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let mut message = BytesMut::new();
    message.put_slice(format!("{method} {target} {version:?}\r\n").as_bytes());
    for (name, value) in headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            message.put_slice(part);
        }
    }
    message.put_slice(b"\r\n");
    message.put_slice(body);
    typed(StatusCode::OK, "message/http", message.freeze())
}

/// The known bytes, or the part of them that is asked for.
pub(crate) fn known_bytes(request: &Parts, length: u64) -> Answer {
    let (status, from, to) = match select(&request.method, &request.headers, length) {
        Selection::Whole => (StatusCode::OK, 0, length),
        Selection::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last + 1),
        Selection::Unsatisfiable => return unsatisfiable(request, length),
        Selection::Changed => {
            return error(StatusCode::PRECONDITION_FAILED, "It has changed", request);
        }
    };
    let mut answer = Response::new(boxed(KnownBytes::new(from, to)));
    *answer.status_mut() = status;
    set(&mut answer, header::CONTENT_TYPE, "text/plain");
    set(&mut answer, header::ACCEPT_RANGES, "bytes");
    set(&mut answer, header::ETAG, &etag(length));
    if status == StatusCode::PARTIAL_CONTENT {
        set(&mut answer, header::CONTENT_RANGE, &format!("bytes {from}-{}/{length}", to - 1));
    }
    answer
}

fn unsatisfiable(request: &Parts, length: u64) -> Answer {
    let mut answer = error(StatusCode::RANGE_NOT_SATISFIABLE, "There is no such part", request);
    set(&mut answer, header::CONTENT_RANGE, &format!("bytes */{length}"));
    answer
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(boxed(Full::new(body.into())));
    *answer.status_mut() = status;
    set(&mut answer, header::CONTENT_TYPE, content_type);
    answer
}

/// Sets a field, unless the text cannot stand in one.
pub(crate) fn set(answer: &mut Answer, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

pub(crate) fn boxed<B>(body: B) -> AnswerBody
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    body.map_err(|never| match never {}).boxed_unsync()
}

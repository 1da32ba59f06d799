//! Which requests are rejected instead of being forwarded.

use http::{
    HeaderValue, Method, Request, StatusCode,
    header::{CONTENT_LENGTH, EXPECT},
    uri::PathAndQuery,
};
use retry_client::{FramingError, check_framing, origin_form};

use super::{headers::HeaderRules, host, present_headers::PresentHeaders};
use crate::{
    exchange::{error_response::ErrorResponse, request_body::BodyTooLarge},
    rejection::Rejection,
};

/// What a request is for.
pub(super) struct Target {
    pub(super) path: PathAndQuery,
    /// `None` for an HTTP/1.0 request without a host.
    pub(super) host: Option<HeaderValue>,
}

/// Checks the head of a request, and returns its target.
pub(super) fn validate<B>(
    request: &mut Request<B>,
    present: PresentHeaders,
    rules: &HeaderRules,
    max_body_size: Option<u64>,
) -> Result<Target, ErrorResponse> {
    let error = |status, message: &str| Err(ErrorResponse::new(status, message));
    if *request.method() == Method::CONNECT {
        return error(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported: this is a gateway to a single server");
    }
    if present.content_length || present.transfer_encoding {
        check_framing(request.headers_mut())
            .map_err(|error| ErrorResponse::new(status_of(&error), error.to_string()))?;
    }
    let Some(path) = origin_form(request.method(), request.uri()) else {
        return error(StatusCode::BAD_REQUEST, "the target of the request has no path");
    };
    let Ok(host) = host::of(request) else {
        return error(StatusCode::BAD_REQUEST, "the request must have exactly one valid host");
    };
    if present.via && rules.is_loop(request.headers()) {
        return Err(ErrorResponse::rejected(Rejection::LoopDetected));
    }
    let expectation = if present.expect { request.headers().get(EXPECT) } else { None };
    if expectation.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return error(StatusCode::EXPECTATION_FAILED, "the only supported expectation is 100-continue");
    }
    if let Some(limit) = max_body_size.filter(|_| present.content_length) {
        let length = request.headers().get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit) {
            return Err(ErrorResponse::too_large(&BodyTooLarge(limit)));
        }
    }
    Ok(Target { path, host })
}

fn status_of(error: &FramingError) -> StatusCode {
    match error {
        // RFC 9112, section 6.1.
        FramingError::TransferCoding(_) => StatusCode::NOT_IMPLEMENTED,
        _ => StatusCode::BAD_REQUEST,
    }
}

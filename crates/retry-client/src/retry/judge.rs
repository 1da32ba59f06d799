//! What a response means for its call: the one rule for retries, hedging, the health of endpoints, and why a call ended.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

use crate::{
    grpc::{code::GrpcCode, code_set::GrpcCodes},
    retry::{
        response_status::ResponseStatus,
        server_hints::{Advice, ServerHint, ServerHints},
    },
};

/// Which responses are retried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) status_codes: &'a [u16],
    /// Empty if the request is not a gRPC call, or is not to be repeated for its code.
    pub(crate) grpc_codes: GrpcCodes,
    pub(crate) hints: ServerHints,
}

/// What a response means for its call, whatever its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judgment {
    pub(crate) status: ResponseStatus,
    /// `None` if the response is accepted.
    pub(crate) failure: Option<FailedResponse>,
}

/// What is known of a response that should be retried, unless the server forbids that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailedResponse {
    /// Whether the server asked for no retry. That is about this call only: the server has failed nonetheless.
    pub(crate) is_retry_forbidden: bool,
    /// Whether the server is to blame, so that it may be ejected.
    pub(crate) is_server_error: bool,
    /// Whether it says that the client sends too much.
    pub(crate) is_throttled: bool,
    /// Whether its gRPC code is listed, with which the server says that the call may be repeated.
    pub(crate) is_grpc_listed: bool,
    /// The wait that the server requested.
    pub(crate) wait: Option<Duration>,
}

#[cfg(test)]
impl FailedResponse {
    /// A failure of the server that says nothing else.
    pub(crate) const SERVER_ERROR: Self = Self {
        is_retry_forbidden: false,
        is_server_error: true,
        is_throttled: false,
        is_grpc_listed: false,
        wait: None,
    };
}

impl Judgment {
    pub(crate) fn is_failed(self) -> bool {
        self.failure.is_some()
    }

    /// Whether it is a failure of the server.
    pub(crate) fn is_server_error(self) -> bool {
        self.failure.is_some_and(|failure| failure.is_server_error)
    }
}

impl Judge<'_> {
    /// Judges a response by its head and the trailers that have arrived: by the status, and by the hints in both.
    pub(crate) fn judge(
        self,
        http: StatusCode,
        head: &HeaderMap,
        trailers: Option<&HeaderMap>,
        now: impl FnOnce() -> SystemTime,
    ) -> Judgment {
        let grpc = if self.grpc_codes.is_empty() { None } else { GrpcCode::of(trailers.unwrap_or(head)) };
        let status = ResponseStatus { http, grpc };
        Judgment { status, failure: self.failure(status, head, trailers, now) }
    }

    fn failure(
        self,
        status: ResponseStatus,
        head: &HeaderMap,
        trailers: Option<&HeaderMap>,
        now: impl FnOnce() -> SystemTime,
    ) -> Option<FailedResponse> {
        let ResponseStatus { http, grpc } = status;
        let is_grpc_listed = grpc.is_some_and(|code| self.grpc_codes.contains(code));
        let is_listed = is_grpc_listed || self.status_codes.contains(&http.as_u16());
        if !is_listed && !self.may_be_asked_to_retry(http) {
            return None;
        }
        let now = now();
        let read = |fields| self.hints.read(fields, now);
        let Advice { retry, wait } = trailers.map(read).unwrap_or_default().or(read(head));
        if !is_listed && retry != Some(true) {
            return None;
        }
        Some(FailedResponse {
            is_retry_forbidden: retry == Some(false),
            is_server_error: http.is_server_error() || is_grpc_listed && grpc.is_some_and(GrpcCode::is_server_error),
            is_throttled: status.is_throttled(),
            is_grpc_listed,
            wait,
        })
    }

    /// Whether a response with this status may be retried although it is not listed.
    fn may_be_asked_to_retry(self, http: StatusCode) -> bool {
        (http.is_client_error() || http.is_server_error()) && self.hints.contains(ServerHint::ShouldRetry)
    }
}

#[expect(clippy::disallowed_methods, reason = "Retry-After may be a date, which is relative to the wall clock")]
pub(crate) fn wall_clock() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const FAILED: FailedResponse = FailedResponse::SERVER_ERROR;

    type Fields<'a> = &'a [(&'static str, &'static str)];

    fn headers(fields: Fields<'_>) -> HeaderMap {
        let fields = fields.iter();
        fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    /// Judges by the statuses 429 and 503, and for gRPC by RESOURCE_EXHAUSTED and UNAVAILABLE.
    #[track_caller]
    fn check(
        is_grpc: bool,
        http: u16,
        head: Fields<'_>,
        trailers: Option<Fields<'_>>,
        expected: Option<FailedResponse>,
    ) {
        let codes = [GrpcCode::ResourceExhausted, GrpcCode::Unavailable].into_iter().filter(|_| is_grpc);
        let judge = Judge {
            status_codes: &[429, 503],
            grpc_codes: codes.collect(),
            hints: ServerHint::ALL.into_iter().collect(),
        };
        let http = StatusCode::from_u16(http).unwrap();
        let judgment = judge.judge(http, &headers(head), trailers.map(headers).as_ref(), || SystemTime::UNIX_EPOCH);
        assert_eq!(judgment.failure, expected, "{http} {head:?} {trailers:?}");
        assert_eq!(judgment.status.http, http);
    }

    #[test]
    fn http_responses() {
        let throttled = FailedResponse { is_server_error: false, is_throttled: true, ..FAILED };
        let client_error = FailedResponse { is_server_error: false, ..FAILED };
        let forbidden = |failed| Some(FailedResponse { is_retry_forbidden: true, ..failed });
        let check = |http, fields: Fields<'_>, expected| check(false, http, fields, None, expected);
        check(200, &[], None);
        check(500, &[], None);
        check(503, &[], Some(FAILED));
        check(429, &[], Some(throttled));
        check(503, &[("retry-after", "2")], Some(FailedResponse { wait: Some(Duration::from_secs(2)), ..FAILED }));
        check(500, &[("retry-after", "2")], None);
        let (yes, no) = (("x-should-retry", "true"), ("x-should-retry", "false"));
        check(503, &[no], forbidden(FAILED));
        check(429, &[("grpc-retry-pushback-ms", "-1")], forbidden(throttled));
        check(500, &[no], None);
        check(500, &[yes], Some(FAILED));
        check(409, &[yes], Some(client_error));
        check(409, &[yes, ("grpc-retry-pushback-ms", "-1")], None);
        for http in [200, 304] {
            check(http, &[yes], None);
        }
        check(200, &[("grpc-status", "14")], None);
    }

    #[test]
    fn grpc_responses() {
        let unavailable = FailedResponse { is_grpc_listed: true, ..FAILED };
        let exhausted = FailedResponse { is_server_error: false, is_throttled: true, ..unavailable };
        let check = |http, fields: Fields<'_>, expected| {
            check(true, http, fields, None, expected);
            check(true, http, &[], Some(fields), expected);
        };
        check(200, &[], None);
        check(200, &[("grpc-status", "0")], None);
        check(200, &[("grpc-status", "13")], None);
        check(200, &[("grpc-status", "14")], Some(unavailable));
        check(200, &[("grpc-status", "8")], Some(exhausted));
        let wait = Some(Duration::from_millis(10));
        let fields = [("grpc-status", "14"), ("grpc-retry-pushback-ms", "10")];
        check(200, &fields, Some(FailedResponse { wait, ..unavailable }));
        let forbidden = FailedResponse { is_retry_forbidden: true, ..unavailable };
        check(200, &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")], Some(forbidden));
        // What is in front of the server.
        check(503, &[], Some(FAILED));
    }

    #[test]
    fn the_hints_of_head_and_trailers_count() {
        let check = |head, trailer, is_retry_forbidden, millis: Option<u64>| {
            let wait = millis.map(Duration::from_millis);
            let expected = FailedResponse { is_retry_forbidden, is_grpc_listed: true, wait, ..FAILED };
            check(true, 200, &[head], Some(&[("grpc-status", "14"), trailer]), Some(expected));
        };
        let (yes, no, pushback) = (("x-should-retry", "true"), ("x-should-retry", "false"), "grpc-retry-pushback-ms");
        check(no, ("x-last", "1"), true, None);
        check(no, yes, true, None);
        check(yes, no, true, None);
        check((pushback, "10"), yes, false, Some(10));
        check((pushback, "10"), (pushback, "20"), false, Some(20));
        check((pushback, "-1"), (pushback, "20"), true, Some(20));
    }
}

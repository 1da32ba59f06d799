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
    /// None if the request is not a gRPC call, or is not to be repeated for its code.
    pub(crate) grpc_codes: GrpcCodes,
    pub(crate) hints: ServerHints,
}

/// What a response means for its call, whatever its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgment {
    /// It is returned.
    Accepted,
    /// It is returned, although its status is listed: the server asked for no retry.
    RetryForbidden,
    /// It should be retried.
    Failed(FailedResponse),
}

/// A response that should be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailedResponse {
    /// Whether the server is to blame, so that it may be ejected.
    pub(crate) is_server_error: bool,
    /// Whether it says that the client sends too much.
    pub(crate) is_throttled: bool,
    /// Whether its gRPC code is listed, with which the server says that the call may be repeated.
    pub(crate) is_grpc_listed: bool,
    /// The wait that the server requested.
    pub(crate) wait: Option<Duration>,
}

impl Judgment {
    pub(crate) fn is_failed(self) -> bool {
        matches!(self, Self::Failed(_))
    }

    /// Whether it is a failure of the server.
    pub(crate) fn is_server_error(self) -> bool {
        matches!(self, Self::Failed(FailedResponse { is_server_error: true, .. }))
    }
}

impl Judge<'_> {
    /// Returns the judge of the trailers behind a head that was accepted. `None` if they decide nothing.
    pub(crate) fn of_trailers(self) -> Option<Judge<'static>> {
        let Self { grpc_codes, hints, .. } = self;
        (!grpc_codes.is_empty()).then_some(Judge { status_codes: &[], grpc_codes, hints })
    }

    /// Whether trailers are those of a failure of the server.
    pub(crate) fn is_server_error(self, trailers: &HeaderMap) -> bool {
        self.judge(self.status(StatusCode::OK, trailers), trailers, wall_clock).is_server_error()
    }

    /// Returns the status in `fields`, the head or the trailers of a response.
    pub(crate) fn status(self, http: StatusCode, fields: &HeaderMap) -> ResponseStatus {
        ResponseStatus { http, grpc: if self.grpc_codes.is_empty() { None } else { GrpcCode::of(fields) } }
    }

    /// Judges a response by its status and the hints in `fields`, its head or its trailers.
    pub(crate) fn judge(
        self,
        status: ResponseStatus,
        fields: &HeaderMap,
        now: impl FnOnce() -> SystemTime,
    ) -> Judgment {
        let ResponseStatus { http, grpc } = status;
        let is_grpc_listed = grpc.is_some_and(|code| self.grpc_codes.contains(code));
        let is_listed = is_grpc_listed || self.status_codes.contains(&http.as_u16());
        if !is_listed && !self.may_be_asked_to_retry(http) {
            return Judgment::Accepted;
        }
        let Advice { retry, wait } = self.hints.read(fields, now());
        match retry.unwrap_or(is_listed) {
            true => Judgment::Failed(FailedResponse {
                is_server_error: http.is_server_error()
                    || is_grpc_listed && grpc.is_some_and(GrpcCode::is_server_error),
                is_throttled: status.is_throttled(),
                is_grpc_listed,
                wait,
            }),
            false if is_listed => Judgment::RetryForbidden,
            false => Judgment::Accepted,
        }
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
    use Judgment::{Accepted, Failed, RetryForbidden};

    const NO_WAIT: FailedResponse =
        FailedResponse { is_server_error: true, is_throttled: false, is_grpc_listed: false, wait: None };

    /// Judges by the statuses 429 and 503, and for gRPC by RESOURCE_EXHAUSTED and UNAVAILABLE.
    #[track_caller]
    fn check(is_grpc: bool, http: u16, fields: &[(&'static str, &'static str)], expected: Judgment) {
        let codes = [GrpcCode::ResourceExhausted, GrpcCode::Unavailable].into_iter().filter(|_| is_grpc);
        let judge = Judge {
            status_codes: &[429, 503],
            grpc_codes: codes.collect(),
            hints: ServerHint::ALL.into_iter().collect(),
        };
        let fields: HeaderMap = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let status = judge.status(StatusCode::from_u16(http).unwrap(), &fields);
        assert_eq!(judge.judge(status, &fields, || SystemTime::UNIX_EPOCH), expected, "{http} {fields:?}");
    }

    #[test]
    fn http_responses() {
        let throttled = FailedResponse { is_server_error: false, is_throttled: true, ..NO_WAIT };
        let client_error = FailedResponse { is_server_error: false, ..NO_WAIT };
        let check = |http, fields: &[_], expected| check(false, http, fields, expected);
        check(200, &[], Accepted);
        check(500, &[], Accepted);
        check(503, &[], Failed(NO_WAIT));
        check(429, &[], Failed(throttled));
        check(503, &[("retry-after", "2")], Failed(FailedResponse { wait: Some(Duration::from_secs(2)), ..NO_WAIT }));
        check(500, &[("retry-after", "2")], Accepted);
        let (yes, no) = (("x-should-retry", "true"), ("x-should-retry", "false"));
        check(503, &[no], RetryForbidden);
        check(429, &[("grpc-retry-pushback-ms", "-1")], RetryForbidden);
        check(500, &[no], Accepted);
        check(500, &[yes], Failed(NO_WAIT));
        check(409, &[yes], Failed(client_error));
        check(409, &[yes, ("grpc-retry-pushback-ms", "-1")], Accepted);
        for http in [200, 304] {
            check(http, &[yes], Accepted);
        }
        check(200, &[("grpc-status", "14")], Accepted);
    }

    #[test]
    fn grpc_responses() {
        let unavailable = FailedResponse { is_grpc_listed: true, ..NO_WAIT };
        let exhausted = FailedResponse { is_server_error: false, is_throttled: true, ..unavailable };
        let check = |http, fields: &[_], expected| check(true, http, fields, expected);
        check(200, &[], Accepted);
        check(200, &[("grpc-status", "0")], Accepted);
        check(200, &[("grpc-status", "13")], Accepted);
        check(200, &[("grpc-status", "14")], Failed(unavailable));
        check(200, &[("grpc-status", "8")], Failed(exhausted));
        let wait = Some(Duration::from_millis(10));
        let fields = [("grpc-status", "14"), ("grpc-retry-pushback-ms", "10")];
        check(200, &fields, Failed(FailedResponse { wait, ..unavailable }));
        check(200, &[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")], RetryForbidden);
        // What is in front of the server.
        check(503, &[], Failed(NO_WAIT));
    }

    #[test]
    fn trailers_are_judged_by_their_code() {
        let judge = |codes: &[GrpcCode]| Judge {
            status_codes: &[200],
            grpc_codes: codes.iter().copied().collect(),
            hints: [ServerHint::GrpcRetryPushback].into_iter().collect(),
        };
        assert!(judge(&[]).of_trailers().is_none());
        let judge = judge(&[GrpcCode::ResourceExhausted, GrpcCode::Unavailable]).of_trailers().unwrap();
        for (code, pushback, expected) in [
            (None, None, false),
            (Some("0"), None, false),
            (Some("8"), None, false),
            (Some("14"), None, true),
            (Some("14"), Some("10"), true),
            (Some("14"), Some("-1"), false),
        ] {
            let fields = [("grpc-status", code), ("grpc-retry-pushback-ms", pushback)];
            let trailers = fields
                .into_iter()
                .filter_map(|(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_static(value?))));
            assert_eq!(judge.is_server_error(&trailers.collect()), expected, "{code:?} {pushback:?}");
        }
    }
}

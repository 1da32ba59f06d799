//! Whether a request is repeated, given what is known of its attempt, and if not, why.

use std::time::Duration;

use retry_core::Verdict;

use crate::{
    end_reason::EndReason,
    endpoint::route::NextEndpoint,
    retry::{failure::FailureKind, judge::FailedResponse},
};

/// What is known of the request at the end of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestState {
    /// Whether it may be processed twice.
    pub(crate) idempotent: bool,
    /// Whether what was read of its body can be sent again.
    pub(crate) replayable: bool,
    /// Whether its body was read to the end.
    pub(crate) fully_read: bool,
    /// Where another attempt would go.
    pub(crate) next: NextEndpoint,
}

impl RequestState {
    /// Returns why the request may not be repeated after the server may have processed it. `None` if it may.
    fn obstacle(self) -> Option<EndReason> {
        if self.idempotent { self.unreplayable() } else { Some(EndReason::NotSafeToRepeat) }
    }

    /// Returns why the request may not be repeated after a failure. `None` if it may.
    fn obstacle_after(self, kind: FailureKind) -> Option<EndReason> {
        use FailureKind::{CutOff, MaybeProcessed, NotSent, Outage, Permanent, Refused, TimedOut, Unreachable};
        match kind {
            NotSent | Unreachable | Refused => self.unreplayable(),
            MaybeProcessed | CutOff | TimedOut => self.obstacle(),
            Permanent => Some(EndReason::Permanent),
            Outage => Some(EndReason::Outage),
        }
    }

    fn unreplayable(self) -> Option<EndReason> {
        (!self.replayable).then_some(EndReason::BodyNotReplayable)
    }
}

/// Returns the verdict on an attempt without a response, or why there is no other attempt.
pub(crate) fn on_failure(request: RequestState, kind: FailureKind) -> Result<Verdict, EndReason> {
    use FailureKind::{CutOff, NotSent, TimedOut, Unreachable};
    if let Some(obstacle) = request.obstacle_after(kind) {
        return Err(obstacle);
    }
    Ok(match kind {
        // Adds no load: it goes elsewhere, or waits until an endpoint is up.
        CutOff => Verdict::RetryUncharged(Some(Duration::ZERO)),
        NotSent | Unreachable => {
            let is_elsewhere = request.next == NextEndpoint::FirstOther;
            Verdict::RetryUncharged(is_elsewhere.then_some(Duration::ZERO))
        }
        _ if request.next == NextEndpoint::FirstOther => Verdict::RetryAfter(Duration::ZERO),
        TimedOut => Verdict::RetryTimeout,
        _ => Verdict::Retry,
    })
}

/// Returns the verdict on a response that is not accepted, or why it is returned although it is no success that pays for later
/// retries.
///
/// A server that responded before it had read the complete request knew enough to decide: another attempt would get the
/// same response, which is returned like any other that is not retried. But with a listed gRPC code, the server says that
/// the call may be repeated, and the next attempt sends what was read of the request and then the rest (gRFC A6).
pub(crate) fn on_failed_response(request: RequestState, failed: FailedResponse) -> Result<Verdict, EndReason> {
    let FailedResponse { is_retry_forbidden, is_throttled, is_grpc_listed, wait, .. } = failed;
    if is_retry_forbidden {
        return Err(EndReason::RetryForbidden);
    }
    let request = RequestState { idempotent: request.idempotent || is_grpc_listed, ..request };
    if let Some(obstacle) = request.obstacle() {
        return Err(obstacle);
    }
    if !request.fully_read && !is_grpc_listed {
        return Err(EndReason::Accepted);
    }
    // The wait is for the endpoint that requested it.
    let wait = match request.next {
        NextEndpoint::Tried => wait,
        NextEndpoint::Other => None,
        NextEndpoint::FirstOther => Some(Duration::ZERO),
    };
    Ok(match wait {
        _ if is_throttled => Verdict::RetryThrottled(wait),
        Some(wait) => Verdict::RetryAfter(wait),
        None => Verdict::Retry,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use EndReason::{Accepted, BodyNotReplayable, NotSafeToRepeat, RetryForbidden};
    use FailureKind::{CutOff, MaybeProcessed, NotSent, Outage, Permanent, Refused, TimedOut, Unreachable};
    use Verdict::{Retry, RetryAfter, RetryThrottled, RetryTimeout, RetryUncharged};

    const PUT: RequestState =
        RequestState { idempotent: true, replayable: true, fully_read: true, next: NextEndpoint::Tried };
    const POST: RequestState = RequestState { idempotent: false, ..PUT };
    const OVERSIZED_PUT: RequestState = RequestState { replayable: false, ..PUT };
    const OVERSIZED_POST: RequestState = RequestState { idempotent: false, ..OVERSIZED_PUT };

    #[test]
    fn failures() {
        for (kind, put, post) in [
            (NotSent, Ok(RetryUncharged(None)), Ok(RetryUncharged(None))),
            (Unreachable, Ok(RetryUncharged(None)), Ok(RetryUncharged(None))),
            (Refused, Ok(Retry), Ok(Retry)),
            (MaybeProcessed, Ok(Retry), Err(NotSafeToRepeat)),
            (CutOff, Ok(RetryUncharged(Some(Duration::ZERO))), Err(NotSafeToRepeat)),
            (TimedOut, Ok(RetryTimeout), Err(NotSafeToRepeat)),
            (Permanent, Err(EndReason::Permanent), Err(EndReason::Permanent)),
            (Outage, Err(EndReason::Outage), Err(EndReason::Outage)),
        ] {
            // What is not sent again, whatever its method.
            let unreplayable = |expected: Result<Verdict, EndReason>| expected.and(Err(BodyNotReplayable));
            assert_eq!(on_failure(PUT, kind), put, "PUT {kind:?}");
            assert_eq!(on_failure(POST, kind), post, "POST {kind:?}");
            assert_eq!(on_failure(OVERSIZED_PUT, kind), unreplayable(put), "PUT too large {kind:?}");
            assert_eq!(on_failure(OVERSIZED_POST, kind), unreplayable(post), "POST too large {kind:?}");
        }
    }

    const FAILED: FailedResponse = FailedResponse::SERVER_ERROR;

    #[test]
    fn the_server_may_forbid_a_retry() {
        let forbidden = FailedResponse { is_retry_forbidden: true, ..FAILED };
        for request in [PUT, POST, OVERSIZED_PUT] {
            assert_eq!(on_failed_response(request, forbidden), Err(RetryForbidden), "{request:?}");
        }
    }

    #[test]
    fn failed_responses() {
        let check = |request, wait, expected, throttled| {
            let failed = |is_throttled| FailedResponse { is_throttled, wait, ..FAILED };
            assert_eq!(on_failed_response(request, failed(false)), expected, "{request:?}");
            assert_eq!(on_failed_response(request, failed(true)), throttled, "{request:?}");
        };
        check(PUT, None, Ok(Retry), Ok(RetryThrottled(None)));
        let half_read = |request| RequestState { fully_read: false, ..request };
        for (request, reason) in [
            (POST, NotSafeToRepeat),
            (OVERSIZED_PUT, BodyNotReplayable),
            (half_read(PUT), Accepted),
            (half_read(POST), NotSafeToRepeat),
        ] {
            check(request, None, Err(reason), Err(reason));
        }
        let wait = Duration::from_secs(2);
        check(PUT, Some(wait), Ok(RetryAfter(wait)), Ok(RetryThrottled(Some(wait))));
        check(POST, Some(wait), Err(NotSafeToRepeat), Err(NotSafeToRepeat));
        // With a listed code of gRPC.
        for (request, expected) in [
            (POST, Ok(Retry)),
            (half_read(POST), Ok(Retry)),
            (OVERSIZED_POST, Err(BodyNotReplayable)),
            (half_read(OVERSIZED_POST), Err(BodyNotReplayable)),
        ] {
            let failed = FailedResponse { is_grpc_listed: true, ..FAILED };
            assert_eq!(on_failed_response(request, failed), expected, "{request:?}");
        }
    }

    #[test]
    fn the_first_retry_elsewhere_does_not_wait() {
        use NextEndpoint::{FirstOther, Other};
        let wait = Some(Duration::from_secs(2));
        let now = RetryAfter(Duration::ZERO);
        for (next, failed, timed_out, listed) in [(FirstOther, now, now, now), (Other, Retry, RetryTimeout, Retry)] {
            let request = RequestState { next, ..PUT };
            assert_eq!(on_failure(request, MaybeProcessed), Ok(failed));
            let unsent = RetryUncharged((next == FirstOther).then_some(Duration::ZERO));
            assert_eq!(
                on_failure(request, NotSent),
                Ok(unsent),
                "for example, if connecting took longer than the attempt may"
            );
            assert_eq!(on_failure(request, TimedOut), Ok(timed_out));
            let on_response =
                |is_throttled| on_failed_response(request, FailedResponse { is_throttled, wait, ..FAILED });
            assert_eq!(on_response(false), Ok(listed), "the wait is for the endpoint that sent it");
            let throttled = RetryThrottled((next == FirstOther).then_some(Duration::ZERO));
            assert_eq!(on_response(true), Ok(throttled));
            assert_eq!(on_failure(RequestState { next, ..POST }, MaybeProcessed), Err(NotSafeToRepeat));
        }
    }
}

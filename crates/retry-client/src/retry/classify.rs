//! Whether a request is repeated, given what is known of its attempt, and if not, why.

use std::time::Duration;

use retry_core::Verdict;

use crate::{end_reason::EndReason, endpoint::route::NextEndpoint, retry::failure::FailureKind};

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
    /// Returns why the request may not be repeated after a response that is listed for retries. `None` if it may, or if
    /// the server responded before it had read the complete request.
    pub(crate) fn obstacle(self) -> Option<EndReason> {
        if self.idempotent { self.unreplayable() } else { Some(EndReason::NotSafeToRepeat) }
    }

    /// Returns why the request may not be repeated after a failure. `None` if it may.
    pub(crate) fn obstacle_after(self, kind: FailureKind) -> Option<EndReason> {
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

/// Returns the verdict on an attempt without a response.
pub(crate) fn on_failure(request: RequestState, kind: FailureKind) -> Verdict {
    use FailureKind::{CutOff, NotSent, TimedOut, Unreachable};
    if request.obstacle_after(kind).is_some() {
        return Verdict::Stop;
    }
    match kind {
        // Adds no load: it goes elsewhere, or waits until an endpoint is up.
        CutOff => Verdict::RetryUncharged(Some(Duration::ZERO)),
        NotSent | Unreachable => {
            let is_elsewhere = request.next == NextEndpoint::FirstOther;
            Verdict::RetryUncharged(is_elsewhere.then_some(Duration::ZERO))
        }
        _ if request.next == NextEndpoint::FirstOther => Verdict::RetryAfter(Duration::ZERO),
        TimedOut => Verdict::RetryTimeout,
        _ => Verdict::Retry,
    }
}

/// Returns the verdict on a response that should be retried, after the wait that the server requested, which is for the
/// endpoint that sent it.
///
/// If the server responded before it had read the complete request, it knew enough to decide: another attempt would get
/// the same response. It is returned like any other that is not retried, but is no success that pays for later retries.
pub(crate) fn on_failed_response(request: RequestState, is_throttled: bool, wait: Option<Duration>) -> Verdict {
    if request.obstacle().is_some() || !request.fully_read {
        return Verdict::Stop;
    }
    let wait = match request.next {
        NextEndpoint::Tried => wait,
        NextEndpoint::Other => None,
        NextEndpoint::FirstOther => Some(Duration::ZERO),
    };
    match wait {
        _ if is_throttled => Verdict::RetryThrottled(wait),
        Some(wait) => Verdict::RetryAfter(wait),
        None => Verdict::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureKind::{CutOff, MaybeProcessed, NotSent, Outage, Permanent, Refused, TimedOut, Unreachable};
    use Verdict::{Retry, RetryAfter, RetryThrottled, RetryTimeout, RetryUncharged, Stop};

    const PUT: RequestState =
        RequestState { idempotent: true, replayable: true, fully_read: true, next: NextEndpoint::Tried };
    const POST: RequestState = RequestState { idempotent: false, ..PUT };
    const OVERSIZED_PUT: RequestState = RequestState { replayable: false, ..PUT };
    const OVERSIZED_POST: RequestState = RequestState { idempotent: false, ..OVERSIZED_PUT };

    #[test]
    fn failures() {
        for (kind, put, post) in [
            (NotSent, RetryUncharged(None), RetryUncharged(None)),
            (Unreachable, RetryUncharged(None), RetryUncharged(None)),
            (Refused, Retry, Retry),
            (MaybeProcessed, Retry, Stop),
            (CutOff, RetryUncharged(Some(Duration::ZERO)), Stop),
            (TimedOut, RetryTimeout, Stop),
            (Permanent, Stop, Stop),
            (Outage, Stop, Stop),
        ] {
            assert_eq!(on_failure(PUT, kind), put, "PUT {kind:?}");
            assert_eq!(on_failure(POST, kind), post, "POST {kind:?}");
            assert_eq!(on_failure(OVERSIZED_PUT, kind), Stop, "PUT too large {kind:?}");
            assert_eq!(on_failure(OVERSIZED_POST, kind), Stop, "POST too large {kind:?}");
        }
    }

    #[test]
    fn a_request_that_is_not_repeated_has_a_reason() {
        use EndReason::{BodyNotReplayable, NotSafeToRepeat};
        for (kind, put, post, oversized_put, oversized_post) in [
            (NotSent, None, None, Some(BodyNotReplayable), Some(BodyNotReplayable)),
            (Refused, None, None, Some(BodyNotReplayable), Some(BodyNotReplayable)),
            (MaybeProcessed, None, Some(NotSafeToRepeat), Some(BodyNotReplayable), Some(NotSafeToRepeat)),
            (TimedOut, None, Some(NotSafeToRepeat), Some(BodyNotReplayable), Some(NotSafeToRepeat)),
        ] {
            let reasons = [PUT, POST, OVERSIZED_PUT, OVERSIZED_POST].map(|request| request.obstacle_after(kind));
            assert_eq!(reasons, [put, post, oversized_put, oversized_post], "{kind:?}");
        }
        assert_eq!(PUT.obstacle_after(Permanent), Some(EndReason::Permanent));
        assert_eq!(PUT.obstacle_after(Outage), Some(EndReason::Outage));
        assert_eq!(
            [PUT, POST, OVERSIZED_PUT].map(RequestState::obstacle),
            [None, Some(NotSafeToRepeat), Some(BodyNotReplayable)]
        );
    }

    #[test]
    fn failed_responses() {
        let check = |request, wait, expected, throttled| {
            assert_eq!(on_failed_response(request, false, wait), expected, "{request:?}");
            assert_eq!(on_failed_response(request, true, wait), throttled, "{request:?}");
        };
        let half_sent = RequestState { fully_read: false, ..PUT };
        for (request, expected) in [(PUT, Retry), (POST, Stop), (OVERSIZED_PUT, Stop), (half_sent, Stop)] {
            check(request, None, expected, if expected == Retry { RetryThrottled(None) } else { expected });
        }
        let wait = Duration::from_secs(2);
        check(PUT, Some(wait), RetryAfter(wait), RetryThrottled(Some(wait)));
        check(POST, Some(wait), Stop, Stop);
    }

    #[test]
    fn the_first_retry_elsewhere_does_not_wait() {
        use NextEndpoint::{FirstOther, Other};
        let requested = Some(Duration::from_secs(2));
        let now = RetryAfter(Duration::ZERO);
        for (next, failed, timed_out, listed) in [(FirstOther, now, now, now), (Other, Retry, RetryTimeout, Retry)] {
            let request = RequestState { next, ..PUT };
            assert_eq!(on_failure(request, MaybeProcessed), failed);
            let unsent = RetryUncharged((next == FirstOther).then_some(Duration::ZERO));
            assert_eq!(
                on_failure(request, NotSent),
                unsent,
                "for example, if connecting took longer than the attempt may"
            );
            assert_eq!(on_failure(request, TimedOut), timed_out);
            let on_response = |is_throttled| on_failed_response(request, is_throttled, requested);
            assert_eq!(on_response(false), listed, "the wait is for the endpoint that sent it");
            let throttled = RetryThrottled((next == FirstOther).then_some(Duration::ZERO));
            assert_eq!(on_response(true), throttled);
            assert_eq!(on_failure(RequestState { next, ..POST }, MaybeProcessed), Stop);
        }
    }
}

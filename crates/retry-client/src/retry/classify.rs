//! Whether an attempt is repeated, given what is known of it.

use std::time::Duration;

use retry_core::Verdict;

use crate::retry::failure::FailureKind;

/// What is known of the request at the end of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestState {
    /// Whether it may be processed twice.
    pub(crate) idempotent: bool,
    /// Whether what was read of its body can be sent again.
    pub(crate) replayable: bool,
    /// Whether its body was read to the end.
    pub(crate) fully_read: bool,
}

/// Returns the verdict on an attempt without a response.
pub(crate) fn on_failure(request: RequestState, kind: FailureKind) -> Verdict {
    let safe = match kind {
        FailureKind::NotSent | FailureKind::Refused => true,
        FailureKind::MaybeProcessed | FailureKind::TimedOut => request.idempotent,
        FailureKind::Permanent => false,
    };
    match (safe && request.replayable, kind) {
        (false, _) => Verdict::Stop,
        (true, FailureKind::TimedOut) => Verdict::RetryTimeout,
        (true, _) => Verdict::Retry,
    }
}

/// Returns the verdict on a response with a status that is listed for retries.
///
/// If the server responded before it had read the complete request, it knew enough to decide: the response is accepted.
pub(crate) fn on_listed_status(request: RequestState, retry_after: Option<Duration>) -> Verdict {
    if request.idempotent && request.replayable && request.fully_read {
        retry_after.map_or(Verdict::Retry, Verdict::RetryAfter)
    } else {
        Verdict::Accept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureKind::{MaybeProcessed, NotSent, Permanent, Refused, TimedOut};
    use Verdict::{Accept, Retry, RetryTimeout, Stop};

    const PUT: RequestState = RequestState { idempotent: true, replayable: true, fully_read: true };
    const POST: RequestState = RequestState { idempotent: false, ..PUT };
    const OVERSIZED_PUT: RequestState = RequestState { replayable: false, ..PUT };
    const OVERSIZED_POST: RequestState = RequestState { idempotent: false, ..OVERSIZED_PUT };

    #[test]
    fn failures() {
        for (kind, put, post) in [
            (NotSent, Retry, Retry),
            (Refused, Retry, Retry),
            (MaybeProcessed, Retry, Stop),
            (TimedOut, RetryTimeout, Stop),
            (Permanent, Stop, Stop),
        ] {
            assert_eq!(on_failure(PUT, kind), put, "PUT {kind:?}");
            assert_eq!(on_failure(POST, kind), post, "POST {kind:?}");
            assert_eq!(on_failure(OVERSIZED_PUT, kind), Stop, "PUT too large {kind:?}");
            assert_eq!(on_failure(OVERSIZED_POST, kind), Stop, "POST too large {kind:?}");
        }
    }

    #[test]
    fn listed_statuses() {
        let half_sent = RequestState { fully_read: false, ..PUT };
        for (request, expected) in [(PUT, Retry), (POST, Accept), (OVERSIZED_PUT, Accept), (half_sent, Accept)] {
            assert_eq!(on_listed_status(request, None), expected, "{request:?}");
        }
        let wait = Duration::from_secs(2);
        assert_eq!(on_listed_status(PUT, Some(wait)), Verdict::RetryAfter(wait));
        assert_eq!(on_listed_status(POST, Some(wait)), Accept);
    }
}

//! What may be sent again: pure rules from what is known of an attempt to a verdict.

use std::time::Duration;

use http::Method;
use retry_core::Verdict;

use crate::retry::failure::Fate;

/// Which methods may be repeated although the server may have processed the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RetryMethods {
    /// Those that RFC 9110, section 9.2.2, calls idempotent: GET, HEAD, OPTIONS, TRACE, PUT, DELETE.
    /// The default.
    #[default]
    Idempotent,
    /// Every method, as the sample does: for servers that know how to deal with a repeated POST.
    All,
}

impl RetryMethods {
    pub(crate) fn allow(self, method: &Method) -> bool {
        match self {
            Self::Idempotent => method.is_idempotent(),
            Self::All => true,
        }
    }
}

/// What is known of the request itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Processing it twice does no harm.
    pub(crate) idempotent: bool,
    /// What was read of its body can be sent again.
    pub(crate) can_repeat: bool,
    /// Its body was read to the end.
    pub(crate) is_read: bool,
}

/// The verdict on an attempt without an answer.
pub(crate) fn on_failure(request: Request, fate: Fate) -> Verdict {
    let safe = match fate {
        Fate::NeverSent | Fate::Refused => true,
        Fate::MaybeProcessed | Fate::TimedOut => request.idempotent,
        Fate::Hopeless => false,
    };
    match (safe && request.can_repeat, fate) {
        (false, _) => Verdict::Stop,
        (true, Fate::TimedOut) => Verdict::RetryTimeout,
        (true, _) => Verdict::Retry,
    }
}

/// The verdict on an answer whose status is listed as one to retry, and which may say when.
///
/// A server that answers before it has read the whole request has seen enough to decide: its answer
/// stands, rather than a half-sent body being sent again.
pub(crate) fn on_answer(request: Request, retry_after: Option<Duration>) -> Verdict {
    if request.idempotent && request.can_repeat && request.is_read {
        retry_after.map_or(Verdict::Retry, Verdict::RetryAfter)
    } else {
        Verdict::Accept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fate::{Hopeless, MaybeProcessed, NeverSent, Refused, TimedOut};
    use Verdict::{Accept, Retry, RetryTimeout, Stop};

    const PUT: Request = Request { idempotent: true, can_repeat: true, is_read: true };
    const POST: Request = Request { idempotent: false, ..PUT };
    const OVERSIZED_PUT: Request = Request { can_repeat: false, ..PUT };
    const OVERSIZED_POST: Request = Request { idempotent: false, ..OVERSIZED_PUT };

    #[test]
    fn failures() {
        for (fate, put, post) in [
            (NeverSent, Retry, Retry),
            (Refused, Retry, Retry),
            (MaybeProcessed, Retry, Stop),
            (TimedOut, RetryTimeout, Stop),
            (Hopeless, Stop, Stop),
        ] {
            assert_eq!(on_failure(PUT, fate), put, "PUT {fate:?}");
            assert_eq!(on_failure(POST, fate), post, "POST {fate:?}");
            assert_eq!(on_failure(OVERSIZED_PUT, fate), Stop, "PUT too large {fate:?}");
            assert_eq!(on_failure(OVERSIZED_POST, fate), Stop, "POST too large {fate:?}");
        }
    }

    #[test]
    fn answers() {
        let half_sent = Request { is_read: false, ..PUT };
        for (request, expected) in [(PUT, Retry), (POST, Accept), (OVERSIZED_PUT, Accept), (half_sent, Accept)] {
            assert_eq!(on_answer(request, None), expected, "{request:?}");
        }
        let asked = Duration::from_secs(2);
        assert_eq!(on_answer(PUT, Some(asked)), Verdict::RetryAfter(asked));
        assert_eq!(on_answer(POST, Some(asked)), Accept);
    }

    #[test]
    fn idempotent_methods_are_those_of_rfc_9110() {
        let custom = Method::from_bytes(b"BREW").unwrap();
        for (method, idempotent) in [
            (Method::GET, true),
            (Method::HEAD, true),
            (Method::OPTIONS, true),
            (Method::TRACE, true),
            (Method::PUT, true),
            (Method::DELETE, true),
            (Method::POST, false),
            (Method::PATCH, false),
            (Method::CONNECT, false),
            (custom, false),
        ] {
            assert_eq!(RetryMethods::Idempotent.allow(&method), idempotent, "{method}");
            assert!(RetryMethods::All.allow(&method));
        }
    }
}

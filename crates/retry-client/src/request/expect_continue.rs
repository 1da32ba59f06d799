//! `Expect: 100-continue`: a body that is sent once the server has seen the head. RFC 9110, section 10.1.1.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::StatusCode;
use tokio::time::{Sleep, sleep};

use crate::error_chain::BoxError;

/// How long the server is waited for: not all know of the expectation. curl and Go wait as long.
const LIMIT: Duration = Duration::from_secs(1);

/// What the server has said to the head of a request. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Consent(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    /// Of the body that waits.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Unknown,
    /// The body may go out.
    Given,
    /// The server has responded without the body, and does not want it.
    Refused,
    /// The response was read as well: what waits can end.
    Over,
}

impl Consent {
    /// The server asks for the body, or is not waited for any longer.
    pub(crate) fn give(&self) {
        self.advance(|stage| if stage == Stage::Unknown { Stage::Given } else { stage });
    }

    /// The server has responded. Below 400 it may read the body all the same.
    pub(crate) fn responded(&self, status: StatusCode) {
        let next = if status.is_client_error() || status.is_server_error() { Stage::Refused } else { Stage::Given };
        self.advance(|stage| if stage == Stage::Unknown { next } else { stage });
    }

    /// Nobody waits for a response any more.
    pub(crate) fn abandon(&self) {
        self.advance(|_| Stage::Over);
    }

    /// The response was read. Returns whether the body was refused, so that the connection can carry no other request.
    pub(crate) fn end(&self) -> bool {
        self.advance(|stage| if stage == Stage::Refused { Stage::Over } else { stage });
        self.lock().stage == Stage::Over
    }

    fn advance(&self, next: impl FnOnce(Stage) -> Stage) {
        let mut state = self.lock();
        let stage = next(state.stage);
        if stage != state.stage {
            state.stage = stage;
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wait of one body for its consent.
#[derive(Debug)]
pub(crate) struct Wait {
    consent: Consent,
    timeout: Pin<Box<Sleep>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the server has responded without the body")]
struct Unwanted;

impl Wait {
    pub(crate) fn new(consent: Consent) -> Self {
        Self { consent, timeout: Box::pin(sleep(LIMIT)) }
    }

    /// Ready once the body may go out, or with an error once it never will.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.timeout.as_mut().poll(cx).is_ready() {
            self.consent.give();
        }
        let mut state = self.consent.lock();
        match state.stage {
            Stage::Given => Poll::Ready(Ok(())),
            Stage::Over => Poll::Ready(Err(Unwanted.into())),
            Stage::Unknown | Stage::Refused => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, timeout};

    use super::*;

    async fn outcome(change: impl FnOnce(&Consent)) -> Option<bool> {
        let consent = Consent::default();
        let mut wait = Wait::new(consent.clone());
        change(&consent);
        let waited = timeout(Duration::from_secs(60), poll_fn(|cx| wait.poll(cx))).await;
        waited.ok().map(|outcome| outcome.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn the_body_goes_out_when_the_server_asks_for_it_or_is_silent() {
        let begin = Instant::now();
        assert_eq!(outcome(Consent::give).await, Some(true));
        assert_eq!(outcome(|consent| consent.responded(StatusCode::OK)).await, Some(true));
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(outcome(|_| {}).await, Some(true));
        assert_eq!(begin.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_refused_never_goes_out_and_ends_with_the_response() {
        assert_eq!(outcome(|consent| consent.responded(StatusCode::EXPECTATION_FAILED)).await, None);
        let ended = |consent: &Consent| {
            consent.responded(StatusCode::UNAUTHORIZED);
            assert!(consent.end());
        };
        assert_eq!(outcome(ended).await, Some(false));
        let too_late = |consent: &Consent| {
            consent.give();
            consent.responded(StatusCode::UNAUTHORIZED);
            assert!(!consent.end());
        };
        assert_eq!(outcome(too_late).await, Some(true));
    }
}

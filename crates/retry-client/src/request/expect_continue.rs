//! `Expect: 100-continue`: the request body is sent once the server asks for it. RFC 9110, section 10.1.1.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::StatusCode;
use tokio::time::{Sleep, sleep};

use crate::error_chain::BoxError;

/// How long to wait for the server, which may not support the expectation. The same as in curl and Go.
const TIMEOUT: Duration = Duration::from_secs(1);

/// What the server has said to the head of a request. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContinueSignal(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    stage: Stage,
    /// Of the body that waits.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    /// The body is sent.
    Proceed,
    /// The server responded without asking for the body.
    Rejected,
    /// The body is never sent: it was rejected and the response has been read, or the request was cancelled.
    Closed,
}

impl ContinueSignal {
    /// The server asked for the body, or the timeout elapsed.
    pub(crate) fn proceed(&self) {
        self.update(|stage| if stage == Stage::Waiting { Stage::Proceed } else { stage });
    }

    /// The server responded. With a status below 400, it may read the body nevertheless.
    pub(crate) fn response(&self, status: StatusCode) {
        let next = if status.is_client_error() || status.is_server_error() { Stage::Rejected } else { Stage::Proceed };
        self.update(|stage| if stage == Stage::Waiting { next } else { stage });
    }

    /// The request was cancelled.
    pub(crate) fn cancel(&self) {
        self.update(|_| Stage::Closed);
    }

    /// The response was read. Returns whether the body was never sent, so that the connection cannot be reused.
    pub(crate) fn response_read(&self) -> bool {
        self.update(|stage| if stage == Stage::Rejected { Stage::Closed } else { stage }) == Stage::Closed
    }

    fn update(&self, next: impl FnOnce(Stage) -> Stage) -> Stage {
        let mut state = self.lock();
        let stage = next(state.stage);
        if stage != state.stage {
            state.stage = stage;
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
        stage
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The wait of a request body for the server.
#[derive(Debug)]
pub(crate) struct ContinueWait {
    signal: ContinueSignal,
    timeout: Pin<Box<Sleep>>,
}

#[derive(Debug, thiserror::Error)]
#[error("the server responded without asking for the request body")]
struct BodyRejected;

impl ContinueWait {
    pub(crate) fn new(signal: ContinueSignal) -> Self {
        Self { signal, timeout: Box::pin(sleep(TIMEOUT)) }
    }

    /// Ready when the body is to be sent, or with an error if it never will be.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.timeout.as_mut().poll(cx).is_ready() {
            self.signal.proceed();
        }
        let mut state = self.signal.lock();
        match state.stage {
            Stage::Proceed => Poll::Ready(Ok(())),
            Stage::Closed => Poll::Ready(Err(BodyRejected.into())),
            Stage::Waiting | Stage::Rejected => {
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

    async fn outcome(change: impl FnOnce(&ContinueSignal)) -> Option<bool> {
        let signal = ContinueSignal::default();
        let mut wait = ContinueWait::new(signal.clone());
        change(&signal);
        let waited = timeout(Duration::from_secs(60), poll_fn(|cx| wait.poll(cx))).await;
        waited.ok().map(|outcome| outcome.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn the_body_is_sent_when_the_server_asks_for_it_or_after_the_timeout() {
        let begin = Instant::now();
        assert_eq!(outcome(ContinueSignal::proceed).await, Some(true));
        assert_eq!(outcome(|signal| signal.response(StatusCode::OK)).await, Some(true));
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(outcome(|_| {}).await, Some(true));
        assert_eq!(begin.elapsed(), TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_rejected_body_is_not_sent_and_ends_with_the_response() {
        assert_eq!(outcome(|signal| signal.response(StatusCode::EXPECTATION_FAILED)).await, None);
        let ended = |signal: &ContinueSignal| {
            signal.response(StatusCode::UNAUTHORIZED);
            assert!(signal.response_read());
        };
        assert_eq!(outcome(ended).await, Some(false));
        let too_late = |signal: &ContinueSignal| {
            signal.proceed();
            signal.response(StatusCode::UNAUTHORIZED);
            assert!(!signal.response_read());
        };
        assert_eq!(outcome(too_late).await, Some(true));
    }
}

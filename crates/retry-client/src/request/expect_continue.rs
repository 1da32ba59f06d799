//! `Expect: 100-continue`: the request body is sent once the server asks for it. RFC 9110, section 10.1.1.

use std::{pin::Pin, sync::Arc, time::Duration};

use http::StatusCode;
use tokio::{sync::watch, time::timeout};

use crate::error_chain::BoxError;

/// How long to wait for the server, which may not support the expectation. The same as in curl and Go.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How the server responded to the head of a request. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContinueSignal(Arc<watch::Sender<Stage>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    /// The body is sent.
    Proceed,
    /// The server responded without asking for the body.
    Rejected,
    /// The body is never sent: it was rejected and the response has been read, or the request was canceled.
    Closed,
}

/// The wait of a request body for the server. It fails if the body will never be sent.
pub(crate) type WaitForContinue = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + Sync>>;

#[derive(Debug, thiserror::Error)]
#[error("the server responded without asking for the request body")]
struct BodyRejected;

impl ContinueSignal {
    /// Notes that the server asked for the body, or that the timeout elapsed.
    pub(crate) fn proceed(&self) {
        self.change(Stage::Waiting, Stage::Proceed);
    }

    /// Notes that the server responded. With a status below 400, it may read the body nevertheless.
    pub(crate) fn response(&self, status: StatusCode) {
        let rejected = status.is_client_error() || status.is_server_error();
        self.change(Stage::Waiting, if rejected { Stage::Rejected } else { Stage::Proceed });
    }

    /// Notes that the request was canceled.
    pub(crate) fn cancel(&self) {
        self.0.send_replace(Stage::Closed);
    }

    /// Notes that the response was read. Returns whether the body was never sent, so that the connection cannot be
    /// reused.
    pub(crate) fn response_read(&self) -> bool {
        self.change(Stage::Rejected, Stage::Closed);
        *self.0.borrow() == Stage::Closed
    }

    fn change(&self, from: Stage, to: Stage) {
        self.0.send_if_modified(|stage| {
            let changed = *stage == from;
            if changed {
                *stage = to;
            }
            changed
        });
    }

    /// Waits until the body may be sent, at most for the timeout.
    pub(crate) fn wait(&self) -> WaitForContinue {
        let (signal, mut stage) = (self.clone(), self.0.subscribe());
        let is_decided = |stage: &Stage| matches!(stage, Stage::Proceed | Stage::Closed);
        Box::pin(async move {
            if timeout(TIMEOUT, stage.wait_for(is_decided)).await.is_err() {
                signal.proceed();
            }
            let stage = *stage.wait_for(is_decided).await?;
            if stage == Stage::Closed { Err(BodyRejected.into()) } else { Ok(()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    async fn outcome(change: impl FnOnce(&ContinueSignal)) -> Option<bool> {
        let signal = ContinueSignal::default();
        let wait = signal.wait();
        change(&signal);
        let waited = timeout(Duration::from_secs(60), wait).await;
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

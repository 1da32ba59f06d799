//! The timeout of one attempt.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use crate::{
    error::Error,
    retry::{
        attempt_request::ReplayableRequest,
        failure::{Failure, FailureKind},
    },
};

pin_project! {
    /// An attempt with an optional timeout. retry-core's own timeout does not distinguish whether the request was sent.
    pub(crate) struct AttemptTimeout<'a, F> {
        #[pin]
        attempt: F,
        request: &'a ReplayableRequest,
        // Boxed, as most calls have no attempt timeout.
        sleep: Option<Pin<Box<Sleep>>>,
        timeout: Duration,
    }
}

impl<'a, F> AttemptTimeout<'a, F> {
    pub(crate) fn new(attempt: F, request: &'a ReplayableRequest, timeout: Option<Duration>) -> Self {
        let sleep = timeout.map(|timeout| Box::pin(sleep(timeout)));
        Self { attempt, request, sleep, timeout: timeout.unwrap_or_default() }
    }
}

impl<F: Future<Output = Result<T, Failure>>, T> Future for AttemptTimeout<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Poll::Ready(outcome) = this.attempt.poll(cx) {
            return Poll::Ready(outcome);
        }
        let Some(sleep) = this.sleep else { return Poll::Pending };
        sleep.as_mut().poll(cx).map(|()| {
            let kind = if this.request.was_sent() { FailureKind::TimedOut } else { FailureKind::NotSent };
            Err(Failure { error: Error::attempt_timeout(*this.timeout), kind })
        })
    }
}

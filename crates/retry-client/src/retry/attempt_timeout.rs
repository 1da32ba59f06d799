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
        // Boxed, as most calls have no attempt timeout. Started when the call is not parked.
        sleep: Option<Pin<Box<Sleep>>>,
        timeout: Option<Duration>,
    }
}

impl<'a, F> AttemptTimeout<'a, F> {
    pub(crate) fn new(attempt: F, request: &'a ReplayableRequest, timeout: Option<Duration>) -> Self {
        Self { attempt, request, sleep: None, timeout }
    }
}

impl<F: Future<Output = Result<T, Failure>>, T> Future for AttemptTimeout<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Poll::Ready(outcome) = this.attempt.poll(cx) {
            return Poll::Ready(outcome);
        }
        let Some(timeout) = *this.timeout else { return Poll::Pending };
        if this.request.route.is_parked() {
            // The time until an endpoint is up does not count.
            *this.sleep = None;
            return Poll::Pending;
        }
        this.sleep.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx).map(|()| {
            this.request.route.timed_out();
            let kind = if this.request.was_sent() { FailureKind::TimedOut } else { FailureKind::NotSent };
            Err(Failure { error: Error::attempt_timeout(timeout), kind })
        })
    }
}

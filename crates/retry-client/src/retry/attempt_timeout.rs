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

type BoxAttempt<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// Adds a timeout to an attempt, if there is one. Boxed, so that calls in backoff and those that wait for an endpoint are
/// small.
///
/// retry-core's own timeout does not distinguish whether the request was sent.
pub(crate) fn limit<'a, T>(
    attempt: impl Future<Output = Result<T, Failure>> + Send + 'a,
    request: &'a ReplayableRequest<'a>,
    timeout: Option<Duration>,
) -> BoxAttempt<'a, T> {
    match timeout {
        None => Box::pin(attempt),
        Some(timeout) => Box::pin(AttemptTimeout { attempt: Some(attempt), request, sleep: None, timeout }),
    }
}

pin_project! {
    /// An attempt with a timeout.
    struct AttemptTimeout<'a, F> {
        // `None` after the timeout. What an attempt holds is released before a retry is decided, which may need it.
        #[pin]
        attempt: Option<F>,
        request: &'a ReplayableRequest<'a>,
        // `None` while the call is parked.
        sleep: Option<Pin<Box<Sleep>>>,
        timeout: Duration,
    }
}

impl<F: Future<Output = Result<T, Failure>>, T> Future for AttemptTimeout<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        if let Some(attempt) = this.attempt.as_mut().as_pin_mut()
            && let Poll::Ready(outcome) = attempt.poll(cx)
        {
            return Poll::Ready(outcome);
        }
        if this.request.route.is_parked() {
            // The time until an endpoint is up does not count.
            *this.sleep = None;
            return Poll::Pending;
        }
        let timeout = *this.timeout;
        this.sleep.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx).map(|()| {
            this.request.route.timed_out();
            this.attempt.set(None);
            let kind = if this.request.was_sent() { FailureKind::TimedOut } else { FailureKind::NotSent };
            Err(Failure { error: Error::attempt_timeout(timeout), kind })
        })
    }
}

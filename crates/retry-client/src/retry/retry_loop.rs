//! One call: attempts over some transport, until the engine says that it is over.

use std::{
    future::ready,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use retry_core::{Attempt, Classify, Event, Report, Verdict};
use tokio::time::{Sleep, sleep};

use crate::{
    error::Error,
    request::attempt_request::{Given, Prepared, Sending},
    response::{drain::drain, retry_after::retry_after},
    retry::{
        attempt_event::{AttemptEvent, Outcome},
        backoff_gauge::Counted,
        classify::{self, on_answer, on_failure},
        config::RetryConfig,
        failure::Failure,
        history::History,
    },
};

/// On the heap, as it passes through many hands.
pub(crate) type Answer<B> = Box<Response<B>>;

/// What sends one attempt.
pub(crate) trait Transport {
    /// The body of its responses.
    type Body: Discardable;

    /// Sends a request once.
    fn send<'a>(
        &mut self,
        sending: Sending<'a>,
    ) -> impl Future<Output = Result<Answer<Self::Body>, Failure>> + use<'a, Self>;

    /// What the caller gets for the response that ended the call.
    fn hand_over(&mut self, _request: &Request<()>, response: Response<Self::Body>) -> Response<Self::Body> {
        response
    }
}

/// A body that can be read to its end in whatever thread runs the call.
pub(crate) trait Discardable: http_body::Body<Data: Send, Error: Send> + Send + 'static {}

impl<B: http_body::Body<Data: Send, Error: Send> + Send + 'static> Discardable for B {}

/// Sends a request as often as the rules say, unless there is an error already. The journal of attempts is among the
/// extensions of the response.
///
/// Not an `async fn`, which would hold the request twice.
pub(crate) fn call<T: Transport>(
    mut transport: T,
    rules: &RetryConfig,
    given: Result<Given, Error>,
) -> impl Future<Output = Result<Response<T::Body>, Error>> {
    let prepared = given.and_then(|given| Prepared::new(rules, given));
    let course = Course::default();
    async move {
        let prepared = match prepared {
            Ok(ref prepared) => prepared,
            Err(error) => return Err(error),
        };
        let head = &prepared.head;
        let retry = rules
            .engine()
            .classify(Judge { rules, prepared })
            .observe(|event: Event<'_, Answer<T::Body>, Failure>| report(rules, head, &course, &event));
        let Report { outcome, reason, journal, .. } = retry
            .report(|attempt| {
                course.go_on(attempt);
                // Boxed: a call that waits for its next attempt need not hold the room for one.
                let sending = Sending::new(rules, prepared, attempt);
                Box::pin(Limited::new(transport.send(sending), prepared, rules.attempt_timeout))
            })
            .await;
        let history = course.take_history();
        match outcome {
            Some(Ok(mut response)) => {
                response.extensions_mut().insert(journal);
                if let Some(history) = history {
                    response.extensions_mut().insert(history);
                }
                Ok(transport.hand_over(head, *response))
            }
            Some(Err(failure)) => Err(failure.error.ended(reason, journal, history)),
            None => Err(Error::deadline().ended(reason, journal, history)),
        }
    }
}

/// What is to be told of a call under way, or has been.
#[derive(Debug, Default)]
struct Course(Mutex<Stage>);

#[derive(Debug, Default)]
struct Stage {
    history: History,
    /// There while the call waits.
    wait: Option<Counted>,
}

impl Course {
    fn change(&self, change: impl FnOnce(&mut Stage)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// An attempt begins, so no wait goes on.
    fn go_on(&self, attempt: Attempt) {
        if attempt.number > 1 {
            self.change(|stage| stage.wait = None);
        }
    }

    /// The attempts, where there was more than one.
    fn take_history(&self) -> Option<History> {
        let history = std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).history);
        history.is_of_several().then_some(history)
    }
}

pin_project! {
    /// An attempt that is cut where the rules limit it. Not left to the engine, which could not tell whether the
    /// request may have been processed.
    struct Limited<'a, F> {
        #[pin]
        attempt: F,
        prepared: &'a Prepared,
        // Boxed, as most have none.
        end: Option<Pin<Box<Sleep>>>,
        limit: Duration,
    }
}

impl<'a, F> Limited<'a, F> {
    fn new(attempt: F, prepared: &'a Prepared, limit: Option<Duration>) -> Self {
        Self { attempt, prepared, end: limit.map(|limit| Box::pin(sleep(limit))), limit: limit.unwrap_or_default() }
    }
}

impl<F: Future<Output = Result<T, Failure>>, T> Future for Limited<'_, F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Poll::Ready(outcome) = this.attempt.poll(cx) {
            return Poll::Ready(outcome);
        }
        let Some(end) = this.end else { return Poll::Pending };
        end.as_mut()
            .poll(cx)
            .map(|()| Err(Failure { error: Error::attempt_timeout(*this.limit), fate: this.prepared.fate_when_cut() }))
    }
}

/// Judges the attempts of one call.
struct Judge<'a> {
    rules: &'a RetryConfig,
    prepared: &'a Prepared,
}

impl<B: Discardable> Classify<Answer<B>, Failure> for Judge<'_> {
    type Discard = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn classify(&self, outcome: &Result<Answer<B>, Failure>) -> Verdict {
        let Prepared { body, idempotent, .. } = self.prepared;
        let request =
            || classify::Request { idempotent: *idempotent, can_repeat: body.can_repeat(), is_read: body.is_read() };
        match outcome {
            Ok(response) if !self.rules.lists(response.status()) => Verdict::Accept,
            Ok(response) => on_answer(request(), retry_after(response.headers(), today())),
            Err(failure) => on_failure(request(), failure.fate),
        }
    }

    fn discard(&self, outcome: Result<Answer<B>, Failure>) -> Self::Discard {
        let Ok(response) = outcome else { return Box::pin(ready(())) };
        Box::pin(drain(response.into_body()))
    }
}

#[expect(clippy::disallowed_methods, reason = "Retry-After may name a date, which is measured against today")]
fn today() -> SystemTime {
    SystemTime::now()
}

fn report<B>(rules: &RetryConfig, head: &Request<()>, course: &Course, event: &Event<'_, Answer<B>, Failure>) {
    let (record, outcome, ended) = match event {
        Event::Retry { record, outcome, .. } => (record, outcome, None),
        Event::End { record, outcome, reason, .. } => (record, outcome, Some(*reason)),
    };
    let outcome = match outcome {
        Some(Ok(response)) => Outcome::Response(response.status()),
        Some(Err(failure)) => Outcome::Failed(&failure.error),
        None => Outcome::DeadlineExceeded,
    };
    if record.attempt > 1 || ended.is_none() {
        course.change(|stage| {
            stage.history.note(record, outcome);
            stage.wait = ended.is_none().then(|| rules.waits.enter());
        });
    }
    let event = AttemptEvent { method: head.method(), uri: head.uri(), record, outcome, ended };
    event.log(rules.policy.count());
    if let Some(observer) = &rules.observer {
        observer(&event);
    }
}

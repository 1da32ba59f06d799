//! One call: attempts over some transport, until the engine says that it is over.

use std::{
    future::ready,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, header::UPGRADE, request};
use pin_project_lite::pin_project;
use retry_core::{Attempt, Classify, Event, Report, Verdict};
use tokio::time::{Sleep, sleep};

use crate::{
    Body,
    classify::{self, on_answer, on_failure},
    drain::drain,
    error::Error,
    event::{AttemptEvent, Outcome},
    failure::{Failure, Fate},
    gauge::Counted,
    history::History,
    idempotency_key::{self, IDEMPOTENCY_KEY},
    replay::{Replay, RequestBody},
    retry_after::retry_after,
    rules::RetryRules,
};

/// What sends one attempt.
pub(crate) trait Transport {
    /// The body of its responses.
    type Body: Discardable;

    /// Sends a request once.
    fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Failure>> + use<Self>;

    /// What the caller gets for the response that ended the call.
    fn hand_over(&mut self, _request: &request::Parts, response: Response<Self::Body>) -> Response<Self::Body> {
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
    rules: &RetryRules,
    request: Result<Request<Body>, Error>,
) -> impl Future<Output = Result<Response<T::Body>, Error>> {
    let prepared = request.and_then(|request| Prepared::new(rules, request));
    let course = Course::default();
    async move {
        let Prepared { head, body, idempotent } = match prepared {
            Ok(ref prepared) => prepared,
            Err(error) => return Err(error),
        };
        let retry = rules
            .engine()
            .classify(Judge { rules, body, idempotent: *idempotent })
            .observe(|event: Event<'_, Response<T::Body>, Failure>| report(rules, head, &course, &event));
        let Report { outcome, reason, journal, .. } = retry
            .report(|attempt| {
                course.go_on(attempt);
                let attempt = transport.send(attempt_request(rules, head, body, attempt));
                Limited::new(attempt, rules.attempt_timeout)
            })
            .await;
        let history = course.take_history();
        match outcome {
            Some(Ok(mut response)) => {
                response.extensions_mut().insert(journal);
                if let Some(history) = history {
                    response.extensions_mut().insert(history);
                }
                Ok(transport.hand_over(head, response))
            }
            Some(Err(failure)) => Err(failure.error.ended(reason, journal, history)),
            None => Err(Error::deadline().ended(reason, journal, history)),
        }
    }
}

/// A request, and what is to be known of it before the first attempt.
struct Prepared {
    head: request::Parts,
    body: Replay,
    /// Whether it may be processed twice.
    idempotent: bool,
}

impl Prepared {
    fn new(rules: &RetryRules, request: Request<Body>) -> Result<Self, Error> {
        if request.method() == Method::CONNECT {
            return Err(Error::bad_input("method CONNECT: a tunnel is no request that could be retried".to_owned()));
        }
        let (mut head, body) = request.into_parts();
        let idempotent = prepare(rules, &mut head);
        Ok(Self { head, body: Replay::new(body, rules.replay_limit, &rules.replay_memory), idempotent })
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
    struct Limited<F> {
        #[pin]
        attempt: F,
        #[pin]
        end: Option<Sleep>,
        limit: Duration,
    }
}

impl<F> Limited<F> {
    fn new(attempt: F, limit: Option<Duration>) -> Self {
        Self { attempt, end: limit.map(sleep), limit: limit.unwrap_or_default() }
    }
}

impl<F: Future<Output = Result<T, Failure>>, T> Future for Limited<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Poll::Ready(outcome) = this.attempt.poll(cx) {
            return Poll::Ready(outcome);
        }
        let Some(end) = this.end.as_pin_mut() else { return Poll::Pending };
        end.poll(cx).map(|()| Err(Failure { error: Error::attempt_timeout(*this.limit), fate: Fate::TimedOut }))
    }
}

/// Whether the request may be processed twice; gives it a key to make it so where that is asked for.
fn prepare(rules: &RetryRules, head: &mut request::Parts) -> bool {
    if head.headers.contains_key(UPGRADE) {
        // What follows a switch of protocols is not HTTP's to repeat.
        return false;
    }
    let idempotent = is_idempotent(rules, &head.method, &head.headers);
    if rules.add_idempotency_key && !idempotent {
        idempotency_key::ensure(&mut head.headers, || fastrand::u128(..));
    }
    idempotent || rules.add_idempotency_key
}

/// Whether a request may be processed twice as it is.
pub(crate) fn is_idempotent(rules: &RetryRules, method: &Method, headers: &HeaderMap) -> bool {
    rules.methods.allow(method) || headers.contains_key(&IDEMPOTENCY_KEY)
}

fn attempt_request(rules: &RetryRules, head: &request::Parts, body: &Replay, attempt: Attempt) -> Request<RequestBody> {
    let mut request = Request::new(body.attempt());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers.clone();
    if !head.extensions.is_empty() {
        *request.extensions_mut() = head.extensions.clone();
    }
    if let Some(name) = &rules.attempt_header {
        request.headers_mut().insert(name, HeaderValue::from(attempt.number));
    }
    request
}

/// Judges the attempts of one call.
struct Judge<'a> {
    rules: &'a RetryRules,
    body: &'a Replay,
    idempotent: bool,
}

impl<B: Discardable> Classify<Response<B>, Failure> for Judge<'_> {
    type Discard = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn classify(&self, outcome: &Result<Response<B>, Failure>) -> Verdict {
        let request = || classify::Request {
            idempotent: self.idempotent,
            can_repeat: self.body.can_repeat(),
            is_read: self.body.is_read(),
        };
        match outcome {
            Ok(response) if !self.rules.lists(response.status()) => Verdict::Accept,
            Ok(response) => on_answer(request(), retry_after(response.headers(), today())),
            Err(failure) => on_failure(request(), failure.fate),
        }
    }

    fn discard(&self, outcome: Result<Response<B>, Failure>) -> Self::Discard {
        let Ok(response) = outcome else { return Box::pin(ready(())) };
        Box::pin(drain(response.into_body()))
    }
}

#[expect(clippy::disallowed_methods, reason = "Retry-After may name a date, which is measured against today")]
fn today() -> SystemTime {
    SystemTime::now()
}

fn report<B>(rules: &RetryRules, head: &request::Parts, course: &Course, event: &Event<'_, Response<B>, Failure>) {
    let (record, outcome, ended) = match event {
        Event::Retry { record, outcome, .. } => (record, outcome, None),
        Event::End { record, outcome, reason, .. } => (record, outcome, Some(*reason)),
    };
    let outcome = match outcome {
        Some(Ok(response)) => Outcome::Answered(response.status()),
        Some(Err(failure)) => Outcome::Failed(&failure.error),
        None => Outcome::Cut,
    };
    if record.attempt > 1 || ended.is_none() {
        course.change(|stage| {
            stage.history.note(record, outcome);
            stage.wait = ended.is_none().then(|| rules.waits.enter());
        });
    }
    let event = AttemptEvent { method: &head.method, uri: &head.uri, record, outcome, ended };
    event.log(rules.policy.count());
    if let Some(observer) = &rules.observer {
        observer(&event);
    }
}

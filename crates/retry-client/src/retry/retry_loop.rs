//! A call: attempts over a transport until one is accepted or the policy allows no more.

use std::{future::ready, mem, sync::Mutex};

use http::Response;
use retry_core::{Attempt, Classify, Discard, Reason, Record, Report, Verdict};
use tokio::time::timeout;

use crate::{
    end_reason::EndReason,
    endpoint::route::AttemptRoute,
    error::Error,
    grpc::code::GrpcCode,
    history::{EarlierAttempts, History, Outcome, PastAttempt},
    lock::lock,
    retry::{
        attempt_event::{AttemptEvent, without_credentials},
        attempt_request::{AttemptRequest, ReplayableRequest, RequestParts},
        attempt_timeout,
        backoff_gauge::{BackoffGauge, BackoffGuard},
        classify::{on_failed_response, on_failure},
        config::{Observer, RetryConfig},
        drain::drain,
        failure::{Failure, FailureKind},
        judged_response::{BoxResponse, JudgedResponse},
        response_status::ResponseStatus,
    },
};

/// Sends requests.
pub(crate) trait Transport: Clone + Send {
    type Body: Drainable;
    /// Where a request is sent to.
    type Endpoint: Send;

    /// Chooses where a request is sent to. As an error, returns a future for a request that has to wait.
    fn pick<'a>(
        &mut self,
        request: AttemptRequest<'a>,
    ) -> Result<Self::Endpoint, impl Future<Output = Result<Self::Endpoint, Failure>> + Send + use<'a, Self>>;

    /// Sends a request once.
    fn send<'a>(
        &mut self,
        request: AttemptRequest<'a>,
        endpoint: Self::Endpoint,
    ) -> impl Future<Output = Result<BoxResponse<Self::Body>, Failure>> + Send + use<'a, Self>;

    /// Reads the body of a response that [`send`](Self::send) has returned unread, as it was to be retried, but is the last.
    fn read_body(
        &mut self,
        _: &ReplayableRequest<'_>,
        response: BoxResponse<Self::Body>,
    ) -> impl Future<Output = Result<BoxResponse<Self::Body>, Failure>> + Send {
        ready(Ok(response))
    }
}

/// A response body that can be drained on whichever thread runs the call.
pub(crate) trait Drainable: http_body::Body<Data: Send, Error: Send> + Send + 'static {}

impl<B: http_body::Body<Data: Send, Error: Send> + Send + 'static> Drainable for B {}

/// Sends a request until the configuration allows no further attempt, and passes the response that ended the call to
/// `finish`. The response carries its [`History`] as an extension. `backoffs` counts the call while it is in backoff.
///
/// Not an `async fn`, whose future would contain the request twice. For the same reason an error from before the call is
/// passed in.
pub(crate) fn call<T: Transport, R>(
    mut transport: T,
    config: &RetryConfig,
    backoffs: Option<&BackoffGauge>,
    parts: Result<RequestParts, Error>,
    finish: impl FnOnce(&ReplayableRequest<'_>, Response<T::Body>) -> R,
) -> impl Future<Output = Result<R, Error>> {
    let request = parts.and_then(|parts| ReplayableRequest::new(config, parts));
    let progress = Mutex::new(Progress::default());
    async move {
        let request = match request {
            Ok(ref request) => request,
            Err(error) => return Err(error),
        };
        let settings = &request.settings;
        let call = settings
            .retry()
            .classify_with(Classifier { request })
            .run(|attempt: Attempt| {
                if attempt.number > 1 {
                    lock(&progress).backoff = None;
                }
                let attempt = AttemptRequest::new(request, attempt);
                let send = move |transport: &mut T, endpoint| {
                    attempt_timeout::limit(transport.send(attempt, endpoint), request, settings.attempt_timeout())
                };
                match transport.pick(attempt) {
                    Ok(endpoint) => send(&mut transport, endpoint),
                    Err(waiting) => {
                        let mut transport = transport.clone();
                        Box::pin(async move {
                            let endpoint = waiting.await?;
                            send(&mut transport, endpoint).await
                        })
                    }
                }
            })
            .observe(|event| {
                // The end is reported below.
                if event.ended.is_none() {
                    let attempt = end_attempt(request, event.record, event.outcome, None);
                    lock(&progress).wait_after(attempt, backoffs);
                }
            })
            .report();
        let Report { mut outcome, reason: ended, journal, .. } = call.await;
        // If the classifier ended the call, retry-core does not know why.
        let obstacle = request.obstacle.get().copied();
        let mut reason = obstacle.unwrap_or_else(|| ended.into());
        if ended != Reason::Accepted
            && let Some(Ok(response)) = outcome
        {
            // Boxed, as few calls end so.
            outcome = Box::pin(read_last(&mut transport, request, response, journal.last())).await;
            if outcome.is_none() {
                reason = EndReason::Deadline;
            }
        }
        let last = end_attempt(request, journal.last(), outcome.as_ref(), Some(reason));
        let history = History::new(mem::take(&mut lock(&progress).earlier), last, reason);
        let error = match outcome {
            Some(Ok(judged)) => {
                let JudgedResponse { mut response, .. } = *judged;
                response.extensions_mut().insert(history);
                return Ok(finish(request, response));
            }
            Some(Err(failure)) => failure.error,
            None if request.route.is_parked() => request.route.outage_error(),
            None => Error::deadline(),
        };
        Err(request.failed(error.with_history(history)))
    }
}

/// The state of a call between its attempts.
#[derive(Debug, Default)]
struct Progress {
    earlier: EarlierAttempts,
    /// `Some` while the call waits for its next attempt.
    backoff: Option<BackoffGuard>,
}

impl Progress {
    fn wait_after(&mut self, attempt: PastAttempt, backoffs: Option<&BackoffGauge>) {
        self.earlier.push(attempt);
        self.backoff = backoffs.map(BackoffGauge::enter);
    }
}

/// Classifies the attempts of one call.
#[derive(Clone, Copy)]
struct Classifier<'a> {
    request: &'a ReplayableRequest<'a>,
}

impl<B: Drainable> Classify<BoxResponse<B>, Failure> for Classifier<'_> {
    fn classify(&self, outcome: &Result<BoxResponse<B>, Failure>) -> Verdict {
        let Self { request } = self;
        let verdict = match outcome {
            Ok(judged) => match judged.judgment.failure {
                None => return Verdict::Accept,
                Some(failed) => on_failed_response(request.state(), failed),
            },
            Err(failure) => on_failure(request.state(), failure.kind),
        };
        // The body may have been read on since its state was looked at.
        let verdict =
            verdict.and_then(
                |verdict| {
                    if request.body.end_attempt() { Ok(verdict) } else { Err(EndReason::BodyNotReplayable) }
                },
            );
        verdict.unwrap_or_else(|obstacle| {
            request.obstacle.get_or_init(|| obstacle);
            Verdict::Stop
        })
    }

    fn discard(&self, outcome: Result<BoxResponse<B>, Failure>) -> Option<Discard> {
        Some(Box::pin(drain(outcome.ok()?.response.into_body())))
    }
}

/// Reads the body of a response that ends the call although it should have been retried, within the time of its attempt.
/// `None` if the deadline passed first.
async fn read_last<T: Transport>(
    transport: &mut T,
    request: &ReplayableRequest<'_>,
    response: BoxResponse<T::Body>,
    record: &Record,
) -> Option<Result<BoxResponse<T::Body>, Failure>> {
    let (start, taken) = record.timing.map(|timing| (timing.start, timing.duration)).unwrap_or_default();
    let until_timeout = request.attempt_left(taken);
    let until_deadline = request.settings.policy().deadline().map(|deadline| deadline.saturating_sub(start + taken));
    let reading = transport.read_body(request, response);
    let Some(limit) = until_timeout.into_iter().chain(until_deadline).min() else { return Some(reading.await) };
    match timeout(limit, reading).await {
        Ok(outcome) => Some(outcome),
        Err(_) if until_timeout == Some(limit) => request
            .settings
            .attempt_timeout()
            .map(|timeout| Err(Failure { error: Error::attempt_timeout(timeout), kind: FailureKind::TimedOut })),
        Err(_) => None,
    }
}

/// Ends an attempt: logs it, passes it to the observer, and returns it. `outcome` is `None` if the deadline passed first,
/// `ended` if another attempt follows.
fn end_attempt<B>(
    request: &ReplayableRequest<'_>,
    record: &Record,
    outcome: Option<&Result<BoxResponse<B>, Failure>>,
    ended: Option<EndReason>,
) -> PastAttempt {
    let route = &request.route;
    let AttemptRoute { endpoint, parked, hedge } = route.end_attempt();
    let error = outcome.and_then(|outcome| outcome.as_ref().err()).map(|failure| &failure.error);
    let outcome = match outcome {
        Some(Ok(judged)) => match judged.judgment.status {
            ResponseStatus { grpc: Some(code), .. } if code != GrpcCode::Ok => Outcome::GrpcStatus(code),
            ResponseStatus { http, .. } => Outcome::Response(http),
        },
        Some(Err(failure)) => failure.error.to_outcome(),
        None if route.is_parked() => route.outage_error().to_outcome(),
        None => {
            if record.attempt == 1 && !request.settings.is_deadline_shortened() {
                // It had the time of a complete call.
                route.timed_out();
            }
            Outcome::DeadlineExceeded
        }
    };
    let (start, duration) = record.timing.map(|timing| (timing.start, timing.duration)).unwrap_or_default();
    let (number, wait) = (record.attempt, record.wait);
    let attempt = PastAttempt { number, outcome, start, duration, parked, endpoint, hedge, wait };
    let (method, uri) = (request.head.method(), &*without_credentials(request.head.uri()));
    let event = AttemptEvent { method, uri, attempt: &attempt, error, ended };
    event.log(request.settings.policy().count());
    if let Some(Observer(observer)) = &request.settings.config.observer {
        observer(&event);
    }
    attempt
}

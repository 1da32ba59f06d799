//! A call: attempts over a transport until one is accepted or the policy allows no more.

use std::{mem, sync::Mutex, time::SystemTime};

use http::Response;
use retry_core::{Attempt, Classify, Discard, Event, Report, Verdict};

use crate::{
    endpoint::route::AttemptRoute,
    error::Error,
    history::{History, HistoryEntry},
    lock::lock,
    retry::{
        attempt_event::{AttemptEvent, Outcome},
        attempt_request::{AttemptRequest, ReplayableRequest, RequestParts},
        attempt_timeout,
        backoff_gauge::BackoffGuard,
        classify::{RequestState, on_failed_response, on_failure},
        config::{Observer, RetryConfig},
        drain::drain,
        failure::Failure,
        server_hints::{self, Advice},
    },
};

/// Boxed, as it is moved often.
pub(crate) type BoxResponse<B> = Box<Response<B>>;

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
}

/// A response body that can be drained on whichever thread runs the call.
pub(crate) trait Drainable: http_body::Body<Data: Send, Error: Send> + Send + 'static {}

impl<B: http_body::Body<Data: Send, Error: Send> + Send + 'static> Drainable for B {}

/// Sends a request until the configuration allows no further attempt, and passes the response that ended the call to
/// `finish`. The response carries its [`Journal`](retry_core::Journal) and [`History`] as extensions.
///
/// Not an `async fn`, whose future would contain the request twice. For the same reason an error from before the call is
/// passed in.
pub(crate) fn call<T: Transport, R>(
    mut transport: T,
    config: &RetryConfig,
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
            .observe(|event| report(request, &progress, &event))
            .report();
        let Report { outcome, reason, journal, .. } = call.await;
        let history = Some(mem::take(&mut lock(&progress).history)).filter(History::has_several_requests);
        match outcome {
            Some(Ok(mut response)) => {
                response.extensions_mut().insert(journal);
                if let Some(history) = history {
                    response.extensions_mut().insert(history);
                }
                Ok(finish(request, *response))
            }
            Some(Err(failure)) => Err(failure.error.with_attempts(reason, journal, history)),
            None if request.route.is_parked() => {
                Err(request.route.outage_error().with_attempts(reason, journal, history))
            }
            None => Err(Error::deadline().with_attempts(reason, journal, history)),
        }
    }
}

/// The state of a call between its attempts.
#[derive(Debug, Default)]
struct Progress {
    history: History,
    /// `Some` while the call waits for its next attempt.
    backoff: Option<BackoffGuard>,
}

/// Classifies the attempts of one call.
#[derive(Clone, Copy)]
struct Classifier<'a> {
    request: &'a ReplayableRequest<'a>,
}

impl<B: Drainable> Classify<BoxResponse<B>, Failure> for Classifier<'_> {
    fn classify(&self, outcome: &Result<BoxResponse<B>, Failure>) -> Verdict {
        let ReplayableRequest { settings, body, idempotent, route, .. } = self.request;
        let state = || RequestState {
            idempotent: *idempotent,
            replayable: body.is_replayable(),
            fully_read: body.is_fully_read(),
            next: route.next_endpoint(),
        };
        let response = match outcome {
            Ok(response) => response,
            Err(failure) => return on_failure(state(), failure.kind),
        };
        let status = response.status();
        let is_listed = settings.config.retries_status(status);
        if !is_listed && !settings.config.may_be_asked_to_retry(status) {
            return Verdict::Accept;
        }
        let Advice { retry, wait } = server_hints::read(&settings.config.server_hints, response.headers(), now());
        if retry.unwrap_or(is_listed) { on_failed_response(state(), status, wait) } else { Verdict::Accept }
    }

    fn discard(&self, outcome: Result<BoxResponse<B>, Failure>) -> Option<Discard> {
        Some(Box::pin(drain(outcome.ok()?.into_body())))
    }
}

#[expect(clippy::disallowed_methods, reason = "Retry-After may be a date, which is relative to the wall clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Logs an attempt that ended, passes it to the observer, and adds it to the history.
fn report<B>(request: &ReplayableRequest<'_>, progress: &Mutex<Progress>, event: &Event<'_, BoxResponse<B>, Failure>) {
    let AttemptRoute { endpoint, parked, hedge } = request.route.end_attempt();
    let Event { record, outcome, ended, .. } = *event;
    let error;
    let outcome = match outcome {
        Some(Ok(response)) => Outcome::Response(response.status()),
        Some(Err(failure)) => Outcome::Failed(&failure.error),
        None if request.route.is_parked() => {
            error = request.route.outage_error();
            Outcome::Failed(&error)
        }
        None => {
            if record.attempt == 1 && !request.settings.is_deadline_shortened() {
                // It had the time of a complete call.
                request.route.timed_out();
            }
            Outcome::DeadlineExceeded
        }
    };
    if record.attempt > 1 || ended.is_none() || hedge.is_some() {
        let mut progress = lock(progress);
        let (outcome, endpoint) = (outcome.to_past(), endpoint.clone());
        progress.history.push(HistoryEntry { record: *record, outcome, endpoint, hedge });
        progress.backoff = ended.is_none().then(|| request.settings.config.backoff_gauge.enter());
    }
    let (method, uri) = (request.head.method(), request.head.uri());
    let event = AttemptEvent { method, uri, endpoint: endpoint.as_deref(), record, outcome, ended, parked, hedge };
    event.log(request.settings.policy().count());
    if let Some(Observer(observer)) = &request.settings.config.observer {
        observer(&event);
    }
}

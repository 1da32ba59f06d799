//! What every request passes, whoever answers it: the limit on requests in flight, and its record.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::RETRY_AFTER};
use hyper::body::Incoming;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    app::App,
    error_payload::ErrorPayload,
    gateway::{Caller, Gateway},
    line::Busy,
    metrics::Metrics,
    outgoing::Outgoing,
    record::{Listeners, Record},
};

/// Who answers.
#[derive(Debug)]
pub enum Routes {
    /// The sample.
    Sample(App),
    /// The upstream.
    Gateway(Gateway),
}

/// The service: its routes, and what guards them.
#[derive(Debug)]
pub struct Front {
    routes: Routes,
    max_in_flight: usize,
    room: Arc<Semaphore>,
    listeners: Listeners,
}

impl Front {
    /// A service that answers so many requests at a time; more are answered 503 at once.
    #[must_use]
    pub fn new(routes: Routes, max_in_flight: usize) -> Self {
        let room = Arc::new(Semaphore::new(max_in_flight));
        Self { routes, max_in_flight, room, listeners: Listeners::default() }
    }

    /// Logs each request when its answer has been sent.
    #[must_use]
    pub fn access_log(mut self, on: bool) -> Self {
        self.listeners.access_log = on;
        self
    }

    /// Counts requests.
    #[must_use]
    pub fn metrics(mut self, metrics: Option<Arc<Metrics>>) -> Self {
        self.listeners.metrics = metrics;
        self
    }

    /// How many requests are being answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.max_in_flight - self.room.available_permits()
    }

    /// Answers one request. Dropping the future, as when the caller hangs up, ends its retries.
    pub async fn answer(&self, caller: &Caller, request: Box<Request<Incoming>>) -> Response<Outgoing> {
        let record = self.listeners.record(caller.ip(), request.method(), request.uri());
        let place = Arc::clone(&self.room).try_acquire_owned().ok();
        let mut finish = Finish { record, busy: caller.line().enter(), place };
        let mut response = if finish.place.is_none() {
            too_busy(request.method(), request.uri())
        } else {
            match &self.routes {
                Routes::Sample(app) => Box::pin(app.answer(*request)).await.map(Into::into),
                Routes::Gateway(gateway) => gateway.answer(caller, request).await,
            }
        };
        finish.answered(&response);
        response.body_mut().finish_with(finish);
        response
    }
}

fn too_busy(method: &Method, uri: &Uri) -> Response<Outgoing> {
    let message = "too many requests are under way";
    let payload = ErrorPayload::new(Timestamp::now(), StatusCode::SERVICE_UNAVAILABLE, message, method, uri);
    let mut response = payload.into_response().map(Into::into);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// What is over when an answer has been sent, or is given up: its place is free, and its record complete.
#[derive(Debug)]
pub(crate) struct Finish {
    record: Option<Box<Record>>,
    busy: Busy,
    /// Among the requests in flight.
    place: Option<OwnedSemaphorePermit>,
}

impl Finish {
    fn answered<B>(&mut self, response: &Response<B>) {
        if let Some(record) = &mut self.record {
            record.answered(response);
        }
    }

    /// Notes a part of the body of so many bytes; none where it broke off.
    pub(crate) fn note(&mut self, part: Option<usize>) {
        if part.is_none() {
            self.busy.line().ask_for_reset();
        }
        if let Some(record) = &mut self.record {
            record.sent(part);
        }
    }
}

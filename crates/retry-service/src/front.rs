//! What every request passes, whoever answers it: the limit on requests in flight, and the access log.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::RETRY_AFTER};
use hyper::body::Incoming;
use jiff::Timestamp;
use retry_client::Journal;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    app::App,
    error_payload::ErrorPayload,
    gateway::{Caller, Gateway, X_REQUEST_ID},
    outgoing::Outgoing,
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
    in_flight: Arc<Semaphore>,
    access_log: bool,
}

impl Front {
    /// A service that answers so many requests at a time; more are answered 503 at once.
    #[must_use]
    pub fn new(routes: Routes, max_in_flight: usize, access_log: bool) -> Self {
        Self { routes, in_flight: Arc::new(Semaphore::new(max_in_flight)), access_log }
    }

    /// Answers one request. Dropping the future, as when the caller hangs up, ends its retries.
    pub async fn answer(&self, caller: &Caller, request: Request<Incoming>) -> Response<Outgoing> {
        let entry = self.access_log.then(|| Entry::begin(caller.ip(), request.method(), request.uri()));
        let (response, place) = match Arc::clone(&self.in_flight).try_acquire_owned() {
            Ok(place) => (self.routes.answer(caller, request).await, Some(place)),
            Err(_) => (too_busy(request.method(), request.uri()), None),
        };
        let entry = entry.map(|entry| Box::new(entry.answered(&response)));
        response.map(|body| body.finish_with(Finish { entry, _place: place }))
    }
}

impl Routes {
    async fn answer(&self, caller: &Caller, request: Request<Incoming>) -> Response<Outgoing> {
        match self {
            Self::Sample(app) => app.answer(request).await.map(Into::into),
            Self::Gateway(gateway) => gateway.answer(caller, request).await,
        }
    }
}

fn too_busy(method: &Method, uri: &Uri) -> Response<Outgoing> {
    let message = "too many requests are under way";
    let payload = ErrorPayload::new(Timestamp::now(), StatusCode::SERVICE_UNAVAILABLE, message, method, uri);
    let mut response = payload.into_response().map(Into::into);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// What is done when an answer has been sent, or is given up: its place is free, and the log is told.
#[derive(Debug)]
pub(crate) struct Finish {
    entry: Option<Box<Entry>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Finish {
    /// Notes a part of the body of so many bytes; none where it broke off.
    pub(crate) fn note(&mut self, part: Option<usize>) {
        if let Some(entry) = &mut self.entry {
            match part {
                Some(bytes) => entry.bytes += bytes as u64,
                None => entry.whole = false,
            }
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            entry.log();
        }
    }
}

/// A line of the access log in the making.
#[derive(Debug)]
struct Entry {
    caller: IpAddr,
    method: Method,
    /// Shown without its query: people put secrets there.
    uri: Uri,
    begin: Instant,
    status: StatusCode,
    attempts: u32,
    id: Option<HeaderValue>,
    bytes: u64,
    whole: bool,
}

impl Entry {
    fn begin(caller: IpAddr, method: &Method, uri: &Uri) -> Self {
        Self {
            caller,
            method: method.clone(),
            uri: uri.clone(),
            begin: Instant::now(),
            status: StatusCode::OK,
            attempts: 0,
            id: None,
            bytes: 0,
            whole: true,
        }
    }

    fn answered<B>(mut self, response: &Response<B>) -> Self {
        self.status = response.status();
        self.attempts = response.extensions().get().map_or(0, Journal::attempts);
        self.id = response.headers().get(X_REQUEST_ID).cloned();
        self
    }

    fn log(&self) {
        let Self { caller, method, uri, status, attempts, bytes, .. } = self;
        let (path, status) = (uri.path(), status.as_u16());
        let id = self.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("-");
        let ms = self.begin.elapsed().as_secs_f64() * 1000.0;
        let end = if self.whole { "" } else { ", broken off" };
        log::info!(
            target: "access", caller:%, method:%, path, status, bytes, ms, attempts, request_id = id;
            "{caller} {method} {path} {status} {bytes} bytes in {ms:.1} ms, {attempts} attempts, id {id}{end}"
        );
    }
}

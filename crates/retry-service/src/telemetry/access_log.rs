//! One request on record: what the logs and the metrics are told of it.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, Method, Response, StatusCode, Uri};
use http_body::Body;
use retry_client::{Error, Journal};
use tokio::time::Instant;

use crate::{
    server::shutdown::Tasks,
    telemetry::{
        metrics::{BreakOff, Metrics},
        rejections::{Refusal, Refusals},
    },
};

/// Who is told, and whose end cuts requests.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) access_log: bool,
    pub(crate) metrics: Option<Arc<Metrics>>,
    pub(crate) tasks: Tasks,
    pub(crate) refusals: Arc<Refusals>,
}

/// A request in flight. When this is dropped, it is over.
#[derive(Debug)]
pub(crate) struct Record {
    listeners: Arc<Listeners>,
    caller: IpAddr,
    method: Method,
    /// Shown without its query: people put secrets there.
    uri: Uri,
    begin: Instant,
    /// `None` until it has a response.
    status: Option<StatusCode>,
    attempts: u32,
    id: Option<HeaderValue>,
    bytes: u64,
    /// The length of the response's body, if it is known.
    length: Option<u64>,
    /// Whether the body of the response ended as it should.
    is_whole: bool,
    is_broken: bool,
}

/// How a request ended, if not with a whole response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// The drain's limit, or a second signal.
    Cut,
    HungUp,
    BrokenOff,
    /// The client did not take the whole response.
    NotTaken,
}

/// The codes that stand for a request without a response.
const CUT: u16 = 0;
const HUNG_UP: u16 = 499;

impl Record {
    pub(crate) fn new(listeners: &Arc<Listeners>, caller: IpAddr, method: &Method, uri: &Uri) -> Box<Self> {
        Box::new(Self {
            listeners: Arc::clone(listeners),
            caller,
            method: method.clone(),
            uri: uri.clone(),
            begin: Instant::now(),
            status: None,
            attempts: 0,
            id: None,
            bytes: 0,
            length: None,
            is_whole: false,
            is_broken: false,
        })
    }

    /// When the request's head was there.
    pub(crate) fn begin(&self) -> Instant {
        self.begin
    }

    pub(crate) fn answered<B: Body>(&mut self, response: &Response<B>) {
        self.status = Some(response.status());
        self.attempts = response.extensions().get().map_or(0, Journal::attempts);
        self.length = response.body().size_hint().exact();
        // The body of a response to HEAD is not asked for.
        self.is_whole = self.method == Method::HEAD || response.body().is_end_stream();
        if let Some(refusal) = response.extensions().get::<Refusal>() {
            let Listeners { metrics, refusals, .. } = &*self.listeners;
            let Self { caller, method, uri, .. } = &*self;
            if let Some(metrics) = metrics {
                metrics.refused(*refusal);
            }
            Refusals::note(refusals, *refusal, &format_args!("{caller} {method} {}; id {}", uri.path(), self.id()));
        }
    }

    /// Notes the id by which other logs know the request, and the client's address, if trusted proxies tell another
    /// than the peer's.
    pub(crate) fn identified(&mut self, id: &HeaderValue, client: IpAddr) {
        self.id = Some(id.clone());
        self.caller = client;
    }

    /// Notes a part of the response's body of so many bytes, and whether it was the last.
    pub(crate) fn sent(&mut self, bytes: usize, is_last: bool) {
        self.bytes += bytes as u64;
        self.is_whole = is_last || self.length == Some(self.bytes);
    }

    /// Notes that the response's body is whole.
    pub(crate) fn ended(&mut self) {
        self.is_whole = true;
    }

    /// Notes that the response's body came no further, and says why.
    pub(crate) fn broke_off(&mut self, error: &Error) {
        self.is_broken = true;
        let why = BreakOff::of(error);
        if let Some(metrics) = &self.listeners.metrics {
            metrics.broke_off(why);
        }
        let Self { method, attempts, bytes, .. } = &*self;
        let (path, id, status, duration_ms) = (self.uri.path(), self.id(), self.code(), milliseconds(self.begin));
        let resumed = if why == BreakOff::NotResumed { "could not be resumed: " } else { "" };
        log::warn!(
            target: "retries",
            method:%, path, status, outcome = why.word(), attempts, bytes, duration_ms, request_id = id;
            "{method} {path}: the response broke off after {bytes} bytes: {resumed}{error}; id {id}"
        );
    }

    fn id(&self) -> &str {
        self.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("-")
    }

    fn failure(&self) -> Option<Failure> {
        Some(match self.status {
            Some(_) if self.is_broken => Failure::BrokenOff,
            Some(_) if self.is_whole => return None,
            _ if self.listeners.tasks.is_cut() => Failure::Cut,
            Some(_) => Failure::NotTaken,
            None => Failure::HungUp,
        })
    }

    /// The status, or what stands for it.
    fn code(&self) -> u16 {
        let without = if self.failure() == Some(Failure::Cut) { CUT } else { HUNG_UP };
        self.status.map_or(without, |status| status.as_u16())
    }

    fn log(&self, failure: Option<Failure>) {
        let Self { caller, method, uri, attempts, bytes, .. } = self;
        let (path, id, status, duration_ms) = (uri.path(), self.id(), self.code(), milliseconds(self.begin));
        let end = match failure {
            None => "",
            Some(Failure::Cut) => ", cut by the drain",
            Some(Failure::HungUp) => ", caller hung up",
            Some(Failure::BrokenOff) => ", broken off",
            Some(Failure::NotTaken) => ", not taken to its end",
        };
        let ended = if failure.is_none() { "whole" } else { end.trim_start_matches(", ") };
        log::info!(
            target: "access",
            caller:%, method:%, path, status, bytes, duration_ms, attempts, request_id = id, ended;
            "{caller} {method} {path} {status} {bytes} bytes in {duration_ms:.1} ms, {attempts} attempts, id {id}{end}"
        );
    }
}

/// Since then, to the tenth.
pub(crate) fn milliseconds(begin: Instant) -> f64 {
    (begin.elapsed().as_secs_f64() * 10_000.0).round() / 10.0
}

impl Drop for Record {
    fn drop(&mut self) {
        let failure = self.failure();
        if let Some(metrics) = &self.listeners.metrics {
            metrics.request(&self.method, self.code(), self.begin.elapsed());
            if failure == Some(Failure::Cut) && self.status.is_some() {
                metrics.broke_off(BreakOff::Drain);
            }
        }
        if self.listeners.access_log {
            self.log(failure);
        }
    }
}

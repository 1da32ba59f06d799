//! The access log: an entry for each request, which is also counted in the metrics.

use std::{fmt::Arguments, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri};
use http_body::Body;
use retry_client::{Error, GrpcCode, History};
use tokio::time::Instant;

use super::{
    metrics::{IncompleteReason, Metrics},
    rejection_log::RejectionLog,
};
use crate::{rejection::Rejection, server::tasks::Tasks};

/// The status in logs and metrics of a request that was aborted without a response.
const ABORTED: u16 = 0;

/// The status in logs and metrics of a request whose client closed the connection before the response.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Where the requests of one worker are logged and counted. It is on cache lines of its own, since each request writes to
/// its reference count.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Telemetry {
    /// Whether each request is logged.
    pub(crate) access_log: bool,
    /// Whether the status of gRPC calls is logged.
    pub(crate) grpc_status: bool,
    pub(crate) metrics: Option<Arc<Metrics>>,
    pub(crate) rejections: Arc<RejectionLog>,
    /// The tasks that serve requests: if they are aborted, that is why a request ends early.
    pub(crate) tasks: Tasks,
}

/// The access log entry of a request in flight. It is logged when it is dropped.
#[derive(Debug)]
pub(crate) struct AccessLogEntry {
    telemetry: Arc<Telemetry>,
    /// The address of the client, which differs from that of the peer if the peer is a trusted proxy.
    pub(crate) client: IpAddr,
    pub(crate) method: Method,
    /// Logged without its query, which may contain secrets.
    pub(crate) uri: Uri,
    /// When the head of the request had arrived.
    pub(crate) begin: Instant,
    /// `None` until there is a response.
    status: Option<StatusCode>,
    /// `None` if the request is not a gRPC call, or its status is not known yet.
    grpc_status: Option<GrpcCode>,
    attempts: u32,
    /// The id that identifies the request in all logs.
    pub(crate) id: HeaderValue,
    bytes: u64,
    /// The length of the response body, if it is known.
    length: Option<u64>,
    /// How the response ended; `None` until then.
    response_end: Option<End>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Complete,
    /// The response of the upstream ended early.
    Incomplete,
    /// The client closed the connection before it had the complete response.
    ClientClosed,
    /// The client closed the connection before the response.
    ClientClosedRequest,
    /// The drain took too long.
    Drained,
}

impl End {
    /// Returns the value of the field `ended`, and the end of the message.
    fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Complete => ("complete", ""),
            Self::Incomplete => ("incomplete", ", response incomplete"),
            Self::ClientClosed => ("client_closed", ", client disconnected before the end of the response"),
            Self::ClientClosedRequest => ("client_closed_request", ", client disconnected before the response"),
            Self::Drained => ("drained", ", aborted by the drain"),
        }
    }
}

impl AccessLogEntry {
    /// Begins the entry of a request whose head has arrived.
    pub(crate) fn new(telemetry: &Arc<Telemetry>, client: IpAddr, method: &Method, uri: &Uri) -> Box<Self> {
        Box::new(Self {
            telemetry: Arc::clone(telemetry),
            client,
            method: method.clone(),
            uri: uri.clone(),
            begin: Instant::now(),
            status: None,
            grpc_status: None,
            attempts: 0,
            id: HeaderValue::from_static("-"),
            bytes: 0,
            length: None,
            response_end: None,
        })
    }

    /// Records the head of the response.
    pub(crate) fn responded<B: Body>(&mut self, response: &Response<B>) {
        self.status = Some(response.status());
        self.find_grpc_status(response.headers());
        self.attempts = response.extensions().get().map_or(0, History::attempts);
        self.length = response.body().size_hint().exact();
        // The body of a response to HEAD is not polled.
        if self.method == Method::HEAD || response.body().is_end_stream() {
            self.complete();
        }
        if let Some(rejection) = response.extensions().get::<Rejection>() {
            let Telemetry { metrics, rejections, .. } = &*self.telemetry;
            let Self { client, method, uri, .. } = &*self;
            if let Some(metrics) = metrics {
                metrics.rejected(*rejection);
            }
            rejections.log(*rejection, &format_args!("{client} {method} {}; id {}", uri.path(), self.id()));
        }
    }

    /// Records the status of a gRPC call if it is in this head, or in these trailers.
    pub(crate) fn find_grpc_status(&mut self, fields: &HeaderMap) {
        if self.telemetry.grpc_status {
            self.grpc_status = GrpcCode::of(fields).or(self.grpc_status);
        }
    }

    /// Records a chunk of the response body.
    pub(crate) fn sent(&mut self, bytes: usize, is_last: bool) {
        self.bytes += bytes as u64;
        if is_last || self.length == Some(self.bytes) {
            self.complete();
        }
    }

    /// Records the end of the response body.
    pub(crate) fn complete(&mut self) {
        self.response_end = Some(End::Complete);
    }

    /// Records and logs that the response of the upstream ended early.
    pub(crate) fn incomplete(&mut self, error: &Error) {
        self.response_end = Some(End::Incomplete);
        let reason = IncompleteReason::of(error);
        if let Some(metrics) = &self.telemetry.metrics {
            metrics.incomplete(reason);
        }
        let Self { method, attempts, bytes, .. } = &*self;
        let (path, id, status, duration_ms) = (self.uri.path(), self.id(), self.status(), milliseconds(self.begin));
        let resumed = if reason == IncompleteReason::NotResumed { "could not be resumed: " } else { "" };
        log::warn!(
            target: "retries",
            method:%, path, status, outcome = reason.label(), attempts, bytes, duration_ms, request_id = id;
            "{method} {path}: response incomplete after {bytes} bytes: {resumed}{error}; id {id}"
        );
    }

    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or("-")
    }

    fn end(&self) -> End {
        match self.response_end {
            Some(end) => end,
            None if self.telemetry.tasks.is_aborted() => End::Drained,
            None if self.status.is_some() => End::ClientClosed,
            None => End::ClientClosedRequest,
        }
    }

    fn status(&self) -> u16 {
        let without_response = if self.end() == End::Drained { ABORTED } else { CLIENT_CLOSED_REQUEST };
        self.status.map_or(without_response, |status| status.as_u16())
    }

    fn log(&self, end: End) {
        let Self { client, method, uri, attempts, bytes, .. } = self;
        let (path, id, status, duration_ms) = (uri.path(), self.id(), self.status(), milliseconds(self.begin));
        let (ended, message) = end.describe();
        let plural = if *attempts == 1 { "" } else { "s" };
        let log = |message: Arguments<'_>| match self.grpc_status.map(GrpcCode::name) {
            None => log::info!(
                target: "access",
                client:%, method:%, path, status, bytes, duration_ms, attempts, request_id = id, ended;
                "{message}"
            ),
            Some(grpc_status) => log::info!(
                target: "access",
                client:%, method:%, path, status, grpc_status, bytes, duration_ms, attempts, request_id = id, ended;
                "{message}, gRPC status {grpc_status}"
            ),
        };
        log(format_args!(
            "{client} {method} {path} {status} {bytes} bytes in {duration_ms:.1} ms, {attempts} attempt{plural}, id {id}{message}"
        ));
    }
}

impl Drop for AccessLogEntry {
    fn drop(&mut self) {
        let end = self.end();
        if let Some(metrics) = &self.telemetry.metrics {
            metrics.request(&self.method, self.status(), self.begin.elapsed());
            if end == End::Drained && self.status.is_some() {
                metrics.incomplete(IncompleteReason::Drain);
            }
        }
        if self.telemetry.access_log {
            self.log(end);
        }
    }
}

/// Returns the milliseconds since then, to the tenth.
pub(crate) fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 10_000.0).round() / 10.0
}

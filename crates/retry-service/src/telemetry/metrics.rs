//! The metrics, in the text format of OpenMetrics.

use std::{fmt::Debug, sync::atomic::AtomicU64, time::Duration};

use http::Method;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};
use retry_client::{AttemptEvent, Error, ErrorKind, Outcome, Reason};

use super::rejections::Rejection;

/// The buckets of histograms in seconds.
const BUCKETS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counters and histograms of requests and attempts, and gauges that are set when they are read.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Histogram,
    attempts: Family<OutcomeLabel, Counter>,
    attempt_duration: Histogram,
    retries: Family<ReasonLabel, Counter>,
    give_ups: Family<ReasonLabel, Counter>,
    responses_incomplete: Family<ReasonLabel, Counter>,
    requests_rejected: Family<ReasonLabel, Counter>,
    log_lines_dropped: Counter,
    requests_in_flight: Gauge,
    connections: Gauge,
    requests_in_backoff: Gauge,
    upstream_connections: Gauge,
    tunnels: Gauge,
    retry_budget_available: Gauge<f64, AtomicU64>,
    config_generation: Gauge,
    config_reload_timestamp: Gauge,
    config_reload_successful: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

/// The values of the gauges.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    pub(crate) requests_in_flight: usize,
    /// Open connections of clients, tunnels included.
    pub(crate) connections: usize,
    /// Requests that wait for their next attempt.
    pub(crate) requests_in_backoff: usize,
    pub(crate) upstream_connections: usize,
    pub(crate) tunnels: usize,
    /// `None` without a budget.
    pub(crate) retry_budget_available: Option<f64>,
    pub(crate) config_generation: u64,
    /// Seconds since 1970.
    pub(crate) config_reload_timestamp: i64,
    pub(crate) config_reload_successful: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("retry_service");
        let r = &mut registry;
        let metrics = Self {
            requests: register(
                r,
                "requests",
                "Finished requests; the code of those without a response is 499 if the client closed the connection, \
                 and 0 if the drain aborted them",
            ),
            request_duration: register_seconds(
                r,
                "request_duration",
                "From the head of a request to the end of its response, with all attempts and backoff",
                Histogram::new(BUCKETS),
            ),
            attempts: register(r, "attempts", "Attempts at the upstream, by outcome"),
            attempt_duration: register_seconds(
                r,
                "attempt_duration",
                "From the start of an attempt to the head of its response, or to the end of a buffered response",
                Histogram::new(BUCKETS),
            ),
            retries: register(
                r,
                "retries",
                "Scheduled retries, by reason; a client may close the connection before one starts",
            ),
            give_ups: register(r, "give_ups", "Failed requests, by why there was no further attempt"),
            responses_incomplete: register(
                r,
                "responses_incomplete",
                "Responses of the upstream that ended early, by reason",
            ),
            requests_rejected: register(
                r,
                "requests_rejected",
                "Requests that the service itself rejected, by the limit that was reached",
            ),
            log_lines_dropped: register(r, "log_lines_dropped", "Log lines dropped because they could not be written"),
            requests_in_flight: register(r, "requests_in_flight", "Requests in flight"),
            connections: register(r, "connections", "Open connections of clients"),
            requests_in_backoff: register(r, "requests_in_backoff", "Requests that wait for their next attempt"),
            upstream_connections: register(r, "upstream_connections", "Connections to the upstream"),
            tunnels: register(r, "tunnels", "Tunnels (WebSocket and other upgrades) that are open or being opened"),
            retry_budget_available: register(
                r,
                "retry_budget_available",
                "Retries that the budget currently allows; +Inf without a budget",
            ),
            config_generation: register(
                r,
                "config_generation",
                "Number of the current configuration: 1, plus 1 for each successful reload",
            ),
            config_reload_timestamp: register_seconds(
                r,
                "config_reload_timestamp",
                "When the current configuration came into force",
                Gauge::default(),
            ),
            config_reload_successful: register(r, "config_reload_successful", "1, or 0 if the last reload failed"),
            registry,
        };
        metrics.create_counters();
        metrics
    }
}

fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn register_seconds<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

impl Metrics {
    /// Creates the counters that are likely to be used, so that their first event is an increase from 0. For requests,
    /// these are the common methods and the status codes that the gateway itself responds with.
    fn create_counters(&self) {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            for code in [200, 499, 502, 503, 504] {
                drop(self.requests.get_or_create(&RequestLabels { method, code }));
            }
        }
        let retried = ["502", "503", "504"].into_iter().chain(FAILURES);
        for outcome in retried.clone().chain(["200", "bad_request", "deadline"]) {
            drop(self.attempts.get_or_create(&OutcomeLabel { outcome: outcome.to_owned() }));
        }
        let create = |family: &Family<ReasonLabel, Counter>, reason: &str| drop(family.get_or_create(&label(reason)));
        retried.chain([RESUMED]).for_each(|reason| create(&self.retries, reason));
        GIVE_UPS.iter().for_each(|reason| create(&self.give_ups, reason_label(*reason)));
        IncompleteReason::ALL.iter().for_each(|reason| create(&self.responses_incomplete, reason.label()));
        Rejection::ALL.iter().for_each(|rejection| create(&self.requests_rejected, rejection.label()));
    }

    /// Returns the counter of dropped log lines.
    pub(crate) fn log_lines_dropped(&self) -> Counter {
        self.log_lines_dropped.clone()
    }

    /// Counts a finished request.
    pub(crate) fn request(&self, method: &Method, code: u16, duration: Duration) {
        self.requests.get_or_create(&RequestLabels { method: method_label(method), code }).inc();
        self.request_duration.observe(duration.as_secs_f64());
    }

    /// Counts a response that ended early.
    pub(crate) fn incomplete(&self, reason: IncompleteReason) {
        self.responses_incomplete.get_or_create(&label(reason.label())).inc();
    }

    /// Counts a rejected request.
    pub(crate) fn rejected(&self, rejection: Rejection) {
        self.requests_rejected.get_or_create(&label(rejection.label())).inc();
    }

    /// Counts the end of an attempt, or the resumption of a response.
    pub(crate) fn attempt(&self, event: &AttemptEvent<'_>) {
        if let Outcome::Resumed(_) = event.outcome {
            // Its attempt has been counted with its head, and the one for the rest will be.
            self.retries.get_or_create(&label(RESUMED)).inc();
            return;
        }
        let outcome = outcome_label(event.outcome);
        if let Some(timing) = event.record.timing {
            self.attempt_duration.observe(timing.duration.as_secs_f64());
        }
        match event.ended {
            None => drop(self.retries.get_or_create(&label(&outcome)).inc()),
            Some(Reason::Accepted) => {}
            Some(reason) => drop(self.give_ups.get_or_create(&label(reason_label(reason))).inc()),
        }
        self.attempts.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Returns all metrics in the text format of OpenMetrics.
    pub(crate) fn encode(&self, snapshot: Snapshot) -> String {
        let count = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.requests_in_flight.set(count(snapshot.requests_in_flight));
        self.connections.set(count(snapshot.connections));
        self.requests_in_backoff.set(count(snapshot.requests_in_backoff));
        self.upstream_connections.set(count(snapshot.upstream_connections));
        self.tunnels.set(count(snapshot.tunnels));
        self.retry_budget_available.set(snapshot.retry_budget_available.unwrap_or(f64::INFINITY));
        self.config_generation.set(i64::try_from(snapshot.config_generation).unwrap_or(i64::MAX));
        self.config_reload_timestamp.set(snapshot.config_reload_timestamp);
        self.config_reload_successful.set(i64::from(snapshot.config_reload_successful));
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

fn label(reason: &str) -> ReasonLabel {
    ReasonLabel { reason: reason.to_owned() }
}

/// Returns the name of a common method, or `other`: clients can make up any number of them.
fn method_label(method: &Method) -> &'static str {
    const COMMON: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
    COMMON.into_iter().find(|common| *common == method.as_str()).unwrap_or("other")
}

/// The status of an attempt, or the kind of its failure.
fn outcome_label(outcome: Outcome<'_>) -> String {
    match outcome {
        Outcome::Response(status) => return status.as_u16().to_string(),
        Outcome::Failed(error) => failure_label(error),
        Outcome::DeadlineExceeded => "deadline",
        _ => "other",
    }
    .to_owned()
}

/// The failures that are retried.
const FAILURES: [&str; 4] = ["connect", "timeout", "connection_closed", "bad_response"];

/// The kind of a failure.
pub(crate) fn failure_label(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Connect => "connect",
        ErrorKind::Timeout => "timeout",
        ErrorKind::ConnectionClosed => "connection_closed",
        ErrorKind::BadResponse => "bad_response",
        _ => "bad_request",
    }
}

/// The reason of a retry that resumes a response.
const RESUMED: &str = "resumed";

/// Why a response of the upstream ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IncompleteReason {
    ConnectionClosed,
    /// The upstream sent nothing for `--timeout`.
    Timeout,
    /// The response could not be resumed.
    NotResumed,
    /// The drain took too long.
    Drain,
}

impl IncompleteReason {
    const ALL: [Self; 4] = [Self::ConnectionClosed, Self::Timeout, Self::NotResumed, Self::Drain];

    /// Returns the reason for an error of a body.
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            // Only attempts to resume have a journal here.
            _ if error.journal().is_some() => Self::NotResumed,
            ErrorKind::BadResponse => Self::NotResumed,
            ErrorKind::Timeout => Self::Timeout,
            _ => Self::ConnectionClosed,
        }
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::ConnectionClosed => "connection_closed",
            Self::Timeout => "timeout",
            Self::NotResumed => "not_resumed",
            Self::Drain => "drain",
        }
    }
}

/// Why there is no further attempt at a failed request.
const GIVE_UPS: [Reason; 5] =
    [Reason::Permanent, Reason::Exhausted, Reason::Deadline, Reason::RetryAfterTooLong, Reason::Budget];

pub(crate) fn reason_label(reason: Reason) -> &'static str {
    match reason {
        Reason::Permanent => "not_repeatable",
        Reason::Exhausted => "no_retries_left",
        Reason::Deadline => "deadline",
        Reason::RetryAfterTooLong => "retry_after",
        Reason::Budget => "budget",
        _ => "other",
    }
}

//! The metrics, in the text format of OpenMetrics.

use std::{borrow::Cow, time::Duration};

use http::Method;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Metric, Registry, Unit},
};
use retry_client::{AttemptEvent, Error, ErrorKind, Outcome, Reason};

use crate::rejection::Rejection;

/// The buckets of histograms in seconds.
const BUCKETS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counters and histograms of requests and attempts.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Histogram,
    attempts: Family<Label, Counter>,
    attempt_duration: Histogram,
    retries: Family<Label, Counter>,
    give_ups: Family<Label, Counter>,
    responses_incomplete: Family<Label, Counter>,
    requests_rejected: Family<Label, Counter>,
    log_lines_dropped: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    code: u16,
}

/// One label, with its value.
type Label = [(&'static str, Cow<'static, str>); 1];

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = new_registry();
        let r = &mut registry;
        let metrics = Self {
            requests: register(
                r,
                "requests",
                "Finished requests; code 499: the client disconnected first; code 0: aborted by the drain",
            ),
            request_duration: histogram(r, "request_duration", "From the head of a request to the end of its response"),
            attempts: register(r, "attempts", "Attempts at the upstream, by outcome"),
            attempt_duration: histogram(r, "attempt_duration", "From an attempt's start to its response or failure"),
            retries: register(r, "retries", "Scheduled retries, by reason"),
            give_ups: register(r, "give_ups", "Failed requests, by why there was no further attempt"),
            responses_incomplete: register(r, "responses_incomplete", "Upstream responses that ended early, by reason"),
            requests_rejected: register(r, "requests_rejected", "Requests rejected by the service itself, by limit"),
            log_lines_dropped: register(r, "log_lines_dropped", "Log lines dropped because they could not be written"),
            registry,
        };
        metrics.create_counters();
        metrics
    }
}

/// Returns a registry for metrics of the service.
pub(crate) fn new_registry() -> Registry {
    Registry::with_prefix("retry_service")
}

fn register<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn histogram(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let histogram = Histogram::new(BUCKETS);
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
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
            drop(self.attempts.get_or_create(&[("outcome", outcome.into())]));
        }
        let create = |family: &Family<Label, Counter>, value: &'static str| drop(family.get_or_create(&reason(value)));
        retried.chain([RESUMED]).for_each(|failure| create(&self.retries, failure));
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
    pub(crate) fn incomplete(&self, why: IncompleteReason) {
        self.responses_incomplete.get_or_create(&reason(why.label())).inc();
    }

    /// Counts a rejected request.
    pub(crate) fn rejected(&self, rejection: Rejection) {
        self.requests_rejected.get_or_create(&reason(rejection.label())).inc();
    }

    /// Counts the end of an attempt, or the resumption of a response.
    pub(crate) fn attempt(&self, event: &AttemptEvent<'_>) {
        if let Outcome::Resumed(_) = event.outcome {
            // Its attempt has been counted with its head, and the one for the rest will be.
            self.retries.get_or_create(&reason(RESUMED)).inc();
            return;
        }
        let outcome = outcome_label(event.outcome);
        if let Some(timing) = event.record.timing {
            self.attempt_duration.observe(timing.duration.as_secs_f64());
        }
        match event.ended {
            None => drop(self.retries.get_or_create(&reason(outcome.clone())).inc()),
            Some(Reason::Accepted) => {}
            Some(why) => drop(self.give_ups.get_or_create(&reason(reason_label(why))).inc()),
        }
        self.attempts.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Returns all metrics in the text format of OpenMetrics, and those of another registry.
    pub(crate) fn encode(&self, others: &Registry) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode_registry(&mut text, &self.registry).and_then(|()| text::encode(&mut text, others));
        text
    }
}

fn reason(value: impl Into<Cow<'static, str>>) -> Label {
    [("reason", value.into())]
}

/// Returns the name of a common method, or `other`: clients can make up any number of them.
fn method_label(method: &Method) -> &'static str {
    const COMMON: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
    COMMON.into_iter().find(|common| *common == method.as_str()).unwrap_or("other")
}

/// Returns the label for the outcome of an attempt: the status, or the kind of failure.
fn outcome_label(outcome: Outcome<'_>) -> Cow<'static, str> {
    match outcome {
        Outcome::Response(status) => status.as_u16().to_string().into(),
        Outcome::Failed(error) => failure_label(error).into(),
        Outcome::DeadlineExceeded => "deadline".into(),
        _ => "other".into(),
    }
}

/// The failures that are retried.
const FAILURES: [&str; 4] = ["connect", "timeout", "connection_closed", "bad_response"];

/// Returns the label for a kind of failure.
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

//! The metrics, in the text format of OpenMetrics.

use std::{
    fmt::{self, Write as _},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::Method;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::counter::Counter,
    registry::{Registry, Unit},
};
use retry_client::{AttemptEvent, EndReason, Error, ErrorKind, GrpcCode, Outcome, PastAttempt};
use thread_local::ThreadLocal;

use super::counts::{Counters, Histogram};
use crate::rejection::Rejection;

/// Counters and histograms of requests and attempts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Each thread counts for itself, since all would wait for the processor that counted last.
    threads: ThreadLocal<ThreadCounts>,
    log_lines_dropped: Counter,
}

/// What one thread has counted; no cache line is shared with another. Processors fetch those in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct ThreadCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: Counters<RequestLabels>,
    request_duration: Histogram,
    attempts: Counters<OutcomeLabel>,
    attempt_duration: Histogram,
    parked_duration: Histogram,
    retries: Counters<ReasonLabel>,
    hedges: Counters<OutcomeLabel>,
    give_ups: Counters<ReasonLabel>,
    responses_incomplete: Counters<ReasonLabel>,
    requests_rejected: Counters<ReasonLabel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    code: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: Label,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct ReasonLabel {
    reason: Label,
}

/// The value of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Status(u16),
    GrpcStatus(GrpcCode),
    Name(&'static str),
}

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(encoder, "{code}"),
            Self::GrpcStatus(code) => encoder.write_str(&grpc_label(*code)),
            Self::Name(name) => encoder.write_str(name),
        }
    }
}

/// Returns a registry for metrics of the service.
pub(crate) fn new_registry() -> Registry {
    Registry::with_prefix("retry_service")
}

/// Returns all metrics of a registry in the text format of OpenMetrics.
pub(crate) fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = text::encode(&mut text, registry);
    text
}

impl Metrics {
    /// Returns the counter of dropped log lines.
    pub(crate) fn log_lines_dropped(&self) -> Counter {
        self.log_lines_dropped.clone()
    }

    /// Counts a finished request.
    pub(crate) fn request(&self, method: &Method, code: u16, duration: Duration) {
        let mut counts = self.counts();
        counts.requests.increase(RequestLabels { method: method_label(method), code });
        counts.request_duration.observe(duration);
    }

    /// Counts a response that ended early.
    pub(crate) fn incomplete(&self, why: IncompleteReason) {
        self.counts().responses_incomplete.increase(reason(why.label()));
    }

    /// Counts a rejected request.
    pub(crate) fn rejected(&self, rejection: Rejection) {
        self.counts().requests_rejected.increase(reason(rejection.label()));
    }

    /// Counts the end of an attempt, or the resumption of a response.
    pub(crate) fn attempt(&self, event: &AttemptEvent<'_>) {
        let PastAttempt { outcome, duration, parked, hedge, .. } = event.attempt;
        let mut counts = self.counts();
        if let Outcome::Resumed { .. } = outcome {
            // Its attempt has been counted with its head, and the one for the rest will be.
            counts.retries.increase(reason(RESUMED));
            return;
        }
        if !parked.is_zero() {
            counts.parked_duration.observe(*parked);
        }
        if let Some(hedge) = hedge {
            counts.hedges.increase(hedge_label(hedge.won));
        }
        let outcome = outcome_label(outcome);
        let is_outage = outcome == Label::Name(OUTAGE);
        if !is_outage {
            counts.attempt_duration.observe(duration.saturating_sub(*parked));
        }
        match event.ended {
            None => counts.retries.increase(ReasonLabel { reason: outcome }),
            Some(EndReason::Accepted) => {}
            Some(_) if is_outage => counts.give_ups.increase(reason(OUTAGE)),
            Some(why) => counts.give_ups.increase(reason(reason_label(why))),
        }
        counts.attempts.increase(OutcomeLabel { outcome });
    }

    /// Registers the current values of all metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let mut sum = Counts::zero();
        self.threads.iter().for_each(|thread| sum.add_all(&thread.lock()));
        registry.register(
            "requests",
            "Finished requests; code 499: the client disconnected first; code 0: aborted by the drain",
            sum.requests,
        );
        let help = "From the head of a request to the end of its response";
        registry.register_with_unit("request_duration", help, Unit::Seconds, sum.request_duration);
        registry.register("attempts", "Attempts at the upstream, by outcome", sum.attempts);
        let help = "From an attempt's start to its response or failure, without the time parked";
        registry.register_with_unit("attempt_duration", help, Unit::Seconds, sum.attempt_duration);
        let help = "Time for which a request waited until an endpoint of the upstream was up";
        registry.register_with_unit("parked_duration", help, Unit::Seconds, sum.parked_duration);
        registry.register("retries", "Scheduled retries, by reason", sum.retries);
        let help = "Requests sent to a second endpoint because the first was slow, by which one's response was used";
        registry.register("hedges", help, sum.hedges);
        registry.register("give_ups", "Failed requests, by why there was no further attempt", sum.give_ups);
        let help = "Upstream responses that ended early, by reason";
        registry.register("responses_incomplete", help, sum.responses_incomplete);
        let help = "Requests rejected by the service itself, by limit";
        registry.register("requests_rejected", help, sum.requests_rejected);
        let help = "Log lines dropped because they could not be written";
        registry.register("log_lines_dropped", help, self.log_lines_dropped());
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.threads.get_or_default().lock()
    }
}

impl ThreadCounts {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Returns the counters that are likely to be used, so that their first event is an increase from 0. For requests,
    /// these are the common methods and the status codes that the gateway itself responds with.
    fn zero() -> Self {
        let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
        let requests =
            methods.into_iter().flat_map(|method| [200, 499, 502, 503, 504].map(|code| RequestLabels { method, code }));
        let retried = [502, 503, 504].map(Label::Status).into_iter().chain(FAILURES.map(Label::Name));
        let outcomes = [Label::Status(200)]
            .into_iter()
            .chain(["bad_request", "request_body", "deadline", OUTAGE].map(Label::Name));
        let reasons = |labels: &[&'static str]| Counters::zero(labels.iter().copied().map(reason));
        Self {
            requests: Counters::zero(requests),
            attempts: Counters::zero(retried.clone().chain(outcomes).map(|outcome| OutcomeLabel { outcome })),
            retries: Counters::zero(retried.chain([Label::Name(RESUMED)]).map(|reason| ReasonLabel { reason })),
            hedges: Counters::zero([true, false].map(hedge_label)),
            give_ups: Counters::zero(GIVE_UPS.map(|why| reason(reason_label(why)))),
            responses_incomplete: reasons(&IncompleteReason::ALL.map(IncompleteReason::label)),
            requests_rejected: Counters::zero(Rejection::ALL.iter().map(|rejection| reason(rejection.label()))),
            ..Self::default()
        }
    }

    fn add_all(&mut self, other: &Self) {
        self.requests.add_all(&other.requests);
        self.request_duration.add_all(&other.request_duration);
        self.attempts.add_all(&other.attempts);
        self.attempt_duration.add_all(&other.attempt_duration);
        self.parked_duration.add_all(&other.parked_duration);
        self.retries.add_all(&other.retries);
        self.hedges.add_all(&other.hedges);
        self.give_ups.add_all(&other.give_ups);
        self.responses_incomplete.add_all(&other.responses_incomplete);
        self.requests_rejected.add_all(&other.requests_rejected);
    }
}

fn reason(name: &'static str) -> ReasonLabel {
    ReasonLabel { reason: Label::Name(name) }
}

fn hedge_label(won: bool) -> OutcomeLabel {
    OutcomeLabel { outcome: Label::Name(if won { "won" } else { "lost" }) }
}

/// Returns the name of a common method, or `other`: clients can make up any number of them.
pub(crate) fn method_label(method: &Method) -> &'static str {
    const COMMON: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
    COMMON.into_iter().find(|common| *common == method.as_str()).unwrap_or("other")
}

/// Returns the label for the outcome of an attempt: the status, or the kind of failure.
fn outcome_label(outcome: &Outcome) -> Label {
    match outcome {
        Outcome::Response(status) => Label::Status(status.as_u16()),
        Outcome::GrpcStatus(code) => Label::GrpcStatus(*code),
        Outcome::Failed { kind, .. } => Label::Name(failure_label(*kind)),
        Outcome::DeadlineExceeded => Label::Name("deadline"),
        _ => Label::Name("other"),
    }
}

/// Returns the label for the status of a gRPC call: `grpc_unavailable`.
pub(crate) fn grpc_label(code: GrpcCode) -> String {
    format!("grpc_{}", code.name().to_ascii_lowercase())
}

/// The failures that are retried.
const FAILURES: [&str; 4] = ["connect", "timeout", "connection_closed", "bad_response"];

/// Returns the label for a kind of failure.
pub(crate) fn failure_label(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Connect => "connect",
        ErrorKind::Outage => OUTAGE,
        ErrorKind::Timeout => "timeout",
        ErrorKind::ConnectionClosed => "connection_closed",
        ErrorKind::BadResponse => "bad_response",
        ErrorKind::RequestBody => "request_body",
        _ => "bad_request",
    }
}

/// The failure of a request that could not be sent, and why there was no further attempt.
const OUTAGE: &str = "outage";

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
            // Only attempts to resume have a history here.
            _ if error.history().is_some() => Self::NotResumed,
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
const GIVE_UPS: [EndReason; 9] = [
    EndReason::NotSafeToRepeat,
    EndReason::RetryForbidden,
    EndReason::BodyNotReplayable,
    EndReason::Permanent,
    EndReason::Outage,
    EndReason::Exhausted,
    EndReason::Deadline,
    EndReason::RetryAfterTooLong,
    EndReason::Budget,
];

/// Returns the label for why there was no further attempt at a failed request.
pub(crate) fn give_up_label(error: &Error) -> Option<&'static str> {
    if error.kind() == ErrorKind::Outage { Some(OUTAGE) } else { error.reason().map(reason_label) }
}

/// Returns the label for why there was no further attempt.
pub(crate) fn reason_label(reason: EndReason) -> &'static str {
    match reason {
        EndReason::NotSafeToRepeat => "not_safe_to_repeat",
        EndReason::RetryForbidden => "retry_forbidden",
        EndReason::BodyNotReplayable => "body_not_replayable",
        EndReason::Permanent => "permanent",
        EndReason::Outage => OUTAGE,
        EndReason::Exhausted => "no_retries_left",
        EndReason::Deadline => "deadline",
        EndReason::RetryAfterTooLong => "retry_after",
        EndReason::Budget => "budget",
        _ => "other",
    }
}

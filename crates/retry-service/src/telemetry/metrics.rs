//! What a Prometheus server is told.

use std::time::Duration;

use http::Method;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use retry_client::{AttemptEvent, Error, ErrorKind, Outcome, Reason};

use crate::telemetry::rejections::Refusal;

/// Seconds: from what one machine can do to what no caller waits for.
const BUCKETS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Counters and histograms of requests and attempts, and gauges that are set when they are read.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Histogram,
    attempts: Family<OutcomeLabel, Counter>,
    attempt_duration: Histogram,
    retries: Family<ReasonLabel, Counter>,
    give_ups: Family<ReasonLabel, Counter>,
    responses_broken: Family<ReasonLabel, Counter>,
    refusals: Family<ReasonLabel, Counter>,
    log_lines_dropped: Counter,
    gauges: Gauges,
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

#[derive(Debug, Default)]
struct Gauges {
    in_flight: Gauge,
    connections: Gauge,
    waits: Gauge,
    upstream_connections: Gauge,
    tunnels: Gauge,
    budget_left: Gauge<f64, std::sync::atomic::AtomicU64>,
    config_generation: Gauge,
    config_reloaded: Gauge,
    config_reload_successful: Gauge,
}

/// What is there at the moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Requests being answered.
    pub in_flight: usize,
    /// Open connections of callers, and tunnels.
    pub connections: usize,
    /// Requests that wait for their next attempt.
    pub waits: usize,
    /// Connections to the upstream.
    pub upstream_connections: usize,
    /// Tunnels that are open, or being opened.
    pub tunnels: usize,
    /// Retries that the budget would grant; without a budget, as many as anybody likes.
    pub budget_left: Option<f64>,
    /// Counts configurations, from 1.
    pub generation: u64,
    /// When the current one came into force, in seconds since 1970.
    pub since: i64,
    /// Whether a reload since then was refused.
    pub reload_refused: bool,
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("retry_service"),
            requests: Family::default(),
            request_duration: Histogram::new(BUCKETS),
            attempts: Family::default(),
            attempt_duration: Histogram::new(BUCKETS),
            retries: Family::default(),
            give_ups: Family::default(),
            responses_broken: Family::default(),
            refusals: Family::default(),
            log_lines_dropped: Counter::default(),
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics.create();
        metrics
    }

    /// Makes the counters that are likely to count anything, so that the first event is an increase from 0. Of the
    /// requests, these are the common methods with the codes that the gateway itself may answer; all others would be
    /// thousands.
    fn create(&self) {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            for code in [200, 499, 502, 503, 504] {
                drop(self.requests.get_or_create(&RequestLabels { method, code }));
            }
        }
        let retried = ["502", "503", "504"].into_iter().chain(FAILURES);
        for outcome in retried.clone().chain(["200", "bad_request", "deadline"]) {
            drop(self.attempts.get_or_create(&OutcomeLabel { outcome: outcome.to_owned() }));
        }
        let create = |family: &Family<ReasonLabel, Counter>, reason: &str| {
            drop(family.get_or_create(&ReasonLabel { reason: reason.to_owned() }));
        };
        retried.chain([RESUMED]).for_each(|reason| create(&self.retries, reason));
        GIVE_UPS.iter().for_each(|reason| create(&self.give_ups, reason_word(*reason)));
        BreakOff::ALL.iter().for_each(|why| create(&self.responses_broken, why.word()));
        Refusal::ALL.iter().for_each(|refusal| create(&self.refusals, refusal.word()));
    }

    fn register(&mut self) {
        let Self { registry, requests, request_duration, attempts, attempt_duration, retries, give_ups, .. } = self;
        let help = "Requests that are over; without a response, 499 stands for a caller that hung up, 0 for a cut by the drain";
        registry.register("requests", help, requests.clone());
        let help = "From the head of a request to the end of its answer, attempts and waits included";
        registry.register_with_unit("request_duration", help, Unit::Seconds, request_duration.clone());
        registry.register("attempts", "Attempts at the upstream, by what came of them", attempts.clone());
        let help = "From the begin of an attempt to the head of its answer, or its end where it is held back";
        registry.register_with_unit("attempt_duration", help, Unit::Seconds, attempt_duration.clone());
        registry.register(
            "retries",
            "Retries that were decided on, by what made them necessary; a caller that hangs up may come before one",
            retries.clone(),
        );
        let help = "Requests that failed at last, by why there was no further attempt";
        registry.register("give_ups", help, give_ups.clone());
        let help = "Responses of the upstream that broke off on their way to the client, by why";
        registry.register("responses_broken", help, self.responses_broken.clone());
        let help = "Requests that the service itself refused, by the limit they met";
        registry.register("refusals", help, self.refusals.clone());
        let help = "Lines of the log that nobody read in time";
        registry.register("log_lines_dropped", help, self.log_lines_dropped.clone());

        let Gauges {
            in_flight,
            connections,
            waits,
            upstream_connections,
            tunnels,
            budget_left,
            config_generation,
            config_reloaded,
            config_reload_successful,
        } = &self.gauges;
        registry.register("requests_in_flight", "Requests being answered", in_flight.clone());
        registry.register("connections", "Open connections of callers", connections.clone());
        registry.register("waits_in_progress", "Requests that wait for their next attempt", waits.clone());
        registry.register("upstream_connections", "Connections to the upstream", upstream_connections.clone());
        let help = "Tunnels (WebSocket and other upgrades) that are open, or being opened";
        registry.register("tunnels", help, tunnels.clone());
        let help = "Retries that the budget would grant now; +Inf without a budget";
        registry.register("budget_left", help, budget_left.clone());
        let help = "Counts configurations, from 1; each reload that is not refused makes one";
        registry.register("config_generation", help, config_generation.clone());
        let help = "When the current configuration came into force";
        registry.register_with_unit("config_reload_timestamp", help, Unit::Seconds, config_reloaded.clone());
        let help = "1, or 0 if the last reload was refused";
        registry.register("config_reload_successful", help, config_reload_successful.clone());
    }

    /// The counter of lines of the log that were dropped, for whoever drops them.
    #[must_use]
    pub fn log_lines_dropped(&self) -> Counter {
        self.log_lines_dropped.clone()
    }

    /// Notes that a request is over.
    pub(crate) fn request(&self, method: &Method, code: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { method: known(method), code }).inc();
        self.request_duration.observe(took.as_secs_f64());
    }

    /// Notes that a response came no further.
    pub(crate) fn broke_off(&self, why: BreakOff) {
        self.responses_broken.get_or_create(&ReasonLabel { reason: why.word().to_owned() }).inc();
    }

    /// Notes that a request was refused.
    pub(crate) fn refused(&self, refusal: Refusal) {
        self.refusals.get_or_create(&ReasonLabel { reason: refusal.word().to_owned() }).inc();
    }

    /// Notes that an attempt is over, or that a response is resumed.
    pub(crate) fn attempt(&self, event: &AttemptEvent<'_>) {
        if let Outcome::Resumed(_) = event.outcome {
            // Its attempt was counted when its head was there, and the one for the rest will be.
            self.retries.get_or_create(&ReasonLabel { reason: RESUMED.to_owned() }).inc();
            return;
        }
        self.attempts.get_or_create(&OutcomeLabel { outcome: word(event.outcome) }).inc();
        if let Some(timing) = event.record.timing {
            self.attempt_duration.observe(timing.duration.as_secs_f64());
        }
        match event.ended {
            None => self.retries.get_or_create(&ReasonLabel { reason: word(event.outcome) }).inc(),
            Some(Reason::Accepted) => return,
            Some(reason) => self.give_ups.get_or_create(&ReasonLabel { reason: reason_word(reason).to_owned() }).inc(),
        };
    }

    /// All of them, in the text form of OpenMetrics.
    #[must_use]
    pub fn tell(&self, now: Now) -> String {
        let gauge = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge(&self.gauges.in_flight, now.in_flight);
        gauge(&self.gauges.connections, now.connections);
        gauge(&self.gauges.waits, now.waits);
        gauge(&self.gauges.upstream_connections, now.upstream_connections);
        gauge(&self.gauges.tunnels, now.tunnels);
        self.gauges.config_generation.set(i64::try_from(now.generation).unwrap_or(i64::MAX));
        self.gauges.config_reloaded.set(now.since);
        self.gauges.config_reload_successful.set(i64::from(!now.reload_refused));
        self.gauges.budget_left.set(now.budget_left.unwrap_or(f64::INFINITY));
        let mut told = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut told, &self.registry);
        told
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A method's name, if it is a common one: callers could make up any number of others.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// What came of an attempt: a status, or the kind of failure.
fn word(outcome: Outcome<'_>) -> String {
    match outcome {
        Outcome::Response(status) => return status.as_u16().to_string(),
        Outcome::Failed(error) => failure_word(error),
        Outcome::DeadlineExceeded => "deadline",
        _ => "other",
    }
    .to_owned()
}

/// What is retried of what came of attempts, beside statuses.
const FAILURES: [&str; 4] = ["connect", "timeout", "broken", "bad_response"];

/// The kind of a failure.
pub(crate) fn failure_word(error: &Error) -> &'static str {
    match error.kind() {
        ErrorKind::Connect => "connect",
        ErrorKind::Timeout => "timeout",
        ErrorKind::ConnectionClosed => "broken",
        ErrorKind::BadResponse => "bad_response",
        _ => "bad_request",
    }
}

/// What a retry is for that asks for the rest of a response.
const RESUMED: &str = "resumed";

/// Why the response of an upstream came no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakOff {
    /// The upstream's connection broke, or its response ended early.
    Broken,
    /// Nothing came for `--timeout`.
    Timeout,
    /// The rest was asked for in vain.
    NotResumed,
    /// The drain's limit.
    Drain,
}

impl BreakOff {
    const ALL: [Self; 4] = [Self::Broken, Self::Timeout, Self::NotResumed, Self::Drain];

    /// What the error of a body means.
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            // An attempt at the rest.
            _ if error.journal().is_some() => Self::NotResumed,
            ErrorKind::BadResponse => Self::NotResumed,
            ErrorKind::Timeout => Self::Timeout,
            _ => Self::Broken,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Timeout => "timeout",
            Self::NotResumed => "not_resumed",
            Self::Drain => "drain",
        }
    }
}

/// Why there is no further attempt at a request that failed.
const GIVE_UPS: [Reason; 5] =
    [Reason::Permanent, Reason::Exhausted, Reason::Deadline, Reason::RetryAfterTooLong, Reason::Budget];

pub(crate) fn reason_word(reason: Reason) -> &'static str {
    match reason {
        Reason::Permanent => "not_repeatable",
        Reason::Exhausted => "no_retries_left",
        Reason::Deadline => "deadline",
        Reason::RetryAfterTooLong => "retry_after",
        Reason::Budget => "budget",
        _ => "other",
    }
}

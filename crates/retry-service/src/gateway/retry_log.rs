//! The log target `retries`: one line for each request that was retried or failed.

use std::fmt::Display;

use http::{HeaderValue, Method, Response, StatusCode, Uri};
use log::Level;
use retry_client::{Error, History, Reason};
use tokio::time::Instant;

use crate::telemetry::{
    access_log::milliseconds,
    metrics::{failure_label, reason_label},
};

/// A request as the log identifies it. The query is left out, since it may contain secrets.
pub(crate) struct RetryLog<'a> {
    /// When the request's head was received.
    pub(crate) begin: Instant,
    pub(crate) id: &'a HeaderValue,
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
}

impl RetryLog<'_> {
    /// Logs a response that took more than one attempt.
    pub(crate) fn responded<B>(&self, response: &Response<B>) {
        if let Some(history) = response.extensions().get::<History>() {
            let status = response.status();
            let level = if status.is_server_error() { Level::Warn } else { Level::Info };
            let attempts = history.iter().next_back().map_or(0, |step| step.record.attempt);
            self.log(level, status, status.as_str(), None, attempts, &history);
        }
    }

    /// Logs a request without a response from the upstream. The client gets `status`.
    pub(crate) fn failed(&self, error: &Error, status: StatusCode) {
        let attempts = error.journal().map_or(0, retry_client::Journal::attempts);
        let reason = error.reason();
        let suffix = match reason {
            None => String::new(),
            Some(Reason::Permanent) => "; cannot be retried".to_owned(),
            Some(reason) => format!("; {reason}"),
        };
        let log = |message: &dyn Display| {
            self.log(Level::Warn, status, failure_label(error), reason, attempts, message);
        };
        match error.history() {
            Some(history) => log(&format_args!("{history}{suffix}")),
            None => {
                let message = error.to_string().replace("a CA file adds one", "--upstream-ca adds one");
                log(&format_args!("{message}{suffix}"));
            }
        }
    }

    /// `status` is the one that the client gets, and `outcome` that of the last attempt, as in the metrics. `reason` says
    /// why there was no further attempt; `None` if the last one succeeded.
    fn log(
        &self,
        level: Level,
        status: StatusCode,
        outcome: &str,
        reason: Option<Reason>,
        attempts: u32,
        message: &dyn Display,
    ) {
        let Self { begin, id, method, uri } = self;
        let (path, id, status) = (uri.path(), id.to_str().unwrap_or("-"), status.as_u16());
        let (reason, duration_ms) = (reason.map(reason_label), milliseconds(*begin));
        log::log!(
            target: "retries", level,
            method:%, path, status, outcome, reason:serde, attempts, duration_ms, request_id = id;
            "{method} {path}: {message}; id {id}"
        );
    }
}

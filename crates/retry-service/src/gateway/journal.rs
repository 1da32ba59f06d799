//! The log of what retrying did: one line for each request that was retried or failed.

use std::fmt::Display;

use http::{HeaderValue, Method, Response, StatusCode, Uri};
use log::Level;
use retry_client::{Error, History, Reason};
use tokio::time::Instant;

use crate::telemetry::{
    access_log::milliseconds,
    metrics::{failure_word, reason_word},
};

/// A request, as the log names it. Without its query: people put secrets there.
pub(crate) struct Named<'a> {
    /// When its head was there.
    pub(crate) begin: Instant,
    pub(crate) id: &'a HeaderValue,
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
}

/// How a request ended: a line's fields beside the request's name.
struct End<'a> {
    /// What the client gets.
    status: StatusCode,
    /// What came of the last attempt, in the metrics' words.
    outcome: &'a str,
    /// Why there was no further attempt, unless the last one was a success.
    reason: Option<Reason>,
    attempts: u32,
}

impl Named<'_> {
    /// Tells of an answer that took more than one attempt.
    pub(crate) fn answered<B>(&self, response: &Response<B>) {
        if let Some(history) = response.extensions().get::<History>() {
            let status = response.status();
            let level = if status.is_server_error() { Level::Warn } else { Level::Info };
            let attempts = history.iter().next_back().map_or(0, |step| step.record.attempt);
            self.log(level, &End { status, outcome: status.as_str(), reason: None, attempts }, &history);
        }
    }

    /// Tells of a request that got no answer, so that its caller gets this status.
    pub(crate) fn failed(&self, error: &Error, status: StatusCode) {
        let attempts = error.journal().map_or(0, retry_client::Journal::attempts);
        let reason = error.reason();
        let why = match reason {
            None => String::new(),
            Some(Reason::Permanent) => "; not safe or no use to repeat".to_owned(),
            Some(reason) => format!("; {reason}"),
        };
        let end = End { status, outcome: failure_word(error), reason, attempts };
        match error.history() {
            Some(history) => self.log(Level::Warn, &end, &format_args!("{history}{why}")),
            None => {
                // Authorities that are not trusted are not asked twice.
                let told = error.to_string().replace("a CA file adds one", "--upstream-ca adds one");
                self.log(Level::Warn, &end, &format_args!("{told}{why}"));
            }
        }
    }

    fn log(&self, level: Level, end: &End<'_>, told: &dyn Display) {
        let Self { begin, id, method, uri } = self;
        let End { status, outcome, reason, attempts } = end;
        let (path, id, status, reason) =
            (uri.path(), id.to_str().unwrap_or("-"), status.as_u16(), reason.map(reason_word));
        let duration_ms = milliseconds(*begin);
        log::log!(
            target: "retries", level,
            method:%, path, status, outcome, reason:serde, attempts, duration_ms, request_id = id;
            "{method} {path}: {told}; id {id}"
        );
    }
}

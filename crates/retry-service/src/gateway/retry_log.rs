//! The log target `retries`: one line for each request that was retried or hedged, or that failed.

use std::fmt::Display;

use http::{Response, StatusCode};
use log::Level;
use retry_client::{Error, ErrorKind, History, Journal, Reason};

use super::context::RequestContext;
use crate::telemetry::{
    access_log::{AccessLogEntry, milliseconds},
    metrics::{failure_label, give_up_label},
};

/// Logs a response that took more than one attempt, or that was hedged.
pub(super) fn responded<B>(request: &RequestContext<'_>, response: &Response<B>) {
    if let Some(history) = response.extensions().get::<History>() {
        let status = response.status();
        let level = if status.is_server_error() { Level::Warn } else { Level::Info };
        let attempts = history.iter().next_back().map_or(0, |step| step.record.attempt);
        log(request, level, status, status.as_str(), None, attempts, history);
    }
}

/// Logs a request without a response from the upstream. The client gets `status`.
pub(super) fn failed(request: &RequestContext<'_>, error: &Error, status: StatusCode) {
    let attempts = error.journal().map_or(0, Journal::attempts);
    let message = match error.history() {
        Some(history) => history.to_string(),
        None => error.to_string().replace("trust it with ca_file or ca_pem", "trust it with --upstream-ca"),
    };
    let message = match error.reason() {
        None => message,
        // The message says why.
        Some(_) if error.kind() == ErrorKind::Outage => message,
        Some(Reason::Permanent) => message + "; not repeatable",
        Some(reason) => format!("{message}; {reason}"),
    };
    log(request, Level::Warn, status, failure_label(error), give_up_label(error), attempts, &message);
}

/// `outcome` is that of the last attempt, as in the metrics. `reason` says why there was no further attempt; `None` if
/// the last one succeeded. The query of the request is left out, since it may contain secrets.
fn log(
    request: &RequestContext<'_>,
    level: Level,
    status: StatusCode,
    outcome: &str,
    reason: Option<&'static str>,
    attempts: u32,
    message: &dyn Display,
) {
    let AccessLogEntry { begin, method, uri, .. } = request.entry;
    let (path, id, status) = (uri.path(), request.entry.id(), status.as_u16());
    let duration_ms = milliseconds(*begin);
    log::log!(
        target: "retries", level,
        method:%, path, status, outcome, reason:serde, attempts, duration_ms, request_id = id;
        "{method} {path}: {message}; id {id}"
    );
}

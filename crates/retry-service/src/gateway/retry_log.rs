//! The log target `retries`: one line for each request that was retried or hedged, or that failed.

use std::fmt::Display;

use http::{Response, StatusCode};
use log::Level;
use retry_client::{EndReason, Error, History, Outcome};

use super::context::RequestContext;
use crate::telemetry::{
    access_log::{AccessLogEntry, milliseconds},
    metrics::{failure_label, give_up_label, grpc_label, reason_label},
};

/// Logs a response that took more than one attempt, or that was hedged.
pub(super) fn responded<B>(request: &RequestContext<'_>, response: &Response<B>) {
    if let Some(history) = response.extensions().get::<History>().filter(|history| has_several_requests(history)) {
        let status = response.status();
        let grpc_status = match history.last().outcome {
            Outcome::GrpcStatus(code) => Some(grpc_label(code)),
            _ => None,
        };
        let is_failure = grpc_status.is_some() || status.is_server_error();
        let level = if is_failure { Level::Warn } else { Level::Info };
        let outcome = grpc_status.as_deref().unwrap_or(status.as_str());
        let reason = Some(history.reason()).filter(|reason| *reason != EndReason::Accepted).map(reason_label);
        log(request, level, status, outcome, reason, history.attempts(), history);
    }
}

/// Logs a request without a response from the upstream. The client gets `status`.
pub(super) fn failed(request: &RequestContext<'_>, error: &Error, status: StatusCode) {
    let attempts = error.history().map_or(0, History::attempts);
    let message = match (error.history(), error.reason()) {
        (Some(history), _) if has_several_requests(history) => history.to_string(),
        // The message says why.
        (_, None | Some(EndReason::Outage)) => error.message().to_owned(),
        (_, Some(reason)) => format!("{}; {reason}", error.message()),
    };
    let message = message.replace("trust it with ca_file or ca_pem", "trust it with --upstream-ca");
    log(request, Level::Warn, status, failure_label(error.kind()), give_up_label(error), attempts, &message);
}

fn has_several_requests(history: &History) -> bool {
    history.attempts() > 1 || history.last().hedge.is_some()
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

//! The error of waiting for requests.

use std::time::Duration;

use crate::fault::duration_text;
use crate::recorder::recorded_request::RecordedRequest;

/// Fewer requests than expected arrived within the limit of [`Backend::wait_for`](crate::Backend::wait_for).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} of {expected} requests arrived within {}{}", .requests.len(), duration_text(*.limit), list(.requests))]
pub struct WaitError {
    expected: usize,
    requests: Vec<RecordedRequest>,
    limit: Duration,
}

impl WaitError {
    pub(crate) fn new(expected: usize, requests: Vec<RecordedRequest>, limit: Duration) -> Self {
        Self { expected, requests, limit }
    }

    /// Returns the requests that arrived.
    #[must_use]
    pub fn requests(&self) -> &[RecordedRequest] {
        &self.requests
    }
}

/// How many requests a message lists.
const LISTED: usize = 20;

fn list(requests: &[RecordedRequest]) -> String {
    if requests.is_empty() {
        return String::new();
    }
    let mut lines: Vec<_> =
        requests.iter().take(LISTED).map(|request| format!("{} {}", request.method, request.target)).collect();
    if requests.len() > LISTED {
        lines.push("…".to_owned());
    }
    format!(": {}", lines.join(", "))
}

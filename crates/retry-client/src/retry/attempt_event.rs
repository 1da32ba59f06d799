//! The event that an observer gets for each attempt, and its log line.

use std::{fmt, time::Duration};

use http::{Method, Uri};

use crate::{end_reason::EndReason, error::Error, history::PastAttempt};

/// An attempt failed, a call ended, or a response body is resumed.
#[derive(Debug)]
#[non_exhaustive]
pub struct AttemptEvent<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's URL, without credentials. Its query may be confidential. With several endpoints, this is the URL at
    /// the first one, whichever the request was sent to.
    pub uri: &'a Uri,
    /// The attempt, as in the [`History`](crate::History). For a response that is resumed, this is the attempt that returned
    /// it, which had an event of its own, with the outcome [`Resumed`](crate::Outcome::Resumed).
    pub attempt: &'a PastAttempt,
    /// The error of the attempt. `None` if there was a response, or if the deadline passed first.
    pub error: Option<&'a Error>,
    /// Why the call ended. `None` if another attempt follows.
    pub ended: Option<EndReason>,
}

impl AttemptEvent<'_> {
    /// Logs an attempt that failed, with its parts as key-values, but without the URL's query: it may be confidential.
    pub(crate) fn log(&self, count: u32) {
        let Self { method, uri, attempt: PastAttempt { number, outcome, endpoint, wait, .. }, ended, .. } = self;
        if *ended == Some(EndReason::Accepted) || !log::log_enabled!(log::Level::Warn) {
            return;
        }
        let next = match ended {
            None => match wait.unwrap_or_default() {
                Duration::ZERO => "; next attempt at once".to_owned(),
                wait => format!("; next attempt in {wait:?}"),
            },
            // The message says why.
            Some(EndReason::Outage) => String::new(),
            Some(reason) => format!("; {reason}"),
        };
        let of = u64::from(count) + 1;
        let at = endpoint.as_ref().map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        log::warn!(
            method:% = method, attempt = *number, wait_ms = wait.map_or(0, |wait| wait.as_millis() as u64);
            "{method} {}: attempt {number} of {of}{at} {outcome}{next}", WithoutQuery(uri)
        );
    }
}

/// Displays a URL without its query.
pub(crate) struct WithoutQuery<'a>(pub(crate) &'a Uri);

impl fmt::Display for WithoutQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(uri) = self;
        if let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) {
            write!(f, "{scheme}://{authority}")?;
        }
        f.write_str(uri.path())
    }
}

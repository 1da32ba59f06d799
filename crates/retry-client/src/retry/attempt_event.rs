//! The event that an observer gets for each attempt, and its log line.

use std::{fmt, time::Duration};

use http::{Method, StatusCode, Uri};
use retry_core::{Reason, Record};

use crate::{
    error::{Error, ErrorKind},
    history::{Hedge, PastOutcome},
};

/// An attempt failed, a call ended, or a response body is resumed.
#[derive(Debug)]
#[non_exhaustive]
pub struct AttemptEvent<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's URL, without credentials. Its query may be confidential. With several endpoints, this is the URL at
    /// the first one, whichever the request was sent to.
    pub uri: &'a Uri,
    /// The endpoint that the outcome is of, named as in [`EndpointStatus`](crate::EndpointStatus). `None` if there is only
    /// one, and if the request was not sent.
    pub endpoint: Option<&'a str>,
    /// The attempt: its number, its times, and the wait that follows. For a response that is resumed, this is the
    /// attempt that returned it, which had an event of its own.
    pub record: &'a Record,
    /// The outcome of the attempt.
    pub outcome: Outcome<'a>,
    /// Why the call ended. `None` if another attempt follows.
    pub ended: Option<Reason>,
    /// How long the attempt waited until an endpoint was up, as part of its duration.
    pub parked: Duration,
    /// The second request that was sent because the first took long. `None` if there was none.
    pub hedge: Option<Hedge>,
}

/// The outcome of an attempt. It displays as a verb phrase, such as `returned 200 OK`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// A response with this status.
    Response(StatusCode),
    /// No response.
    Failed(&'a Error),
    /// The deadline passed first.
    DeadlineExceeded,
    /// A response whose body ended early with this error after it had been returned. The rest is requested in a call of
    /// its own.
    Resumed(&'a Error),
}

impl Outcome<'_> {
    pub(crate) fn to_past(self) -> PastOutcome {
        match self {
            Self::Response(status) => PastOutcome::Response(status),
            Self::Failed(error) | Self::Resumed(error) => PastOutcome::Failed(error.to_string()),
            Self::DeadlineExceeded => PastOutcome::DeadlineExceeded,
        }
    }
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resumed(error) => write!(f, "was incomplete and is resumed: {error}"),
            outcome => outcome.to_past().fmt(f),
        }
    }
}

impl AttemptEvent<'_> {
    /// Logs an attempt that failed, with its parts as key-values, but without the URL's query: it may be confidential.
    pub(crate) fn log(&self, count: u32) {
        let Self { method, uri, endpoint, record, outcome, ended, .. } = self;
        if *ended == Some(Reason::Accepted) || !log::log_enabled!(log::Level::Warn) {
            return;
        }
        let next = match ended {
            None => match record.wait.unwrap_or_default() {
                Duration::ZERO => "; next attempt at once".to_owned(),
                wait => format!("; next attempt in {wait:?}"),
            },
            Some(_) if matches!(outcome, Outcome::Failed(error) if error.kind() == ErrorKind::Outage) => String::new(),
            Some(Reason::Permanent) => "; not repeatable".to_owned(),
            Some(reason) => format!("; {reason}"),
        };
        let (attempt, of) = (record.attempt, u64::from(count) + 1);
        let at = endpoint.map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        log::warn!(
            method:% = method, attempt, wait_ms = record.wait.map_or(0, |wait| wait.as_millis() as u64);
            "{method} {}: attempt {attempt} of {of}{at} {outcome}{next}", WithoutQuery(uri)
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

//! What happens in a call, for logs and metrics.

use std::fmt;

use http::{Method, StatusCode, Uri};
use retry_core::{Reason, Record};

use crate::error::Error;

/// An attempt failed, a call is over, or a response is resumed.
#[derive(Debug)]
#[non_exhaustive]
pub struct AttemptEvent<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// Where it went; never with credentials, but perhaps with a query that should not be shown.
    pub uri: &'a Uri,
    /// The attempt: its number, its times, and the wait that follows. That of a response which is resumed has been
    /// told before.
    pub record: &'a Record,
    /// What came of it.
    pub outcome: Outcome<'a>,
    /// Why the call is over; none while there is to be another attempt.
    pub ended: Option<Reason>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// An answer with this status.
    Response(StatusCode),
    /// No answer.
    Failed(&'a Error),
    /// The deadline cut it.
    DeadlineExceeded,
    /// An answer, whose body broke off like this once it was handed over. The rest is asked for, by a call of its own.
    Resumed(&'a Error),
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response(status) => write!(f, "returned {status}"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::DeadlineExceeded => f.write_str("exceeded the deadline"),
            Self::Resumed(error) => write!(f, "was incomplete and is resumed: {error}"),
        }
    }
}

impl AttemptEvent<'_> {
    /// One line for each attempt that failed, with its parts as key-values. The query stays out of it:
    /// people put secrets there.
    pub(crate) fn log(&self, count: u32) {
        let Self { method, uri, record, outcome, ended } = self;
        let next = match ended {
            None => Next::Wait(record.wait.unwrap_or_default()),
            Some(Reason::Accepted) => return,
            Some(reason) => Next::End(*reason),
        };
        let (attempt, of) = (record.attempt, u64::from(count) + 1);
        log::warn!(
            method:% = method, attempt, wait_ms = record.wait.map_or(0, |wait| wait.as_millis() as u64);
            "{method} {}: attempt {attempt} of {of} {outcome}; {next}", Place(uri)
        );
    }
}

enum Next {
    Wait(std::time::Duration),
    End(Reason),
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(wait) => write!(f, "next attempt in {wait:?}"),
            Self::End(Reason::Permanent) => f.write_str("cannot be retried"),
            Self::End(reason) => reason.fmt(f),
        }
    }
}

/// A URL without its query.
pub(crate) struct Place<'a>(pub(crate) &'a Uri);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(uri) = self;
        if let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) {
            write!(f, "{scheme}://{authority}")?;
        }
        f.write_str(uri.path())
    }
}

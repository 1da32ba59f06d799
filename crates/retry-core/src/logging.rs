//! Log lines for failed attempts; without the feature `log` there are none.
//!
//! Errors are not logged, as they may contain secrets.

use crate::{journal::Record, reason::Reason};

#[cfg(feature = "log")]
const TARGET: &str = "retry_core";

/// Logs an attempt that is retried.
#[cfg(feature = "log")]
pub(crate) fn retry(record: &Record) {
    let Record { attempt, verdict, wait, .. } = record;
    log::debug!(target: TARGET, "attempt {attempt} failed ({verdict:?}); next attempt in {:?}", wait.unwrap_or_default());
}

/// Logs the end of a call, unless it succeeded.
#[cfg(feature = "log")]
pub(crate) fn end(record: &Record, reason: Reason) {
    let Record { attempt, verdict, .. } = record;
    if reason != Reason::Accepted {
        log::warn!(target: TARGET, "gave up after attempt {attempt} ({verdict:?}): {reason}");
    }
}

#[cfg(not(feature = "log"))]
pub(crate) const fn retry(_record: &Record) {}

#[cfg(not(feature = "log"))]
pub(crate) const fn end(_record: &Record, _reason: Reason) {}

//! A line in the log for each attempt that fails. Without the feature `log`, nothing.
//!
//! Of the outcome only the verdict is told: what an error says may be secret.

use crate::{Reason, Record};

#[cfg(feature = "log")]
const TARGET: &str = "retry_core";

/// Tells of a wait that begins.
#[cfg(feature = "log")]
pub(crate) fn wait(record: &Record) {
    let Record { attempt, verdict, wait, .. } = record;
    log::debug!(target: TARGET, "attempt {attempt} failed ({verdict:?}); next attempt in {:?}", wait.unwrap_or_default());
}

/// Tells of the end of a call that did not succeed.
#[cfg(feature = "log")]
pub(crate) fn end(record: &Record, reason: Reason) {
    let Record { attempt, verdict, .. } = record;
    if reason != Reason::Accepted {
        log::warn!(target: TARGET, "gave up after attempt {attempt} ({verdict:?}): {reason}");
    }
}

#[cfg(not(feature = "log"))]
pub(crate) const fn wait(_record: &Record) {}

#[cfg(not(feature = "log"))]
pub(crate) const fn end(_record: &Record, _reason: Reason) {}

//! How many calls are in backoff.

use std::sync::Arc;

/// Counts the calls that wait for their next attempt: the inner `Arc` has one reference more than there are such calls.
/// Clones of the gauge share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackoffGauge(Arc<Arc<()>>);

/// Counts as a call until it is dropped.
pub(crate) type BackoffGuard = Arc<()>;

impl BackoffGauge {
    pub(crate) fn enter(&self) -> BackoffGuard {
        Arc::clone(&self.0)
    }

    pub(crate) fn get(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

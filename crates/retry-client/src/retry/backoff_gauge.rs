//! How many calls are in backoff.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Counts the calls of a client that wait for their next attempt. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct BackoffGauge(Arc<AtomicUsize>);

impl BackoffGauge {
    /// Counts a call until the guard is dropped.
    pub(crate) fn enter(&self) -> BackoffGuard {
        self.0.fetch_add(1, Relaxed);
        BackoffGuard(self.clone())
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

#[derive(Debug)]
pub(crate) struct BackoffGuard(BackoffGauge);

impl Drop for BackoffGuard {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

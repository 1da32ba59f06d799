//! Limits how many requests, or tunnels, there are at the same time, over all configurations.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Counts the permits that are in use. Clones share the count.
///
/// Each configuration brings its own limit. A semaphore cannot do this: its number of permits cannot go below those in
/// use.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConcurrencyLimiter(Arc<InUse>);

/// The number of permits in use. All threads write to it, so that nothing else is on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct InUse {
    count: AtomicUsize,
}

/// A permit, in use until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit(ConcurrencyLimiter);

impl ConcurrencyLimiter {
    /// Returns a permit if fewer than `limit` are in use.
    pub(crate) fn try_acquire(&self, limit: usize) -> Option<Permit> {
        let acquired = self.0.count.fetch_update(Relaxed, Relaxed, |in_use| (in_use < limit).then_some(in_use + 1));
        acquired.is_ok().then(|| Permit(self.clone()))
    }

    pub(crate) fn in_use(&self) -> usize {
        self.0.count.load(Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.count.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_permit_can_be_acquired_again() {
        let limiter = ConcurrencyLimiter::default();
        let (one, other) = (limiter.try_acquire(2), limiter.try_acquire(2));
        assert!(one.is_some() && other.is_some() && limiter.try_acquire(2).is_none());
        assert_eq!(limiter.in_use(), 2);
        drop(one);
        assert!(limiter.try_acquire(1).is_none());
        assert!(limiter.try_acquire(2).is_some());
        assert_eq!(limiter.in_use(), 1);
        assert!(ConcurrencyLimiter::default().try_acquire(0).is_none());
    }
}

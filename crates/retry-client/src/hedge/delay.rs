//! How long the requests of a client wait for a response before they are hedged.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    hedge::{after::HedgeAfter, quantile::QuantileEstimate},
    lock::lock,
};

/// The delay of one client. Those with own pools share the estimate, but each adds to it only from time to time, so that
/// they do not wait for each other.
pub(crate) enum HedgeDelay {
    Fixed(Duration),
    Measured { estimate: Arc<SharedEstimate>, recent: Mutex<Recent> },
}

/// What all clients have measured.
pub(crate) struct SharedEstimate {
    estimate: Mutex<QuantileEstimate>,
    /// The estimate in nanoseconds; `UNKNOWN` until enough was measured.
    nanos: AtomicU64,
    origin: Instant,
}

const UNKNOWN: u64 = u64::MAX;

/// What one client has measured since it last added to the estimate.
pub(crate) struct Recent {
    times: Vec<Duration>,
    since: Instant,
}

/// A client adds to the estimate after so many responses, or so long.
const MAX_RECENT: usize = 64;
const MAX_AGE: Duration = Duration::from_millis(100);

impl HedgeDelay {
    pub(crate) fn new(after: HedgeAfter) -> Self {
        match after {
            HedgeAfter::Time(time) => Self::Fixed(time),
            HedgeAfter::Quantile(quantile) => {
                let (estimate, nanos) = (Mutex::new(QuantileEstimate::new(quantile)), AtomicU64::new(UNKNOWN));
                Self::measured(Arc::new(SharedEstimate { estimate, nanos, origin: Instant::now() }))
            }
        }
    }

    fn measured(estimate: Arc<SharedEstimate>) -> Self {
        Self::Measured { estimate, recent: Mutex::new(Recent { times: Vec::new(), since: Instant::now() }) }
    }

    /// Returns the delay of another client, for the same estimate.
    pub(crate) fn sibling(&self) -> Self {
        match self {
            Self::Fixed(time) => Self::Fixed(*time),
            Self::Measured { estimate, .. } => Self::measured(Arc::clone(estimate)),
        }
    }

    /// Returns the current delay. `None` until enough was measured.
    pub(crate) fn get(&self) -> Option<Duration> {
        match self {
            Self::Fixed(time) => Some(*time),
            Self::Measured { estimate, .. } => {
                Some(estimate.nanos.load(Relaxed)).filter(|nanos| *nanos != UNKNOWN).map(Duration::from_nanos)
            }
        }
    }

    /// Notes how long a response took.
    pub(crate) fn record(&self, time: Duration) {
        let Self::Measured { estimate, recent } = self else { return };
        let mut recent = lock(recent);
        recent.times.push(time);
        if recent.times.len() >= MAX_RECENT || recent.since.elapsed() >= MAX_AGE {
            estimate.add(&recent.times);
            recent.times.clear();
            recent.since = Instant::now();
        }
    }
}

impl SharedEstimate {
    fn add(&self, times: &[Duration]) {
        let mut estimate = lock(&self.estimate);
        let now = self.origin.elapsed();
        times.iter().for_each(|time| estimate.record(*time, now));
        if let Some(quantile) = estimate.get() {
            self.nanos.store(u64::try_from(quantile.as_nanos()).unwrap_or(UNKNOWN), Relaxed);
        }
    }
}

impl fmt::Debug for HedgeDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HedgeDelay").field(&self.get()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_share_what_they_have_measured() {
        let first = HedgeDelay::new(HedgeAfter::Quantile(0.95));
        let second = first.sibling();
        for delay in [&first, &second] {
            assert_eq!(delay.get(), None);
            (0..MAX_RECENT).for_each(|_| delay.record(Duration::from_millis(10)));
        }
        let expected = first.get().unwrap();
        assert!(expected.abs_diff(Duration::from_millis(10)) < Duration::from_millis(1), "{expected:?}");
        assert_eq!((second.get(), first.sibling().get()), (Some(expected), Some(expected)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_quiet_client_has_measured_counts_soon() {
        let delay = HedgeDelay::new(HedgeAfter::Quantile(0.5));
        for _ in 0..10 {
            assert_eq!(delay.get(), None);
            advance(MAX_AGE).await;
            delay.record(Duration::from_millis(10));
        }
        assert!(delay.get().is_some());
    }

    #[test]
    fn nothing_is_lost_if_several_threads_measure() {
        let delay = HedgeDelay::new(HedgeAfter::Quantile(0.99));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let delay = delay.sibling();
                    // 512 in all, of which the estimate needs 500.
                    (0..2 * MAX_RECENT).for_each(|_| delay.record(Duration::from_millis(10)));
                });
            }
        });
        assert!(delay.get().is_some());
    }

    #[test]
    fn a_fixed_delay_stays() {
        let delay = HedgeDelay::new(HedgeAfter::Time(Duration::from_millis(50)));
        (0..1000).for_each(|_| delay.record(Duration::from_millis(1)));
        assert_eq!(delay.sibling().get(), Some(Duration::from_millis(50)));
    }
}

//! A histogram of latencies in constant memory, since the soak test looks for growth.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Buckets per power of two, so that the error is at most an eighth.
const STEPS: u32 = 8;
const BUCKETS: usize = (64 - STEPS.ilog2() as usize + 1) * STEPS as usize;

pub(crate) struct Latencies {
    buckets: [AtomicU64; BUCKETS],
    longest: AtomicU64,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self { buckets: array::from_fn(|_| AtomicU64::new(0)), longest: AtomicU64::new(0) }
    }

    pub(crate) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket(micros)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.longest.fetch_max(micros, Relaxed);
    }

    /// Returns the latency that this share of the calls did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let all: u64 = self.buckets.iter().map(|bucket| bucket.load(Relaxed)).sum();
        let wanted = (all as f64 * share).ceil() as u64;
        let mut seen = 0;
        let reached = self.buckets.iter().position(|bucket| {
            seen += bucket.load(Relaxed);
            seen >= wanted
        });
        reached.map_or(Duration::ZERO, |bucket| Duration::from_micros(ceiling(bucket)).min(self.longest()))
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.load(Relaxed))
    }
}

fn bucket(micros: u64) -> usize {
    if micros < u64::from(STEPS) {
        return micros as usize;
    }
    let power = micros.ilog2() - STEPS.ilog2();
    (power * STEPS) as usize + (micros >> power) as usize
}

/// Returns the longest time of a bucket.
fn ceiling(bucket: usize) -> u64 {
    let (steps, bucket) = (u64::from(STEPS), bucket as u64);
    if bucket < steps {
        return bucket;
    }
    let power = bucket / steps - 1;
    ((bucket % steps + steps + 1) << power) - 1
}

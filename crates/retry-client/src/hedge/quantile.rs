//! The estimate of a quantile of the recent response times. Reads no clock: time is an argument.

use std::time::Duration;

/// Estimates a quantile of response times, in constant memory. What was measured earlier counts less.
///
/// Times are counted in buckets that are as wide as a microsecond, or a sixteenth of the time, as in HdrHistogram.
#[derive(Debug)]
pub(crate) struct QuantileEstimate {
    quantile: f64,
    /// The weight of the times in each bucket.
    weights: Box<[f64]>,
    total: f64,
    /// The total weight from which there is an estimate.
    minimum: f64,
    /// When the weights were last halved; `None` before the first time is recorded.
    halved: Option<Duration>,
}

/// Each power of two has this many buckets.
const STEPS: u64 = 16;
/// Up to nine hours. All longer times are in the last bucket.
const BUCKETS: usize = 512;

/// How long it takes until what was measured counts half as much.
const HALF_LIFE: Duration = Duration::from_secs(30);

/// The estimate needs this many times above the quantile.
const MIN_ABOVE: f64 = 5.0;

impl QuantileEstimate {
    /// Creates an estimate of a quantile between 0 and 1.
    pub(crate) fn new(quantile: f64) -> Self {
        let weights = vec![0.0; BUCKETS].into_boxed_slice();
        Self { quantile, weights, total: 0.0, minimum: MIN_ABOVE / (1.0 - quantile), halved: None }
    }

    /// Adds a response time that was measured at `now`.
    pub(crate) fn record(&mut self, time: Duration, now: Duration) {
        self.age(now);
        if let Some(weight) = self.weights.get_mut(bucket(time)) {
            *weight += 1.0;
            self.total += 1.0;
        }
    }

    /// Returns the upper bound of the bucket that the quantile is in. `None` until enough was recorded.
    pub(crate) fn get(&self) -> Option<Duration> {
        // The sum of halves may be less by an error of rounding.
        if self.total < self.minimum * (1.0 - 1e-9) {
            return None;
        }
        let rank = self.quantile * self.total;
        let mut below = 0.0;
        let index = self.weights.iter().position(|weight| {
            below += weight;
            below >= rank
        });
        Some(upper_bound(index.unwrap_or(BUCKETS - 1)))
    }

    /// Halves the weights for each half-life that has passed, but only while enough remains for an estimate: with few
    /// requests, older ones are better than none.
    fn age(&mut self, now: Duration) {
        let halved = self.halved.get_or_insert(now);
        while *halved + HALF_LIFE <= now {
            if self.total / 2.0 < self.minimum {
                // From now on: a pause must not age what is measured after it.
                *halved = now;
                return;
            }
            *halved += HALF_LIFE;
            self.total /= 2.0;
            self.weights.iter_mut().for_each(|weight| *weight /= 2.0);
        }
    }
}

/// Returns the index of the bucket of a time.
fn bucket(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    // The five highest bits, so that the quotient is from 16 to 31; and the bits below them.
    let shift = micros.max(STEPS).ilog2() - STEPS.ilog2();
    let index = u64::from(shift) * STEPS + (micros >> shift);
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// Returns the least time above those of a bucket.
fn upper_bound(index: usize) -> Duration {
    let index = index as u64 + 1;
    let shift = (index / STEPS).saturating_sub(1);
    Duration::from_micros((index - shift * STEPS) << shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// Records a time this often.
    fn record(estimate: &mut QuantileEstimate, time: Duration, count: u32, now: Duration) {
        (0..count).for_each(|_| estimate.record(time, now));
    }

    #[test]
    fn buckets_are_a_microsecond_or_a_sixteenth_wide() {
        for (time, index, bound) in [
            (0, 0, 1),
            (1, 1, 2),
            (15, 15, 16),
            (16, 16, 17),
            (31, 31, 32),
            (32, 32, 34),
            (33, 32, 34),
            (34, 33, 36),
            (63, 47, 64),
            (64, 48, 68),
            (50_000, 200, 51_200),
            ((1 << 35) - 1, 511, 1 << 35),
            (1 << 40, 511, 1 << 35),
        ] {
            assert_eq!(bucket(micros(time)), index, "{time}");
            assert_eq!(upper_bound(index), micros(bound), "{time}");
        }
        assert_eq!(bucket(Duration::MAX), 511);
    }

    #[test]
    fn there_is_no_estimate_before_five_times_are_above_it() {
        for (quantile, minimum) in [(0.5, 10), (0.9, 50), (0.95, 100), (0.99, 500)] {
            let mut estimate = QuantileEstimate::new(quantile);
            record(&mut estimate, micros(7), minimum - 1, secs(1));
            assert_eq!(estimate.get(), None, "{quantile}");
            record(&mut estimate, micros(7), 1, secs(1));
            assert_eq!(estimate.get(), Some(micros(8)), "{quantile}");
        }
    }

    #[test]
    fn old_times_fade_and_a_few_remain() {
        let mut estimate = QuantileEstimate::new(0.5);
        record(&mut estimate, micros(9), 1000, secs(0));
        record(&mut estimate, micros(3), 400, secs(29));
        assert_eq!(estimate.get(), Some(micros(10)));
        record(&mut estimate, micros(3), 301, secs(30));
        assert_eq!(estimate.get(), Some(micros(4)), "500 weigh less than 200 and 301");
        // An hour later, there is still an estimate, which new times outweigh.
        record(&mut estimate, micros(1), 1, secs(3600));
        assert_eq!(estimate.get(), Some(micros(4)));
        record(&mut estimate, micros(1), 20, secs(3600));
        assert_eq!(estimate.get(), Some(micros(2)));
    }

    proptest! {
        #[test]
        fn the_estimate_is_within_a_bucket_of_the_quantile(
            quantile in 0.01..0.99,
            mut times in prop::collection::vec(prop_oneof![0..100_u64, 0..100_000_u64, 0..(1_u64 << 34)], 500..900),
        ) {
            let mut estimate = QuantileEstimate::new(quantile);
            times.iter().for_each(|time| estimate.record(micros(*time), secs(1)));
            times.sort_unstable();
            let rank = (quantile * times.len() as f64).ceil() as usize;
            let exact = times[rank.max(1) - 1];
            let estimated = estimate.get().unwrap().as_micros() as u64;
            prop_assert!(exact < estimated && estimated <= exact + (exact / STEPS).max(1), "{exact} {estimated}");
        }

        #[test]
        fn once_there_is_an_estimate_it_stays_and_within_what_was_recorded(
            quantile in 0.05..0.95,
            batches in prop::collection::vec((0..200_u64, 1..2000_u32, 0..100_u64), 1..20),
        ) {
            let mut estimate = QuantileEstimate::new(quantile);
            let (mut now, mut known) = (0, false);
            for (index, (time, count, pause)) in batches.iter().enumerate() {
                now += pause;
                record(&mut estimate, micros(*time), *count, secs(now));
                let recorded = batches[..=index].iter().map(|(time, ..)| upper_bound(bucket(micros(*time))));
                match estimate.get() {
                    Some(time) => prop_assert!(recorded.clone().min() <= Some(time) && Some(time) <= recorded.max()),
                    None => prop_assert!(!known),
                }
                known = estimate.get().is_some();
            }
        }
    }
}

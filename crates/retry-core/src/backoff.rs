//! [`Waits`]: the waits of a policy, in order.

use core::{iter::FusedIterator, time::Duration};

use crate::{
    jitter::{Jitter, pick},
    nanos::Nanos,
    policy::RetryPolicy,
};

/// With decorrelated jitter, a wait is at most this many times the one before (see [`Jitter`]).
const DECORRELATED_GROWTH: f64 = 3.0;

/// The state of a call's backoff. The default is for before the first retry, which creates it from the policy.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    /// The factor to the power of the waits so far: the next wait is the first one times this, before cap and jitter. With
    /// decorrelated jitter, the last wait in nanoseconds.
    ///
    /// Never NaN: it starts finite, and the factor is finite and positive.
    growth: f64,
}

impl Backoff {
    #[inline]
    pub(crate) fn new(policy: &RetryPolicy) -> Self {
        match policy.jitter {
            Jitter::Decorrelated => Self { growth: first(policy).0 as f64 },
            _ => Self { growth: 1.0 },
        }
    }

    /// Returns the next wait, with jitter. `first` is what the first wait would have been. Calls `random` only if the
    /// policy has jitter.
    #[inline]
    pub(crate) fn advance(&mut self, policy: &RetryPolicy, first: Nanos, random: impl FnOnce() -> u64) -> Nanos {
        match policy.jitter {
            Jitter::None => self.grow(policy, first),
            jitter => {
                let (wait, growth) = jittered(policy, first, jitter, self.growth, random());
                self.growth = growth;
                wait
            }
        }
    }

    #[inline]
    fn grow(&mut self, policy: &RetryPolicy, first: Nanos) -> Nanos {
        if policy.backoff_factor == 1.0 {
            // Exact; `f64` is not beyond 104 days.
            return first;
        }
        let wait = nearest(first.0 as f64 * self.growth).min(policy.max_wait_interval);
        self.growth *= policy.backoff_factor;
        wait
    }
}

/// Returns a wait with jitter, and the state after it. Not inlined, to keep waits without jitter fast.
#[inline(never)]
fn jittered(policy: &RetryPolicy, first: Nanos, jitter: Jitter, growth: f64, random: u64) -> (Nanos, f64) {
    if jitter == Jitter::Decorrelated {
        let (shortest, longest) = decorrelated(policy, first, growth);
        let wait = pick(shortest, longest, random);
        return (wait, wait.0 as f64);
    }
    let mut backoff = Backoff { growth };
    let (shortest, longest) = jitter.range(backoff.grow(policy, first));
    (pick(shortest, longest, random), backoff.growth)
}

/// Returns the first wait, without jitter.
#[inline]
pub(crate) fn first(policy: &RetryPolicy) -> Nanos {
    policy.interval.min(policy.max_wait_interval)
}

/// Returns the first wait after an attempt that the server throttled, without jitter.
#[inline]
pub(crate) fn first_throttled(policy: &RetryPolicy) -> Nanos {
    policy.interval.max(policy.throttled_interval).min(policy.max_wait_interval)
}

/// Returns the shortest and the longest wait with decorrelated jitter after a wait of `last`, which counts as at least the
/// first one.
#[inline]
fn decorrelated(policy: &RetryPolicy, first: Nanos, last: f64) -> (Nanos, Nanos) {
    let longest = nearest(last.max(first.0 as f64) * DECORRELATED_GROWTH).min(policy.max_wait_interval);
    (first.min(longest), longest)
}

/// Rounds to whole nanoseconds; the cast saturates. NaN, which is zero times infinity, is zero.
#[inline]
fn nearest(nanos: f64) -> Nanos {
    Nanos((nanos + 0.5) as u64)
}

/// The waits before each retry, in order and without jitter. Created by [`RetryPolicy::waits`]. Those after throttled
/// attempts may be longer.
///
/// Yields exactly [`RetryPolicy::count`] waits. Each wait is the one before times the factor, and all of them are
/// capped, the first included: 3, 6, 12, 20 and 20 seconds for the sample's policy with a count of 5.
#[derive(Clone, Debug)]
pub struct Waits {
    policy: RetryPolicy,
    backoff: Backoff,
    left: u32,
}

impl RetryPolicy {
    /// Returns the waits before each retry, in order and without jitter.
    #[must_use]
    pub fn waits(&self) -> Waits {
        Waits { policy: *self, backoff: Backoff::new(self), left: self.count }
    }
}

impl Iterator for Waits {
    type Item = Duration;

    #[inline]
    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        Some(self.backoff.grow(&self.policy, first(&self.policy)).get())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Waits {}
impl FusedIterator for Waits {}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(count: u32, interval: f64, factor: f64, cap: Option<f64>, jitter: Jitter) -> RetryPolicy {
        let builder = RetryPolicy::builder()
            .count(count)
            .interval(Duration::from_secs_f64(interval))
            .backoff_factor(factor)
            .jitter(jitter);
        match cap {
            Some(cap) => builder.max_wait_interval(Duration::from_secs_f64(cap)),
            None => builder,
        }
        .build()
        .unwrap()
    }

    fn waits_with_random(policy: &RetryPolicy, random: u64) -> Vec<f64> {
        let mut backoff = Backoff::new(policy);
        (0..policy.count).map(|_| backoff.advance(policy, first(policy), || random).get().as_secs_f64()).collect()
    }

    #[test]
    fn waits_without_jitter() {
        let check = |count, interval, factor, cap, expected: &[f64]| {
            let waits: Vec<_> = policy(count, interval, factor, cap, Jitter::None).waits().collect();
            let expected: Vec<_> = expected.iter().copied().map(Duration::from_secs_f64).collect();
            assert_eq!(waits, expected, "count {count}, interval {interval}, factor {factor}, cap {cap:?}");
        };
        check(3, 3.0, 2.0, Some(20.0), &[3.0, 6.0, 12.0]); // the sample
        check(3, 3.0, 0.5, None, &[3.0, 1.5, 0.75]); // Ballerina's own test
        check(5, 3.0, 2.0, Some(20.0), &[3.0, 6.0, 12.0, 20.0, 20.0]); // the sample with more retries
        check(3, 30.0, 2.0, Some(20.0), &[20.0, 20.0, 20.0]); // the first wait is capped, too
        check(4, 0.1, 1.1, None, &[0.1, 0.11, 0.121, 0.1331]);
        check(3, 0.0, 2.0, None, &[0.0, 0.0, 0.0]);
        check(3, 0.0, f64::MAX, None, &[0.0, 0.0, 0.0]);
        check(3, 30.0, 0.5, Some(20.0), &[20.0, 10.0, 5.0]);
        check(3, 2.0, 1.0, None, &[2.0, 2.0, 2.0]);
        check(0, 3.0, 2.0, None, &[]);
    }

    #[test]
    fn ballerina_retry_test_6_interval_3_factor_half() {
        let waits: Vec<_> = policy(3, 3.0, 0.5, None, Jitter::None).waits().map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [3000, 1500, 750]);
    }

    #[test]
    fn late_waits_stay_at_the_cap() {
        let waits: Vec<_> = policy(129, 1.0, 2.0, Some(300.0), Jitter::None).waits().collect();
        assert_eq!((waits[63], waits[128]), (300 * SECOND, 300 * SECOND));
    }

    #[test]
    fn shortest_and_longest_waits_with_jitter() {
        let check = |jitter, shortest: &[f64], longest: &[f64]| {
            let policy = policy(3, 1.0, 2.0, Some(3.0), jitter);
            assert_eq!(waits_with_random(&policy, 0), shortest, "{jitter:?}, shortest");
            assert_eq!(waits_with_random(&policy, u64::MAX), longest, "{jitter:?}, longest");
        };
        check(Jitter::None, &[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0]);
        check(Jitter::Full, &[0.0, 0.0, 0.0], &[1.0, 2.0, 3.0]);
        check(Jitter::Equal, &[0.5, 1.0, 1.5], &[1.0, 2.0, 3.0]);
        check(Jitter::Decorrelated, &[1.0, 1.0, 1.0], &[3.0, 3.0, 3.0]);
    }

    #[test]
    fn full_jitter_of_a_constant_wait() {
        let policy = policy(1, 1.0, 1.0, None, Jitter::Full);
        assert_eq!(waits_with_random(&policy, 0), [0.0]);
        assert_eq!(waits_with_random(&policy, u64::MAX / 2), [0.5]);
        assert_eq!(waits_with_random(&policy, u64::MAX), [1.0]);
    }

    #[test]
    fn decorrelated_jitter_grows_by_three_up_to_the_cap() {
        let policy = policy(4, 1.0, 2.0, Some(20.0), Jitter::Decorrelated);
        assert_eq!(waits_with_random(&policy, u64::MAX), [3.0, 9.0, 20.0, 20.0]);
        let low = self::policy(2, 30.0, 2.0, Some(20.0), Jitter::Decorrelated);
        assert_eq!(waits_with_random(&low, 0), [20.0, 20.0], "an interval above the cap");
    }

    #[test]
    fn waits_after_a_throttled_attempt_start_at_an_interval_of_their_own() {
        let check = |interval, throttled, jitter, random: u64, expected: [f64; 4]| {
            let policy = policy(4, interval, 2.0, Some(20.0), jitter).to_builder();
            let policy = policy.throttled_interval(Duration::from_secs_f64(throttled)).build().unwrap();
            let mut backoff = Backoff::new(&policy);
            let mut next = |first| backoff.advance(&policy, first, || random).get().as_secs_f64();
            let waits = [first, first_throttled, first_throttled, first].map(|first| next(first(&policy)));
            assert_eq!(waits, expected, "{interval} {throttled} {jitter:?}");
        };
        check(0.05, 1.0, Jitter::None, 0, [0.05, 2.0, 4.0, 0.4]);
        check(0.05, 10.0, Jitter::None, 0, [0.05, 20.0, 20.0, 0.4]); // the cap
        check(3.0, 1.0, Jitter::None, 0, [3.0, 6.0, 12.0, 20.0]); // never shorter than the interval
        check(0.05, 0.0, Jitter::None, 0, [0.05, 0.1, 0.2, 0.4]);
        check(0.0, 1.0, Jitter::None, 0, [0.0, 2.0, 4.0, 0.0]); // the growth does not depend on the interval
        check(0.05, 1.0, Jitter::Full, 0, [0.0; 4]);
        check(0.05, 1.0, Jitter::Full, u64::MAX, [0.05, 2.0, 4.0, 0.4]);
        check(0.05, 1.0, Jitter::Equal, 0, [0.025, 1.0, 2.0, 0.2]);
        check(0.05, 1.0, Jitter::Decorrelated, 0, [0.05, 1.0, 1.0, 0.05]);
        check(0.05, 1.0, Jitter::Decorrelated, u64::MAX, [0.15, 3.0, 9.0, 20.0]);
    }

    fn any_policy() -> impl Strategy<Value = RetryPolicy> {
        let time = prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            (any::<u64>(), 0..1_000_000_000_u32).prop_map(|(secs, nanos)| Duration::new(secs, nanos)),
            (0..u64::MAX).prop_map(Duration::from_nanos),
            (0..10_000_u64).prop_map(Duration::from_millis),
        ];
        let factor = prop_oneof![
            Just(f64::MIN_POSITIVE),
            Just(f64::MAX),
            Just(f64::EPSILON),
            Just(1.0),
            0.1..10.0,
            any::<f64>().prop_filter("valid", |factor| factor.is_finite() && *factor > 0.0)
        ];
        let jitter =
            prop_oneof![Just(Jitter::None), Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::Decorrelated)];
        let count = prop_oneof![Just(0), Just(u32::MAX), 0..100_u32];
        (count, time.clone(), factor, time, jitter).prop_map(|(count, interval, factor, cap, jitter)| {
            RetryPolicy::builder()
                .count(count)
                .interval(interval)
                .backoff_factor(factor)
                .max_wait_interval(cap.max(Duration::from_nanos(1)))
                .jitter(jitter)
                .build()
                .unwrap()
        })
    }

    proptest! {
        #[test]
        fn no_wait_is_above_the_cap(policy in any_policy(), randoms in prop::collection::vec(any::<u64>(), 200)) {
            let mut backoff = Backoff::new(&policy);
            for random in randoms {
                for first in [first(&policy), first_throttled(&policy)] {
                    prop_assert!(backoff.advance(&policy, first, || random).get() <= policy.max_wait_interval());
                }
            }
            prop_assert!(policy.waits().take(200).all(|wait| wait <= policy.max_wait_interval()));
        }

        #[test]
        fn there_are_as_many_waits_as_retries(policy in any_policy()) {
            let mut waits = policy.waits();
            prop_assert_eq!(waits.len(), policy.count() as usize);
            let taken = waits.by_ref().take(1000).count();
            prop_assert_eq!(taken, 1000.min(policy.count() as usize));
            prop_assert_eq!(waits.len(), policy.count() as usize - taken);
            if policy.count() <= 1000 {
                prop_assert_eq!((waits.next(), waits.next()), (None, None));
            }
        }

        #[test]
        fn jitter_stays_in_its_range(policy in any_policy(), random in any::<u64>()) {
            let wait = policy.waits().next().unwrap_or_default();
            let got = Backoff::new(&policy).advance(&policy, first(&policy), || random).get();
            match policy.jitter() {
                _ if policy.count() == 0 => {}
                Jitter::None => prop_assert_eq!(got, wait),
                Jitter::Full => prop_assert!(got <= wait),
                Jitter::Equal => prop_assert!(wait / 2 <= got && got <= wait),
                Jitter::Decorrelated => prop_assert!(got >= policy.interval().min(policy.max_wait_interval())),
            }
        }
    }
}

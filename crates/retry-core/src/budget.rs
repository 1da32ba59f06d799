//! A limit on retries that many calls share.
//!
//! A policy bounds what one call may do; only a budget bounds what all of them do together. Without
//! one, a backend that is down gets `count + 1` times its usual load just when it tries to come back.
//! The share form is Finagle's `RetryBudget` (also in linkerd and tower); the token form is the AWS
//! SDKs' "standard" retry mode; the in-flight form is Envoy's `retry_budget`.

use alloc::sync::Arc;
use core::sync::atomic::Ordering::Relaxed;

use portable_atomic::AtomicU64;

use crate::policy::Nanos;

/// What one retry is charged as. As wide as the count it sits beside in a call: padding there would be
/// copied with its neighbours, in pieces that stall the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Cost {
    Nothing,
    Retry,
    Timeout,
}

/// A limit on retries, shared by any number of calls and threads: cloning shares it.
///
/// It is charged before a wait begins, so calls that wait are counted, and a call that finds it empty
/// ends at once with [`Reason::Budget`](crate::Reason::Budget). First attempts are never held back.
/// Lock-free; dropping a call half way loses nothing.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use retry_core::{Reason, Retry, RetryBudget, RetryPolicy};
///
/// let budget = RetryBudget::share(0.2, 1)?; // one retry per five calls, and one per second
/// let retry = Retry::new(RetryPolicy::builder().interval(Duration::ZERO).build()?).budget(budget.clone());
///
/// let failed = retry.run(|_| async { Err::<(), _>("down") }).await.unwrap_err();
/// assert_eq!((failed.reason(), failed.attempts()), (Reason::Budget, 2));
/// assert!(budget.available() < 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct RetryBudget(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Share(ShareBucket),
    Tokens(TokenBucket),
    InFlight(InFlight),
}

impl RetryBudget {
    /// Retries may be a share of calls, plus a floor of so many a second.
    ///
    /// Each call adds `ratio` of a retry (from 0 to 1: 0.2 means one retry per five calls), each second
    /// adds `floor_per_second`, each retry takes one. It starts with one second's floor and saves up
    /// ten seconds' floor at most, or 100 retries if that is more, so that a long calm does not pay for
    /// a storm. The ratio counts in steps of a billionth, so a hundred calls at 0.29 are 29 retries.
    ///
    /// # Errors
    ///
    /// When the ratio is not a number from 0 to 1.
    pub fn share(ratio: f64, floor_per_second: u32) -> Result<Self, BudgetError> {
        Ok(Self(Arc::new(Kind::Share(ShareBucket::new(billionths(ratio)?, floor_per_second)))))
    }

    /// A bucket of tokens: each retry takes `retry_cost`, after a timeout `timeout_cost`; success gives
    /// back what its last retry took, or one token if it took none. It starts full and is never fuller.
    ///
    /// The AWS SDKs use 500, 5 and 10.
    #[must_use]
    pub fn tokens(capacity: u32, retry_cost: u32, timeout_cost: u32) -> Self {
        let [capacity, retry_cost, timeout_cost] = [capacity, retry_cost, timeout_cost].map(u64::from);
        Self(Arc::new(Kind::Tokens(TokenBucket { capacity, retry_cost, timeout_cost, left: AtomicU64::new(capacity) })))
    }

    /// Of the calls in flight at any time, at most `ratio` (0 to 1) may be in retry, or `floor` if that
    /// is more. A call is in retry from its first wait to its end.
    ///
    /// # Errors
    ///
    /// When the ratio is not a number from 0 to 1.
    pub fn in_flight(ratio: f64, floor: u32) -> Result<Self, BudgetError> {
        let ratio = billionths(ratio)?;
        Ok(Self(Arc::new(Kind::InFlight(InFlight { ratio, floor: u64::from(floor), counts: AtomicU64::new(0) }))))
    }

    /// What is left, for metrics: retries (fractions included), or tokens in the token form. The floor
    /// per second is added when a retry is asked for, so it may be a little more.
    #[must_use]
    pub fn available(&self) -> f64 {
        match &*self.0 {
            Kind::Share(bucket) => bucket.left.load(Relaxed) as f64 / WHOLE as f64,
            Kind::Tokens(bucket) => bucket.left.load(Relaxed) as f64,
            Kind::InFlight(flights) => flights.left() as f64,
        }
    }

    /// A call begins.
    pub(crate) fn begin(&self) {
        match &*self.0 {
            Kind::Share(bucket) => bucket.deposit(bucket.ratio),
            Kind::Tokens(_) => {}
            Kind::InFlight(flights) => flights.begin(),
        }
    }

    /// A call asks for a retry; `again` when it has had one before.
    pub(crate) fn withdraw(&self, cost: Cost, again: bool, now: Nanos) -> bool {
        match &*self.0 {
            Kind::Share(bucket) => bucket.withdraw(now),
            Kind::Tokens(bucket) => take(&bucket.left, bucket.price(cost)),
            Kind::InFlight(flights) => flights.retry(again),
        }
    }

    /// A call succeeded; `spent` is what its last retry was charged as.
    pub(crate) fn refund(&self, spent: Cost) {
        if let Kind::Tokens(bucket) = &*self.0 {
            give(&bucket.left, bucket.price(spent), bucket.capacity);
        }
    }

    /// A call is over, one way or another.
    pub(crate) fn end(&self, retried: bool) {
        if let Kind::InFlight(flights) = &*self.0 {
            flights.end(retried);
        }
    }
}

/// One retry in the share form's unit. Billionths make the floor exact, too: one retry per second is
/// one unit per nanosecond.
const WHOLE: u64 = 1_000_000_000;

/// A ratio in whole billionths.
fn billionths(ratio: f64) -> Result<u64, BudgetError> {
    // NaN is in no range.
    if !(0.0..=1.0).contains(&ratio) {
        return Err(BudgetError(ratio));
    }
    Ok((ratio * WHOLE as f64 + 0.5) as u64)
}

#[derive(Debug)]
struct ShareBucket {
    ratio: u64,
    floor_per_second: u64,
    capacity: u64,
    left: AtomicU64,
    /// Up to when the floor has been paid in; `NOT_YET` before the first retry.
    paid_until: AtomicU64,
}

/// The start of time, when nothing has happened yet.
const NOT_YET: u64 = 0;
const FLOOR_SECONDS_SAVED: u64 = 10;
const LEAST_CAPACITY: u64 = 100;

impl ShareBucket {
    fn new(ratio: u64, floor_per_second: u32) -> Self {
        let floor_per_second = u64::from(floor_per_second);
        Self {
            ratio,
            floor_per_second,
            capacity: floor_per_second.saturating_mul(FLOOR_SECONDS_SAVED).max(LEAST_CAPACITY).saturating_mul(WHOLE),
            left: AtomicU64::new(floor_per_second * WHOLE),
            paid_until: AtomicU64::new(NOT_YET),
        }
    }

    fn deposit(&self, amount: u64) {
        give(&self.left, amount, self.capacity);
    }

    fn withdraw(&self, now: Nanos) -> bool {
        self.pay_floor(now);
        take(&self.left, WHOLE)
    }

    /// Whoever moves `paid_until` forward pays in for the time between, so no time is paid twice.
    fn pay_floor(&self, now: Nanos) {
        let since = self.paid_until.fetch_max(now.0, Relaxed);
        if since != NOT_YET {
            self.deposit(self.floor_per_second.saturating_mul(now.0.saturating_sub(since)));
        }
    }
}

#[derive(Debug)]
struct TokenBucket {
    capacity: u64,
    retry_cost: u64,
    timeout_cost: u64,
    left: AtomicU64,
}

impl TokenBucket {
    /// What a retry costs, and so what a success after it gives back.
    fn price(&self, cost: Cost) -> u64 {
        match cost {
            Cost::Nothing => 1,
            Cost::Retry => self.retry_cost,
            Cost::Timeout => self.timeout_cost,
        }
    }
}

/// Adds to a bucket, up to its capacity. A full one is only read: threads need not fight over it.
fn give(left: &AtomicU64, amount: u64, capacity: u64) {
    let _ = left
        .fetch_update(Relaxed, Relaxed, |left| (left != capacity).then(|| left.saturating_add(amount).min(capacity)));
}

/// Takes from a bucket, if it holds as much.
fn take(left: &AtomicU64, amount: u64) -> bool {
    left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(amount)).is_ok()
}

/// Both counts in one word, so that each is judged against the other as they are at one moment.
#[derive(Debug)]
struct InFlight {
    ratio: u64,
    floor: u64,
    /// Calls in flight in the low half, those of them in retry in the high half.
    counts: AtomicU64,
}

const ONE_ACTIVE: u64 = 1;
const ONE_RETRYING: u64 = 1 << 32;

impl InFlight {
    fn begin(&self) {
        self.counts.fetch_add(ONE_ACTIVE, Relaxed);
    }

    fn end(&self, retried: bool) {
        self.counts.fetch_sub(ONE_ACTIVE + if retried { ONE_RETRYING } else { 0 }, Relaxed);
    }

    /// A call that is in retry already keeps its place, if there is still one for it.
    fn retry(&self, again: bool) -> bool {
        let place = if again { 0 } else { ONE_RETRYING };
        let enter = |counts| {
            let after = counts + place;
            (after / ONE_RETRYING <= self.limit(after)).then_some(after)
        };
        self.counts.fetch_update(Relaxed, Relaxed, enter).is_ok()
    }

    fn limit(&self, counts: u64) -> u64 {
        let active = counts % ONE_RETRYING;
        // Below 2^32 calls times a billionth ratio of at most 10^9: no overflow.
        (active * self.ratio / WHOLE).max(self.floor)
    }

    fn left(&self) -> u64 {
        let counts = self.counts.load(Relaxed);
        self.limit(counts).saturating_sub(counts / ONE_RETRYING)
    }
}

/// The ratio of a budget was refused. Its message names the value and what is allowed.
///
/// ```
/// use retry_core::RetryBudget;
///
/// let refused = RetryBudget::share(20.0, 10).unwrap_err();
/// assert_eq!(refused.to_string(), "budget ratio is 20: expected a number from 0 to 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("budget ratio is {0}: expected a number from 0 to 1")]
pub struct BudgetError(f64);

#[cfg(test)]
mod tests {
    use std::{thread, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn withdraws(budget: &RetryBudget, now: u64) -> bool {
        budget.withdraw(Cost::Retry, false, Nanos(now))
    }

    /// How many retries in a row a share budget grants after so many calls, all at one moment.
    fn granted(ratio: f64, floor: u32, calls: u32) -> usize {
        let budget = RetryBudget::share(ratio, floor).unwrap();
        (0..calls).for_each(|_| budget.begin());
        (0..10_000).take_while(|_| withdraws(&budget, 0)).count()
    }

    #[test]
    fn shares_are_exact() {
        let check = |ratio, floor, calls, expected| assert_eq!(granted(ratio, floor, calls), expected, "{ratio}");
        check(0.0, 0, 1000, 0);
        check(0.2, 0, 4, 0);
        check(0.2, 0, 5, 1);
        check(0.2, 0, 100, 20);
        check(0.29, 0, 100, 29);
        check(0.1, 0, 10, 1);
        check(0.99, 0, 100, 99);
        check(1.0, 0, 100, 100);
        check(1e-9, 0, 1000, 0);
        check(1.0 / 3.0, 0, 3, 0); // a third is a little more than 0.333333333
        check(0.0, 3, 1000, 3);
        check(0.2, 10, 5, 11);
        check(1.0, 0, 1000, 100); // no more than is saved
        check(0.0, 4_000_000_000, 0, 10_000);
    }

    #[test]
    fn the_floor_is_paid_by_the_second_and_saved_up_to_a_limit() {
        let budget = RetryBudget::share(0.0, 2).unwrap();
        let granted = |now| (0..1000).take_while(|_| withdraws(&budget, now)).count();
        assert_eq!(granted(7 * SECOND), 2, "one second's worth at the start, however late that is");
        assert_eq!(granted(7 * SECOND + SECOND / 2 - 1), 0);
        assert_eq!(granted(7 * SECOND + SECOND / 2), 1);
        assert_eq!(granted(6 * SECOND), 0, "time does not run backwards");
        assert_eq!(granted(8 * SECOND), 1);
        assert_eq!(granted(10_000 * SECOND), 100);
        assert_eq!(granted(u64::MAX - 1), 100);
    }

    #[test]
    fn tokens_are_never_more_than_the_capacity() {
        let budget = RetryBudget::tokens(500, 5, 10);
        budget.refund(Cost::Nothing);
        assert_eq!(budget.available(), 500.0);
        assert!(budget.withdraw(Cost::Timeout, false, Nanos(0)));
        budget.refund(Cost::Nothing);
        assert_eq!(budget.available(), 491.0);
        budget.refund(Cost::Timeout);
        assert_eq!(budget.available(), 500.0);
    }

    #[test]
    fn what_is_left_in_flight_is_the_places_not_taken() {
        let budget = RetryBudget::in_flight(0.2, 3).unwrap();
        (0..20).for_each(|_| budget.begin());
        assert!(withdraws(&budget, 0) && withdraws(&budget, 0));
        assert_eq!(budget.available(), 2.0);
        budget.end(true);
        assert_eq!(budget.available(), 2.0, "one place given back, and one fewer: a fifth of 19 is 3");
    }

    #[test]
    fn a_ratio_outside_0_to_1_is_refused() {
        for ratio in [-0.1, 1.1, 20.0, f64::NAN, f64::INFINITY] {
            assert!(RetryBudget::share(ratio, 0).is_err(), "{ratio}");
            assert!(RetryBudget::in_flight(ratio, 0).is_err(), "{ratio}");
        }
    }

    #[test]
    fn threads_together_get_what_the_arithmetic_allows_and_no_more() {
        let budget = RetryBudget::share(0.25, 8).unwrap();
        let granted: usize = thread::scope(|scope| {
            let work = || {
                (0..100)
                    .map(|_| {
                        budget.begin();
                        withdraws(&budget, 0)
                    })
                    .filter(|granted| *granted)
                    .count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // 400 calls at a quarter, and the floor: whatever was not granted is still there.
        assert_eq!(granted as f64 + budget.available(), 108.0);
    }

    #[test]
    fn threads_never_hold_more_places_in_retry_than_allowed() {
        let budget = RetryBudget::in_flight(0.2, 3).unwrap();
        (0..100).for_each(|_| budget.begin());
        let granted: usize = thread::scope(|scope| {
            let work = || (0..100).filter(|_| withdraws(&budget, 0)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, 20);
    }

    /// The share form in sequential arithmetic of 128 bits.
    struct Model {
        ratio: u128,
        floor: u128,
        capacity: u128,
        left: u128,
        paid_until: u64,
    }

    impl Model {
        fn give(&mut self, amount: u128) {
            self.left = (self.left + amount).min(self.capacity);
        }

        fn withdraw(&mut self, now: u64) -> bool {
            let since = if self.paid_until == 0 { now } else { self.paid_until };
            self.give(self.floor * u128::from(now.saturating_sub(since)));
            self.paid_until = self.paid_until.max(now);
            let grant = self.left >= 1_000_000_000;
            self.left -= if grant { 1_000_000_000 } else { 0 };
            grant
        }
    }

    proptest! {
        #[test]
        fn the_share_form_is_its_model(
            ratio in 0..=1_000_000_000_u64,
            floor in prop_oneof![0..20_u32, any::<u32>()],
            steps in prop::collection::vec((any::<bool>(), 0..3_000_000_000_u64), 0..400),
        ) {
            let budget = RetryBudget::share(ratio as f64 / 1e9, floor).unwrap();
            let floor = u128::from(floor);
            let capacity = ((floor * 10).max(100) * 1_000_000_000).min(u128::from(u64::MAX));
            let mut model =
                Model { ratio: ratio.into(), floor, capacity, left: floor * 1_000_000_000, paid_until: 0 };
            let mut now = 0;
            for (call, later) in steps {
                if call {
                    budget.begin();
                    model.give(model.ratio);
                } else {
                    now += later;
                    prop_assert_eq!(withdraws(&budget, now), model.withdraw(now));
                }
                prop_assert_eq!(budget.available(), model.left as u64 as f64 / 1e9);
            }
        }
    }
}

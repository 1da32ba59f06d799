//! [`RetryBudget`]: a limit on retries, shared by many calls.
//!
//! A policy limits the retries of one call; only a budget limits those of all calls together. Without one, a server that
//! is down receives `count + 1` times its usual load just when it tries to recover. There are three kinds: a share of
//! calls, as in Finagle's `RetryBudget` (also in linkerd and tower); tokens, as in the "standard" retry mode of the AWS
//! SDKs; and calls in flight, as in Envoy's `retry_budget`.

use alloc::sync::Arc;
use core::{sync::atomic::Ordering::Relaxed, time::Duration};

use portable_atomic::AtomicU64;

use crate::nanos::Nanos;

/// Why a retry is charged. As `u32`, it leaves no padding in the state of a call, which would make moving it slower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Cost {
    Nothing,
    Retry,
    Timeout,
    Throttled,
}

/// What a retry costs in a [budget of tokens](RetryBudget::tokens). From a number: the same for all retries.
///
/// ```
/// use std::time::Duration;
/// use retry_core::{RetryBudget, RetryPolicy, Session, TokenCosts, Verdict};
///
/// let budget = RetryBudget::tokens(500, TokenCosts::AWS_2026);
/// let policy = RetryPolicy::default();
/// let mut session = Session::start(&policy, Some(&budget), Duration::ZERO);
/// session.decide(Verdict::Retry, Duration::ZERO, || 0);
/// assert_eq!(budget.available(), 486.0);
/// session.decide(Verdict::RetryThrottled(None), Duration::ZERO, || 0);
/// assert_eq!(budget.available(), 481.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenCosts {
    /// Of a retry after any other failure.
    pub retry: u32,
    /// Of a retry after a timeout ([`Verdict::RetryTimeout`](crate::Verdict::RetryTimeout)).
    pub timeout: u32,
    /// Of a retry after the server asked for fewer requests
    /// ([`Verdict::RetryThrottled`](crate::Verdict::RetryThrottled)).
    pub throttled: u32,
}

impl TokenCosts {
    /// The costs of the AWS SDKs since November 2026: 14, and 5 after throttling. With their capacity of 500, 35 retries
    /// may fail before the budget waits for a success.
    pub const AWS_2026: Self = Self { retry: 14, timeout: 14, throttled: 5 };

    /// The costs of the AWS SDKs before November 2026: 5, and 10 after a timeout. With their capacity of 500, 100 retries
    /// may fail before the budget waits for a success.
    pub const AWS_UNTIL_2026: Self = Self { retry: 5, timeout: 10, throttled: 5 };
}

impl From<u32> for TokenCosts {
    fn from(cost: u32) -> Self {
        Self { retry: cost, timeout: cost, throttled: cost }
    }
}

/// A limit on retries, shared by any number of calls and threads. Clones share the same budget.
///
/// A retry is charged before its wait, so calls in backoff count. A call that cannot pay for a retry ends with
/// [`Reason::Budget`](crate::Reason::Budget). First attempts are free. Lock-free; safe to cancel calls at any point.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// use std::time::Duration;
/// use retry_core::{Reason, Retry, RetryBudget, RetryPolicy};
///
/// let budget = RetryBudget::share(1.0, 0)?; // one retry per call
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
    /// Creates a budget that allows retries for a share of calls, plus a number of retries per second.
    ///
    /// Each call deposits `ratio` of a retry (from 0 to 1: 0.2 allows one retry per five calls), each second deposits
    /// `floor_per_second` retries, and each retry withdraws one. Ratios are stored in billionths, so a hundred calls at
    /// 0.29 allow exactly 29 retries.
    ///
    /// Each second, a tenth of the budget expires. So it holds up to ten seconds' deposits, however long nothing failed: at
    /// 0.2, the calls of two seconds. This is what a restart needs, which fails all calls in flight at once. It starts with
    /// ten seconds' floor, and never holds more than 10,000 retries unless the floor is above 1000.
    ///
    /// In `t` seconds, calls that start at up to `r` per second make at most `(t + 11) × (ratio × r + floor_per_second)`
    /// retries, whatever fails.
    ///
    /// # Errors
    ///
    /// Returns an error if the ratio is not a number from 0 to 1.
    pub fn share(ratio: f64, floor_per_second: u32) -> Result<Self, BudgetError> {
        Ok(Self(Arc::new(Kind::Share(ShareBucket::new(billionths(ratio)?, floor_per_second)))))
    }

    /// Creates a budget of tokens. Each retry withdraws its cost: `tokens(500, 5)` has the same for all, and
    /// [`TokenCosts`] depend on the failure. A successful call returns the cost of its last retry, or one token if it had
    /// none. Starts with `capacity`, its maximum.
    ///
    /// The AWS SDKs use 500 and [`TokenCosts::AWS_2026`].
    #[must_use]
    pub fn tokens(capacity: u32, costs: impl Into<TokenCosts>) -> Self {
        let (capacity, costs) = (u64::from(capacity), costs.into());
        Self(Arc::new(Kind::Tokens(TokenBucket { capacity, costs, available: AtomicU64::new(capacity) })))
    }

    /// Creates a budget that lets at most `ratio` (from 0 to 1) of the calls in flight retry, but no fewer than `floor`.
    /// A call counts as retrying from its first wait to its end.
    ///
    /// # Errors
    ///
    /// Returns an error if the ratio is not a number from 0 to 1.
    pub fn in_flight(ratio: f64, floor: u32) -> Result<Self, BudgetError> {
        let ratio = billionths(ratio)?;
        Ok(Self(Arc::new(Kind::InFlight(InFlight { ratio, floor: u64::from(floor), counts: AtomicU64::new(0) }))))
    }

    /// Returns the retries that are available, fractions included; for a budget of tokens, the tokens. For metrics: a share
    /// is updated when calls start and retry, so without them the number is that of the last one.
    #[must_use]
    pub fn available(&self) -> f64 {
        match &*self.0 {
            Kind::Share(bucket) => bucket.available.load(Relaxed) as f64 / UNIT as f64,
            Kind::Tokens(bucket) => bucket.available.load(Relaxed) as f64,
            Kind::InFlight(flights) => flights.available() as f64,
        }
    }

    /// Charges a retry outside of a [`Session`](crate::Session), such as a second request beside a slow one. `None` if the
    /// budget does not allow it. `now` is the time since the origin of all calls that share the budget.
    #[must_use]
    pub fn charge(&self, now: Duration) -> Option<BudgetCharge> {
        self.withdraw(Cost::Retry, false, Nanos::new(now)).then(|| BudgetCharge(self.clone()))
    }

    pub(crate) fn start_call(&self, now: Nanos) {
        match &*self.0 {
            Kind::Share(bucket) => bucket.start_call(now),
            Kind::Tokens(_) => {}
            Kind::InFlight(flights) => flights.start_call(),
        }
    }

    /// Charges a retry, or returns `false` if the budget does not allow it. `again` is set if the call has retried before.
    pub(crate) fn withdraw(&self, cost: Cost, again: bool, now: Nanos) -> bool {
        match &*self.0 {
            Kind::Share(bucket) => bucket.withdraw(now),
            Kind::Tokens(bucket) => withdraw(&bucket.available, bucket.price(cost)),
            Kind::InFlight(flights) => flights.retry(again),
        }
    }

    /// Returns what a successful call has paid for its last retry.
    pub(crate) fn refund(&self, last: Cost) {
        if let Kind::Tokens(bucket) = &*self.0 {
            deposit(&bucket.available, bucket.price(last), bucket.capacity);
        }
    }

    pub(crate) fn end_call(&self, retried: bool) {
        if let Kind::InFlight(flights) = &*self.0 {
            flights.end_call(retried);
        }
    }
}

/// A retry that was [charged](RetryBudget::charge). It counts as in flight until this is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the retry"]
pub struct BudgetCharge(RetryBudget);

impl Drop for BudgetCharge {
    fn drop(&mut self) {
        if let Kind::InFlight(flights) = &*self.0.0 {
            flights.counts.fetch_sub(ONE_RETRYING, Relaxed);
        }
    }
}

/// One retry, in billionths: a floor of one retry per second is then exactly one unit per nanosecond.
const UNIT: u64 = 1_000_000_000;

/// Returns a ratio in billionths.
fn billionths(ratio: f64) -> Result<u64, BudgetError> {
    // False for NaN, too.
    if !(0.0..=1.0).contains(&ratio) {
        return Err(BudgetError(ratio));
    }
    Ok((ratio * UNIT as f64 + 0.5) as u64)
}

#[derive(Debug)]
struct ShareBucket {
    ratio: u64,
    floor_per_second: u64,
    capacity: u64,
    available: AtomicU64,
    /// The last second whose end is counted in `available`.
    second: AtomicU64,
}

const SECOND: u64 = 1_000_000_000;
/// One part in so many expires each second.
const EXPIRY: u64 = 10;
/// A full bucket is only read, so this also avoids contention between threads that start many calls per second.
const MIN_CAPACITY: u64 = 10_000;
/// Enough to let any content expire.
const MAX_SECONDS: u64 = 500;

impl ShareBucket {
    fn new(ratio: u64, floor_per_second: u32) -> Self {
        let floor_per_second = u64::from(floor_per_second) * UNIT;
        // What the floor amounts to without calls, so it does not matter when the first call starts.
        let start = floor_per_second.saturating_mul(EXPIRY);
        Self {
            ratio,
            floor_per_second,
            capacity: start.max(MIN_CAPACITY * UNIT),
            available: AtomicU64::new(start),
            second: AtomicU64::new(0),
        }
    }

    fn start_call(&self, now: Nanos) {
        self.end_seconds(now);
        deposit(&self.available, self.ratio, self.capacity);
    }

    fn withdraw(&self, now: Nanos) -> bool {
        self.end_seconds(now);
        withdraw(&self.available, UNIT)
    }

    /// Accounts for the seconds that have ended.
    fn end_seconds(&self, now: Nanos) {
        let second = now.0 / SECOND;
        let last = self.second.load(Relaxed);
        // If several threads notice the end of a second, one of them succeeds.
        if second > last && self.second.compare_exchange(last, second, Relaxed, Relaxed).is_ok() {
            let seconds = (second - last).min(MAX_SECONDS);
            let end_all = |available| (0..seconds).fold(available, |available, _| self.end_second(available));
            let _ = self.available.fetch_update(Relaxed, Relaxed, |available| Some(end_all(available)));
        }
    }

    /// Lets a tenth expire, and deposits the floor.
    fn end_second(&self, available: u64) -> u64 {
        (available - available / EXPIRY).saturating_add(self.floor_per_second).min(self.capacity)
    }
}

#[derive(Debug)]
struct TokenBucket {
    capacity: u64,
    costs: TokenCosts,
    available: AtomicU64,
}

impl TokenBucket {
    /// Returns the tokens that a retry withdraws, and that a success after it deposits.
    fn price(&self, cost: Cost) -> u64 {
        let TokenCosts { retry, timeout, throttled } = self.costs;
        u64::from(match cost {
            Cost::Nothing => 1,
            Cost::Retry => retry,
            Cost::Timeout => timeout,
            Cost::Throttled => throttled,
        })
    }
}

/// Deposits into a bucket, up to its capacity. A full bucket is only read, to avoid contention between threads.
fn deposit(available: &AtomicU64, amount: u64, capacity: u64) {
    let add = |available: u64| (available != capacity).then(|| available.saturating_add(amount).min(capacity));
    let _ = available.fetch_update(Relaxed, Relaxed, add);
}

/// Withdraws from a bucket, or returns `false` if it holds less.
fn withdraw(available: &AtomicU64, amount: u64) -> bool {
    available.fetch_update(Relaxed, Relaxed, |available| available.checked_sub(amount)).is_ok()
}

/// Both counts are in one word, so that they are updated together.
#[derive(Debug)]
struct InFlight {
    ratio: u64,
    floor: u64,
    /// Calls in flight in the low half, calls that retry in the high half.
    counts: AtomicU64,
}

const ONE_ACTIVE: u64 = 1;
const ONE_RETRYING: u64 = 1 << 32;

impl InFlight {
    fn start_call(&self) {
        self.counts.fetch_add(ONE_ACTIVE, Relaxed);
    }

    fn end_call(&self, retried: bool) {
        self.counts.fetch_sub(ONE_ACTIVE + if retried { ONE_RETRYING } else { 0 }, Relaxed);
    }

    /// Counts a call that retries, unless it is counted already. Returns `false` if too many calls retry.
    fn retry(&self, again: bool) -> bool {
        let added = if again { 0 } else { ONE_RETRYING };
        let count = |counts| {
            let counts = counts + added;
            (counts / ONE_RETRYING <= self.limit(counts)).then_some(counts)
        };
        self.counts.fetch_update(Relaxed, Relaxed, count).is_ok()
    }

    fn limit(&self, counts: u64) -> u64 {
        let active = counts % ONE_RETRYING;
        // No overflow: fewer than 2^32 calls times at most 10^9 billionths.
        (active * self.ratio / UNIT).max(self.floor)
    }

    fn available(&self) -> u64 {
        let counts = self.counts.load(Relaxed);
        self.limit(counts).saturating_sub(counts / ONE_RETRYING)
    }
}

/// The error of an invalid ratio. The message contains the ratio and what is expected.
///
/// ```
/// use retry_core::RetryBudget;
///
/// let error = RetryBudget::share(20.0, 10).unwrap_err();
/// assert_eq!(error.to_string(), "budget ratio is 20: expected a number from 0 to 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("budget ratio is {0}: expected a number from 0 to 1")]
pub struct BudgetError(f64);

#[cfg(test)]
mod tests {
    use std::{thread, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    fn withdraws(budget: &RetryBudget, now: u64) -> bool {
        budget.withdraw(Cost::Retry, false, Nanos(now))
    }

    /// Returns how many retries in a row a share budget allows after `calls` calls, all at the same time.
    fn granted(ratio: f64, floor: u32, calls: u32) -> usize {
        let budget = RetryBudget::share(ratio, floor).unwrap();
        (0..calls).for_each(|_| budget.start_call(Nanos(0)));
        (0..20_000).take_while(|_| withdraws(&budget, 0)).count()
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
        check(0.0, 3, 1000, 30); // ten seconds' floor
        check(0.2, 10, 5, 101);
        check(1.0, 0, 15_000, 10_000); // the capacity
        check(0.0, 1_500, 0, 15_000); // ten seconds' floor is above it
        check(0.0, u32::MAX, 1, 20_000);
    }

    #[test]
    fn each_second_deposits_the_floor_and_lets_a_tenth_expire() {
        let budget = RetryBudget::share(0.5, 2).unwrap();
        let mut now = 700 * SECOND;
        let mut check = |seconds: f64, calls: u32, expected: f64| {
            now += (seconds * SECOND as f64) as u64;
            (0..calls).for_each(|_| budget.start_call(Nanos(now)));
            assert_eq!(budget.available(), expected, "{} s", now as f64 / SECOND as f64);
        };
        check(0.0, 0, 20.0); // however late the first call is
        check(0.0, 200, 120.0);
        check(0.9, 2, 121.0); // the second is not over
        check(0.1, 20, 120.9);
        check(1.0, 2, 111.81);
    }

    #[test]
    fn a_busy_budget_holds_ten_seconds_of_deposits_and_a_quiet_one_ten_seconds_of_floor() {
        let budget = RetryBudget::share(0.2, 10).unwrap();
        for second in 1..100 {
            (0..300).for_each(|_| budget.start_call(Nanos(second * SECOND)));
        }
        assert_eq!(budget.available().round(), 700.0);
        let granted = |now| (0..1000).take_while(|_| withdraws(&budget, now)).count();
        assert_eq!(granted(300 * SECOND), 100);
        assert_eq!(granted(299 * SECOND), 0, "time does not run backwards");
        assert_eq!(granted(301 * SECOND), 10);
        assert_eq!(granted(u64::MAX), 100);
    }

    #[test]
    fn tokens_never_exceed_the_capacity() {
        let budget = RetryBudget::tokens(500, TokenCosts::AWS_UNTIL_2026);
        budget.refund(Cost::Nothing);
        assert_eq!(budget.available(), 500.0);
        assert!(budget.withdraw(Cost::Timeout, false, Nanos(0)));
        budget.refund(Cost::Nothing);
        assert_eq!(budget.available(), 491.0);
        budget.refund(Cost::Timeout);
        assert_eq!(budget.available(), 500.0);
    }

    #[test]
    fn a_charge_costs_a_retry_and_is_in_flight_until_it_is_dropped() {
        let check = |budget: RetryBudget, before: f64, charged: f64, after: f64| {
            assert_eq!(budget.available(), before);
            let charge = budget.charge(Duration::ZERO).unwrap();
            assert_eq!(budget.available(), charged, "{budget:?}");
            drop(charge);
            assert_eq!(budget.available(), after, "{budget:?}");
        };
        check(RetryBudget::share(0.2, 1).unwrap(), 10.0, 9.0, 9.0);
        check(RetryBudget::tokens(500, 5), 500.0, 495.0, 495.0);
        check(RetryBudget::in_flight(0.2, 3).unwrap(), 3.0, 2.0, 3.0);
        assert!(RetryBudget::share(0.2, 0).unwrap().charge(Duration::ZERO).is_none());
    }

    #[test]
    fn calls_in_flight_that_may_still_retry_are_available() {
        let budget = RetryBudget::in_flight(0.2, 3).unwrap();
        (0..20).for_each(|_| budget.start_call(Nanos(0)));
        assert!(withdraws(&budget, 0) && withdraws(&budget, 0));
        assert_eq!(budget.available(), 2.0);
        budget.end_call(true);
        assert_eq!(budget.available(), 2.0, "one call fewer retries, and the limit is one lower: a fifth of 19 is 3");
    }

    #[test]
    fn a_ratio_outside_0_to_1_is_an_error() {
        for ratio in [-0.1, 1.1, 20.0, f64::NAN, f64::INFINITY] {
            assert!(RetryBudget::share(ratio, 0).is_err(), "{ratio}");
            assert!(RetryBudget::in_flight(ratio, 0).is_err(), "{ratio}");
        }
    }

    #[test]
    fn concurrent_retries_from_a_share_add_up() {
        let budget = RetryBudget::share(0.25, 8).unwrap();
        let granted: usize = thread::scope(|scope| {
            let work = || {
                (0..100)
                    .map(|_| {
                        budget.start_call(Nanos(0));
                        withdraws(&budget, 0)
                    })
                    .filter(|granted| *granted)
                    .count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // A quarter of 400 calls, and ten seconds' floor.
        assert_eq!(granted as f64 + budget.available(), 180.0);
    }

    #[test]
    fn concurrent_retries_in_flight_never_exceed_the_limit() {
        let budget = RetryBudget::in_flight(0.2, 3).unwrap();
        (0..100).for_each(|_| budget.start_call(Nanos(0)));
        let granted: usize = thread::scope(|scope| {
            let work = || (0..100).filter(|_| withdraws(&budget, 0)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, 20);
    }

    /// A share budget in sequential 128-bit arithmetic.
    struct Model {
        ratio: u128,
        floor: u128,
        capacity: u128,
        available: u128,
        second: u64,
    }

    impl Model {
        fn new(ratio: u64, floor: u32) -> Self {
            let floor = u128::from(floor) * 1_000_000_000;
            let capacity = (floor * 10).clamp(10_000_000_000_000, u128::from(u64::MAX));
            Self { ratio: ratio.into(), floor, capacity, available: (floor * 10).min(capacity), second: 0 }
        }

        fn advance(&mut self, now: u64) {
            while self.second < now / 1_000_000_000 {
                self.second += 1;
                self.available -= self.available / 10;
                self.deposit(self.floor);
            }
        }

        fn deposit(&mut self, amount: u128) {
            self.available = (self.available + amount).min(self.capacity);
        }

        fn start_call(&mut self, now: u64) {
            self.advance(now);
            self.deposit(self.ratio);
        }

        fn withdraw(&mut self, now: u64) -> bool {
            self.advance(now);
            let grant = self.available >= 1_000_000_000;
            self.available -= if grant { 1_000_000_000 } else { 0 };
            grant
        }
    }

    proptest! {
        /// However calls fail and end, the tokens are those of a plain sum between 0 and the capacity.
        #[test]
        fn tokens_add_up(
            capacity in 0..1000_u32,
            costs in any::<[u32; 3]>().prop_map(|costs| costs.map(|cost| cost % 50)),
            steps in prop::collection::vec((0..4_usize, any::<bool>()), 0..400),
        ) {
            let [retry, timeout, throttled] = costs;
            let budget = RetryBudget::tokens(capacity, TokenCosts { retry, timeout, throttled });
            let kinds = [(Cost::Nothing, 1), (Cost::Retry, retry), (Cost::Timeout, timeout), (Cost::Throttled, throttled)];
            let mut left = capacity;
            for (kind, ends) in steps {
                let (cost, tokens) = kinds[kind];
                if ends {
                    budget.refund(cost);
                    left = (left + tokens).min(capacity);
                } else if cost != Cost::Nothing {
                    let granted = budget.withdraw(cost, false, Nanos(0));
                    prop_assert_eq!(granted, tokens <= left);
                    left -= if granted { tokens } else { 0 };
                }
                prop_assert_eq!(budget.available(), f64::from(left));
            }
        }

        #[test]
        fn a_share_budget_behaves_like_its_model(
            ratio in 0..=1_000_000_000_u64,
            floor in prop_oneof![0..20_u32, any::<u32>()],
            steps in prop::collection::vec((any::<bool>(), 0..3_000_000_000_u64), 0..400),
        ) {
            let budget = RetryBudget::share(ratio as f64 / 1e9, floor).unwrap();
            let mut model = Model::new(ratio, floor);
            let mut now = 0;
            for (call, later) in steps {
                now += later;
                if call {
                    budget.start_call(Nanos(now));
                    model.start_call(now);
                } else {
                    prop_assert_eq!(withdraws(&budget, now), model.withdraw(now));
                }
                prop_assert_eq!(budget.available(), model.available as u64 as f64 / 1e9);
            }
        }

        /// Whatever fails, and however the calls are spread over each second.
        #[test]
        fn the_retries_of_any_window_are_bounded(
            ratio in 0.0..=1.0,
            floor in 0..20_u32,
            max_calls in 1..100_u32,
            seconds in prop::collection::vec((0.0..=1.0, 0..300_usize, 0..SECOND), 1..60),
        ) {
            let budget = RetryBudget::share(ratio, floor).unwrap();
            let mut retries = Vec::new();
            for (second, (busy, wanted, offset)) in (0..).zip(seconds) {
                let now = second * SECOND + offset;
                let calls = (busy * f64::from(max_calls)) as u32;
                let (before, after) = (calls / 2, calls.div_ceil(2));
                (0..before).for_each(|_| budget.start_call(Nanos(now)));
                retries.push((0..wanted).filter(|_| withdraws(&budget, now)).count());
                (0..after).for_each(|_| budget.start_call(Nanos(now)));
            }
            for start in 0..retries.len() {
                for end in start + 1..=retries.len() {
                    let made: usize = retries[start..end].iter().sum();
                    let limit = (end - start + 10) as f64 * (ratio * f64::from(max_calls) + f64::from(floor));
                    // The ratio is rounded to billionths.
                    prop_assert!(made as f64 <= limit + 1e-3, "{made} retries from {start} to {end} s, above {limit}");
                }
            }
        }
    }
}

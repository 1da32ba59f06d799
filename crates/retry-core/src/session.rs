//! [`Session`]: decides after each attempt whether, and when, another one follows. All rules about retries are here.

use core::{borrow::Borrow, time::Duration};

use crate::{
    backoff::{self, Backoff},
    budget::{Cost, RetryBudget},
    cold_path::cold_path,
    deadline::Deadline,
    nanos::Nanos,
    policy::RetryPolicy,
    reason::Reason,
    verdict::Verdict,
};

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Wait this long, then make another attempt. The wait may be zero.
    Wait(Duration),
    /// End the call with the last outcome.
    Finish(Reason),
}

/// The state machine of one call. Reads no clock, draws no random numbers and performs no IO.
///
/// [`start`](Self::start) a session per call and make an attempt. Pass its verdict to [`decide`](Self::decide). On
/// [`Decision::Wait`], drop the failed outcome, wait, and make another attempt; on [`Decision::Finish`], stop.
///
/// `now` is the time since an origin of the caller's choice, the same for all calls that share a budget. `random`
/// returns 64 uniformly distributed bits; it is called only if the policy has jitter.
///
/// [`Retry`](crate::Retry) drives a session for async code. To drive one by hand:
///
/// ```
/// use std::{thread, time::{Duration, Instant}};
/// use retry_core::{Decision, RetryPolicy, Session, Verdict};
///
/// let policy = RetryPolicy::builder().interval(Duration::from_millis(1)).build()?;
/// let origin = Instant::now();
/// let mut session = Session::start(&policy, None, origin.elapsed());
/// let outcome = loop {
///     let outcome = if session.attempt() < 3 { Err("busy") } else { Ok("done") };
///     let verdict = if outcome.is_ok() { Verdict::Accept } else { Verdict::Retry };
///     match session.decide(verdict, origin.elapsed(), || 4) {
///         Decision::Wait(wait) => thread::sleep(wait),
///         Decision::Finish(_reason) => break outcome,
///     }
/// };
/// assert_eq!(outcome, Ok("done"));
/// # Ok::<(), retry_core::PolicyError>(())
/// ```
#[derive(Debug)]
pub struct Session<'a> {
    policy: &'a RetryPolicy,
    progress: Progress<&'a RetryBudget>,
}

impl<'a> Session<'a> {
    /// Starts a call at `now`.
    #[must_use]
    pub fn start(policy: &'a RetryPolicy, budget: Option<&'a RetryBudget>, now: Duration) -> Self {
        let mut progress = Progress::new(budget);
        progress.start(Nanos::new(now));
        Self { policy, progress }
    }

    /// Returns the number of the current attempt, starting at 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.progress.attempt()
    }

    /// Returns the time left until the deadline; `None` if the policy has no deadline.
    #[must_use]
    pub fn remaining(&self, now: Duration) -> Option<Duration> {
        self.progress.remaining(self.policy, Nanos::new(now)).map(Nanos::get)
    }

    /// Decides what follows an attempt that ended at `now` with `verdict`.
    pub fn decide(&mut self, verdict: Verdict, now: Duration, random: impl FnOnce() -> u64) -> Decision {
        match self.progress.decide(self.policy, verdict, Nanos::new(now), random) {
            Ok(wait) => Decision::Wait(wait.get()),
            Err(reason) => Decision::Finish(reason),
        }
    }
}

/// A session without its policy, which the executors pass to each method: so they can own it, as they may own the budget.
#[derive(Debug)]
pub(crate) struct Progress<B: Borrow<RetryBudget>> {
    budget: Option<B>,
    /// When the call started.
    pub(crate) start: Nanos,
    backoff: Backoff,
    /// The number of the current attempt, starting at 1.
    attempt: u32,
    /// What the last retry that was charged has cost; `Nothing` if none was.
    last_cost: Cost,
    /// Whether the budget counts the call.
    in_flight: bool,
}

impl<B: Borrow<RetryBudget>> Progress<B> {
    #[inline]
    pub(crate) fn new(budget: Option<B>) -> Self {
        Self {
            budget,
            start: Nanos::ZERO,
            backoff: Backoff::default(),
            attempt: 1,
            last_cost: Cost::Nothing,
            in_flight: false,
        }
    }

    /// Starts the call. Must be called once if there is a deadline or a budget.
    #[inline]
    pub(crate) fn start(&mut self, now: Nanos) {
        if let Some(budget) = self.budget() {
            budget.start_call(now);
            self.in_flight = true;
        }
        self.start = now;
    }

    #[inline]
    fn budget(&self) -> Option<&RetryBudget> {
        self.budget.as_ref().map(Borrow::borrow)
    }

    #[inline]
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    #[inline]
    pub(crate) fn remaining(&self, policy: &RetryPolicy, now: Nanos) -> Option<Nanos> {
        Deadline::new(self.start, policy.deadline).remaining(now)
    }

    /// Returns the wait before the next attempt, or the reason why none follows. `now` may be zero if there is neither
    /// a deadline nor a budget.
    #[inline(always)]
    pub(crate) fn decide(
        &mut self,
        policy: &RetryPolicy,
        verdict: Verdict,
        now: Nanos,
        random: impl FnOnce() -> u64,
    ) -> Result<Nanos, Reason> {
        let (requested, cost) = match verdict {
            Verdict::Accept => {
                if let Some(budget) = self.budget() {
                    cold_path();
                    budget.refund(self.last_cost);
                }
                return Err(Reason::Accepted);
            }
            Verdict::Stop => return Err(Reason::Permanent),
            Verdict::Retry => (None, Cost::Retry),
            Verdict::RetryTimeout => (None, Cost::Timeout),
            Verdict::RetryAfter(wait) => (Some(Nanos::new(wait)), Cost::Retry),
            Verdict::RetryThrottled(wait) => (wait.map(Nanos::new), Cost::Throttled),
            Verdict::RetryUncharged(wait) => (wait.map(Nanos::new), Cost::Nothing),
        };
        let deadline = Deadline::new(self.start, policy.deadline);
        if deadline.has_passed(now) {
            return Err(Reason::Deadline);
        }
        if self.attempt > policy.count {
            return Err(Reason::Exhausted);
        }
        if self.attempt == 1 {
            self.backoff = Backoff::new(policy);
        }
        let first = if cost == Cost::Throttled { backoff::first_throttled(policy) } else { backoff::first(policy) };
        // A requested wait advances the backoff, too, so that the policy's next wait is not shorter than without it.
        let own = self.backoff.advance(policy, first, random);
        if requested.is_some_and(|wait| wait > policy.max_retry_after) {
            return Err(Reason::RetryAfterTooLong);
        }
        let wait = requested.unwrap_or(own);
        if deadline.has_passed(now.saturating_add(wait)) {
            return Err(Reason::Deadline);
        }
        // Last, so that a retry that does not happen is not charged.
        if let Some(budget) = self.budget()
            && cost != Cost::Nothing
        {
            if !budget.withdraw(cost, self.was_charged(), now) {
                return Err(Reason::Budget);
            }
            self.last_cost = cost;
        }
        self.attempt = self.attempt.saturating_add(1);
        Ok(wait)
    }

    /// Ends the call, unless it has ended already.
    #[inline]
    pub(crate) fn end(&mut self) {
        if self.in_flight {
            cold_path();
            self.in_flight = false;
            if let Some(budget) = self.budget() {
                budget.end_call(self.was_charged());
            }
        }
    }

    fn was_charged(&self) -> bool {
        self.last_cost != Cost::Nothing
    }
}

/// Ends the call for its budget, even if it was canceled.
impl<B: Borrow<RetryBudget>> Drop for Progress<B> {
    #[inline]
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::{Jitter, RetryPolicyBuilder, TokenCosts};
    use Decision::{Finish, Wait};

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn sample() -> RetryPolicyBuilder {
        RetryPolicy::BALLERINA.to_builder()
    }

    /// Passes verdicts to a session, each at its time in seconds, and compares the decisions.
    fn check(name: &str, policy: RetryPolicyBuilder, steps: &[(f64, Verdict, Decision)]) {
        let policy = policy.build().unwrap();
        let mut session = Session::start(&policy, None, Duration::ZERO);
        for (number, &(now, verdict, expected)) in steps.iter().enumerate() {
            assert_eq!(session.attempt() as usize, number + 1, "{name}");
            assert_eq!(session.decide(verdict, secs(now), || 0), expected, "{name}, attempt {}", number + 1);
        }
    }

    #[test]
    fn decisions() {
        use Verdict::{Accept, Retry, RetryAfter, RetryThrottled, RetryTimeout, Stop};
        let wait = |seconds| Wait(secs(seconds));
        check("accepted at the first attempt", sample(), &[(0.0, Accept, Finish(Reason::Accepted))]);
        check("stopped at the first attempt", sample(), &[(0.0, Stop, Finish(Reason::Permanent))]);
        check("count 0", sample().count(0), &[(0.0, Retry, Finish(Reason::Exhausted))]);
        check(
            "the sample",
            sample(),
            &[
                (2.0, Retry, wait(3.0)),
                (7.0, RetryTimeout, wait(6.0)),
                (15.0, Retry, wait(12.0)),
                (27.0, Accept, Finish(Reason::Accepted)),
            ],
        );
        check(
            "no wait after the last attempt",
            sample().count(1),
            &[(2.0, Retry, wait(3.0)), (7.0, Retry, Finish(Reason::Exhausted))],
        );
        check(
            "a requested wait replaces the policy's",
            sample(),
            &[(0.0, RetryAfter(secs(1.0)), wait(1.0)), (1.0, Retry, wait(6.0))],
        );
        check("a requested wait may exceed the cap", sample(), &[(0.0, RetryAfter(secs(60.0)), wait(60.0))]);
        check(
            "a requested wait may not exceed max_retry_after",
            sample(),
            &[(0.0, RetryAfter(secs(60.1)), Finish(Reason::RetryAfterTooLong))],
        );
        check(
            "a huge wait does not panic",
            sample().deadline(secs(9.0)).max_retry_after(Duration::MAX),
            &[(0.0, RetryAfter(Duration::MAX), Finish(Reason::Deadline))],
        );
        check(
            "a throttled attempt waits for longer",
            sample().throttled_interval(secs(5.0)),
            &[
                (0.0, RetryThrottled(None), wait(5.0)),
                (5.0, Retry, wait(6.0)),
                (11.0, RetryThrottled(None), wait(20.0)),
            ],
        );
        check(
            "a requested wait replaces that of a throttled attempt, too",
            sample().throttled_interval(secs(5.0)),
            &[
                (0.0, RetryThrottled(Some(secs(1.0))), wait(1.0)),
                (1.0, RetryThrottled(Some(secs(60.1))), Finish(Reason::RetryAfterTooLong)),
            ],
        );
        check("a wait of zero", sample(), &[(0.0, RetryAfter(Duration::ZERO), wait(0.0))]);
        check(
            "a wait that would end at the deadline does not start",
            sample().deadline(secs(5.0)),
            &[(2.0, Retry, Finish(Reason::Deadline))],
        );
        check(
            "a wait that ends just before the deadline starts",
            sample().deadline(secs(5.1)),
            &[(2.0, Retry, wait(3.0)), (5.1, RetryTimeout, Finish(Reason::Deadline))],
        );
        check(
            "the deadline takes precedence over the count",
            sample().count(0).deadline(secs(1.0)),
            &[(1.0, Retry, Finish(Reason::Deadline))],
        );
        check(
            "a success after the deadline is accepted",
            sample().deadline(secs(1.0)),
            &[(2.0, Accept, Finish(Reason::Accepted))],
        );
    }

    #[test]
    fn remaining_is_the_time_until_the_deadline() {
        let policy = sample().interval(Duration::ZERO).deadline(secs(3.0)).build().unwrap();
        let mut session = Session::start(&policy, None, secs(100.0));
        assert_eq!(session.remaining(secs(100.0)), Some(secs(3.0)));
        assert_eq!(session.decide(Verdict::Retry, secs(102.7), || 0), Wait(Duration::ZERO));
        assert_eq!(session.remaining(secs(102.7)), Some(secs(0.3)));
        assert_eq!(session.remaining(secs(109.0)), Some(Duration::ZERO));
    }

    #[test]
    fn tokens_behave_as_in_the_aws_standard_mode() {
        let policy = sample().build().unwrap();
        let check = |costs, steps: &[(Verdict, f64)]| {
            let budget = RetryBudget::tokens(500, costs);
            let mut session = Session::start(&policy, Some(&budget), Duration::ZERO);
            for &(verdict, left) in steps {
                session.decide(verdict, secs(0.0), || 0);
                assert_eq!(budget.available(), left, "{costs:?} {verdict:?}");
            }
        };
        let throttled = Verdict::RetryThrottled(None);
        check(TokenCosts::AWS_2026, &[(Verdict::Retry, 486.0), (throttled, 481.0), (Verdict::Accept, 486.0)]);
        check(TokenCosts::AWS_2026, &[(throttled, 495.0), (Verdict::RetryTimeout, 481.0), (Verdict::Accept, 495.0)]);
        check(TokenCosts::AWS_UNTIL_2026, &[(Verdict::Retry, 495.0), (throttled, 490.0), (Verdict::Accept, 495.0)]);
        check(TokenCosts::AWS_UNTIL_2026, &[(Verdict::RetryTimeout, 490.0), (Verdict::Accept, 500.0)]);
    }

    #[test]
    fn an_uncharged_retry_needs_no_budget() {
        let policy = sample().build().unwrap();
        for budget in [RetryBudget::tokens(0, 5), RetryBudget::in_flight(0.0, 0).unwrap()] {
            let mut session = Session::start(&policy, Some(&budget), Duration::ZERO);
            assert_eq!(session.decide(Verdict::RetryUncharged(None), secs(0.0), || 0), Wait(secs(3.0)));
            assert_eq!(session.decide(Verdict::RetryUncharged(Some(secs(1.0))), secs(3.0), || 0), Wait(secs(1.0)));
            assert_eq!(session.decide(Verdict::Retry, secs(4.0), || 0), Finish(Reason::Budget));
            drop(session);
            assert_eq!(budget.available(), 0.0);
        }
        let budget = RetryBudget::in_flight(0.0, 1).unwrap();
        let mut session = Session::start(&policy, Some(&budget), Duration::ZERO);
        session.decide(Verdict::RetryUncharged(None), secs(0.0), || 0);
        assert_eq!(session.decide(Verdict::Retry, secs(3.0), || 0), Wait(secs(6.0)));
        assert_eq!(session.decide(Verdict::RetryUncharged(None), secs(9.0), || 0), Wait(secs(12.0)));
        assert_eq!(budget.available(), 0.0);
        drop(session);
        assert_eq!(budget.available(), 1.0);
    }

    #[test]
    fn an_empty_budget_allows_one_attempt() {
        let policy = sample().build().unwrap();
        let budget = RetryBudget::tokens(4, 5);
        let mut session = Session::start(&policy, Some(&budget), Duration::ZERO);
        assert_eq!(session.decide(Verdict::Retry, secs(0.0), || 0), Finish(Reason::Budget));
        assert_eq!(budget.available(), 4.0);
    }

    #[test]
    fn a_wait_that_does_not_start_is_not_charged() {
        let budget = RetryBudget::tokens(500, 5);
        let exhausted = sample().count(0).build().unwrap();
        Session::start(&exhausted, Some(&budget), Duration::ZERO).decide(Verdict::Retry, secs(0.0), || 0);
        let late = sample().deadline(secs(1.0)).build().unwrap();
        Session::start(&late, Some(&budget), Duration::ZERO).decide(Verdict::Retry, secs(0.0), || 0);
        assert_eq!(budget.available(), 500.0);
    }

    #[test]
    fn a_call_that_retries_again_counts_once() {
        let policy = sample().build().unwrap();
        let budget = RetryBudget::in_flight(0.0, 1).unwrap();
        let mut session = Session::start(&policy, Some(&budget), Duration::ZERO);
        for wait in [3.0, 6.0, 12.0] {
            assert_eq!(session.decide(Verdict::Retry, secs(0.0), || 0), Wait(secs(wait)));
        }
    }

    #[test]
    fn a_call_counts_as_retrying_until_it_ends() {
        let policy = sample().build().unwrap();
        let budget = RetryBudget::in_flight(0.2, 3).unwrap();
        let mut calls: Vec<_> = (0..20).map(|_| Session::start(&policy, Some(&budget), Duration::ZERO)).collect();
        let count_retrying = |calls: &mut Vec<Session<'_>>| {
            let waits = |call: &mut Session<'_>| matches!(call.decide(Verdict::Retry, secs(0.0), || 0), Wait(_));
            calls.iter_mut().map(waits).filter(|waits| *waits).count()
        };
        assert_eq!(count_retrying(&mut calls), 4, "20 % of 20 active calls");
        calls.drain(..4);
        assert_eq!(count_retrying(&mut calls), 3, "20 % of 16, rounded down, is also the floor of 3");
        calls.clear();
        assert_eq!(budget.available(), 3.0, "dropped calls no longer count");
    }

    proptest! {
        #[test]
        fn no_wait_ends_after_the_deadline_and_the_count_is_exact(
            count in 0..50_u32,
            interval in any::<u64>(),
            factor in 0.01..100.0,
            cap in 1..=u64::MAX,
            deadline in 1..=u64::MAX,
            start in any::<u64>(),
            steps in prop::collection::vec(
                (any::<u64>(), any::<u64>(), prop::option::of(any::<u64>()), any::<bool>()),
                60,
            ),
        ) {
            let policy = RetryPolicy::builder()
                .count(count)
                .interval(Duration::from_nanos(interval))
                .backoff_factor(factor)
                .max_wait_interval(Duration::from_nanos(cap))
                .jitter(Jitter::Full)
                .deadline(Duration::from_nanos(deadline))
                .max_retry_after(Duration::MAX)
                .build()
                .unwrap();
            // A deadline beyond 584 years has no effect.
            let end = start.checked_add(deadline).filter(|end| *end != u64::MAX).map(Duration::from_nanos);
            let start = Duration::from_nanos(start);
            let mut session = Session::start(&policy, None, start);
            let mut now = start;
            for (taken, random, asked, is_throttled) in steps {
                now = now.saturating_add(Duration::from_nanos(taken >> 20));
                let verdict = match asked.map(Duration::from_nanos) {
                    asked if is_throttled => Verdict::RetryThrottled(asked),
                    Some(asked) => Verdict::RetryAfter(asked),
                    None => Verdict::Retry,
                };
                match session.decide(verdict, now, || random) {
                    Wait(wait) => {
                        now += wait;
                        prop_assert!(end.is_none_or(|end| now < end));
                    }
                    Finish(Reason::Exhausted) => {
                        prop_assert_eq!(session.attempt(), count + 1);
                        break;
                    }
                    Finish(_) => break,
                }
                prop_assert!(session.attempt() <= count + 1);
            }
        }
    }
}

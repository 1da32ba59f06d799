//! One call's state machine: the pure step at the heart of the crate. Every rule about retries is here.

use core::time::Duration;

use crate::{
    budget::{Cost, RetryBudget},
    policy::{Nanos, RetryPolicy},
    waits::Backoff,
};

/// What the outcome of one attempt means for the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Done: hand the outcome to the caller.
    Accept,
    /// It failed and may succeed later.
    Retry,
    /// As [`Retry`](Self::Retry), and the failure was that no answer came in time; a
    /// [token budget](RetryBudget::tokens) may charge more for it.
    RetryTimeout,
    /// As [`Retry`](Self::Retry), and the other side said how long to wait. That wait takes the place
    /// of the policy's own, without jitter, up to [`RetryPolicy::max_retry_after`].
    RetryAfter(Duration),
    /// It failed, and another attempt would not help or might do harm.
    Stop,
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Wait this long, then attempt again. Zero means at once.
    Wait(Duration),
    /// The call is over; hand the outcome in hand to the caller.
    Finish(Reason),
}

/// Why a call came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The outcome was accepted.
    Accepted,
    /// The classifier said that another attempt would not help.
    Permanent,
    /// The policy's `count` of retries was used up.
    Exhausted,
    /// The deadline had passed, or the next wait would not have ended before it.
    Deadline,
    /// The other side asked for a wait above [`RetryPolicy::max_retry_after`].
    RetryAfterTooLong,
    /// The shared [`RetryBudget`] had nothing left for this retry.
    Budget,
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Accepted => "accepted",
            Self::Permanent => "the failure is permanent",
            Self::Exhausted => "no retries left",
            Self::Deadline => "the deadline leaves no time for another attempt",
            Self::RetryAfterTooLong => "the server asked for a longer wait than is allowed",
            Self::Budget => "the retry budget is empty",
        })
    }
}

/// One call's state machine.
///
/// The protocol: [`start`](Self::start) one per call; make an attempt; tell [`decide`](Self::decide) the
/// verdict; on [`Decision::Wait`] drop the failed outcome, wait, and attempt again; on
/// [`Decision::Finish`] stop. It reads no clock: `now` is the time since any origin the caller likes,
/// the same one throughout (a budget shared by calls asks for an origin shared by them). It draws no
/// random numbers: `random` is called for 64 even bits, and only when the policy has jitter.
///
/// [`Retry`](crate::Retry) drives it for async code. To drive it by hand:
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
    budget: Option<&'a RetryBudget>,
    progress: Progress,
}

impl<'a> Session<'a> {
    /// Begins a call at `now`. The budget, where there is one, counts the call.
    #[must_use]
    pub fn start(policy: &'a RetryPolicy, budget: Option<&'a RetryBudget>, now: Duration) -> Self {
        let mut progress = Progress::new();
        progress.begin(budget, Nanos::new(now));
        Self { policy, budget, progress }
    }

    /// The number of the attempt under way, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.progress.attempt()
    }

    /// How much of the deadline is left, if the policy has one.
    #[must_use]
    pub fn remaining(&self, now: Duration) -> Option<Duration> {
        self.progress.remaining(self.policy, Nanos::new(now)).map(Nanos::get)
    }

    /// Tells what to do after an attempt that ended at `now` with this verdict.
    pub fn decide(&mut self, verdict: Verdict, now: Duration, random: impl FnOnce() -> u64) -> Decision {
        match self.progress.decide(self.policy, self.budget, verdict, Some(Nanos::new(now)), random) {
            Ok(wait) => Decision::Wait(wait.get()),
            Err(reason) => Decision::Finish(reason),
        }
    }
}

/// Ends the call for its budget, also when the call is dropped half way.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.progress.end(self.budget);
    }
}

/// A session without what it goes by: policy and budget come as arguments, the same ones throughout.
/// So the executor, which may own them, need not borrow from itself.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When the call began; zero where nobody reads the clock.
    pub(crate) begin: Nanos,
    backoff: Backoff,
    retries: u32,
    spent: Cost,
}

impl Progress {
    /// A call that has not begun.
    #[inline]
    pub(crate) const fn new() -> Self {
        Self { begin: Nanos::ZERO, backoff: Backoff::NOT_YET, retries: 0, spent: Cost::Nothing }
    }

    /// The call begins: its deadline counts from now, and the budget counts the call.
    #[inline]
    pub(crate) fn begin(&mut self, budget: Option<&RetryBudget>, now: Nanos) {
        if let Some(budget) = budget {
            budget.begin();
        }
        self.begin = now;
    }

    #[inline]
    pub(crate) fn attempt(&self) -> u32 {
        self.retries.saturating_add(1)
    }

    #[inline]
    pub(crate) fn remaining(&self, policy: &RetryPolicy, now: Nanos) -> Option<Nanos> {
        self.deadline(policy).map(|deadline| deadline.saturating_sub(now))
    }

    /// Computed anew each time: a call that waits should hold no more than it must.
    #[inline]
    fn deadline(&self, policy: &RetryPolicy) -> Option<Nanos> {
        match policy.deadline {
            Nanos::MAX => None,
            deadline => Some(self.begin.saturating_add(deadline)).filter(|deadline| *deadline != Nanos::MAX),
        }
    }

    /// The wait before the next attempt, or why there is none. `now` is none where there is neither a deadline nor a
    /// budget, and so no need to know.
    #[inline]
    pub(crate) fn decide(
        &mut self,
        policy: &RetryPolicy,
        budget: Option<&RetryBudget>,
        verdict: Verdict,
        now: Option<Nanos>,
        random: impl FnOnce() -> u64,
    ) -> Result<Nanos, Reason> {
        let (asked, cost) = match verdict {
            Verdict::Accept => {
                self.refund(budget);
                return Err(Reason::Accepted);
            }
            Verdict::Stop => return Err(Reason::Permanent),
            Verdict::Retry => (None, Cost::Retry),
            Verdict::RetryTimeout => (None, Cost::Timeout),
            Verdict::RetryAfter(wait) => (Some(Nanos::new(wait)), Cost::Retry),
        };
        if self.is_past_deadline(policy, now) {
            return Err(Reason::Deadline);
        }
        if self.retries == policy.count {
            return Err(Reason::Exhausted);
        }
        if self.retries == 0 {
            // Not before: most calls have no use for it.
            self.backoff = Backoff::new(policy);
        }
        // The backoff goes on under a wait that was asked for, so that the next one starts no lower.
        let own = self.backoff.advance(policy, random);
        if asked.is_some_and(|asked| asked > policy.max_retry_after) {
            return Err(Reason::RetryAfterTooLong);
        }
        let wait = asked.unwrap_or(own);
        // A wait that ends right at the deadline leaves nothing to attempt in.
        if self.is_past_deadline(policy, now.map(|now| now.saturating_add(wait))) {
            return Err(Reason::Deadline);
        }
        // Last of the checks, so that only a wait that begins is paid for; and before the wait, so
        // that calls that wait are counted.
        if !self.charge(budget, cost, now) {
            return Err(Reason::Budget);
        }
        self.retries += 1;
        Ok(wait)
    }

    #[inline]
    fn is_past_deadline(&self, policy: &RetryPolicy, now: Option<Nanos>) -> bool {
        now.is_some_and(|now| self.deadline(policy).is_some_and(|deadline| now >= deadline))
    }

    #[inline]
    fn charge(&mut self, budget: Option<&RetryBudget>, cost: Cost, now: Option<Nanos>) -> bool {
        let Some((budget, now)) = budget.zip(now) else { return true };
        let paid = budget.withdraw(cost, self.retries > 0, now);
        if paid {
            self.spent = cost;
        }
        paid
    }

    #[inline]
    fn refund(&self, budget: Option<&RetryBudget>) {
        if let Some(budget) = budget {
            budget.refund(self.spent);
        }
    }

    /// The call is over. Once for each start.
    #[inline]
    pub(crate) fn end(&self, budget: Option<&RetryBudget>) {
        if let Some(budget) = budget {
            budget.end(self.retries > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::{Jitter, RetryPolicyBuilder};
    use Decision::{Finish, Wait};

    fn secs(secs: f64) -> Duration {
        Duration::from_secs_f64(secs)
    }

    fn sample() -> RetryPolicyBuilder {
        RetryPolicy::builder().interval(secs(3.0)).backoff_factor(2.0).max_wait_interval(secs(20.0))
    }

    /// Plays verdicts, each given at its time in seconds, and compares the decisions.
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
        use Verdict::{Accept, Retry, RetryAfter, RetryTimeout, Stop};
        let wait = |seconds| Wait(secs(seconds));
        check("accepted at once", sample(), &[(0.0, Accept, Finish(Reason::Accepted))]);
        check("stopped at once", sample(), &[(0.0, Stop, Finish(Reason::Permanent))]);
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
            "a wait asked for takes the place of one of the policy's",
            sample(),
            &[(0.0, RetryAfter(secs(1.0)), wait(1.0)), (1.0, Retry, wait(6.0))],
        );
        check("a wait asked for may be above the cap", sample(), &[(0.0, RetryAfter(secs(60.0)), wait(60.0))]);
        check("but not above its own", sample(), &[(0.0, RetryAfter(secs(60.1)), Finish(Reason::RetryAfterTooLong))]);
        check(
            "an absurd wait is no panic",
            sample().deadline(secs(9.0)).max_retry_after(Duration::MAX),
            &[(0.0, RetryAfter(Duration::MAX), Finish(Reason::Deadline))],
        );
        check("a wait of zero", sample(), &[(0.0, RetryAfter(Duration::ZERO), wait(0.0))]);
        check(
            "a wait that would end at the deadline does not begin",
            sample().deadline(secs(5.0)),
            &[(2.0, Retry, Finish(Reason::Deadline))],
        );
        check(
            "one that ends just before it does",
            sample().deadline(secs(5.1)),
            &[(2.0, Retry, wait(3.0)), (5.1, RetryTimeout, Finish(Reason::Deadline))],
        );
        check(
            "past the deadline comes before exhausted",
            sample().count(0).deadline(secs(1.0)),
            &[(1.0, Retry, Finish(Reason::Deadline))],
        );
        check(
            "an answer past the deadline is an answer",
            sample().deadline(secs(1.0)),
            &[(2.0, Accept, Finish(Reason::Accepted))],
        );
    }

    #[test]
    fn the_last_attempt_gets_what_the_deadline_leaves() {
        let policy = sample().interval(Duration::ZERO).deadline(secs(3.0)).build().unwrap();
        let mut session = Session::start(&policy, None, secs(100.0));
        assert_eq!(session.remaining(secs(100.0)), Some(secs(3.0)));
        assert_eq!(session.decide(Verdict::Retry, secs(102.7), || 0), Wait(Duration::ZERO));
        assert_eq!(session.remaining(secs(102.7)), Some(secs(0.3)));
        assert_eq!(session.remaining(secs(109.0)), Some(Duration::ZERO));
    }

    #[test]
    fn budget_tokens_as_in_aws_standard_mode() {
        let policy = RetryPolicy::builder().interval(secs(1.0)).backoff_factor(2.0).build().unwrap();
        let budget = RetryBudget::tokens(500, 5, 10);
        let mut session = Session::start(&policy, Some(&budget), Duration::ZERO);
        assert_eq!(session.decide(Verdict::Retry, secs(0.0), || 0), Wait(secs(1.0)));
        assert_eq!(budget.available(), 495.0);
        assert_eq!(session.decide(Verdict::Retry, secs(1.0), || 0), Wait(secs(2.0)));
        assert_eq!(budget.available(), 490.0);
        assert_eq!(session.decide(Verdict::Accept, secs(3.0), || 0), Finish(Reason::Accepted));
        assert_eq!(budget.available(), 495.0);
        let mut session = Session::start(&policy, Some(&budget), secs(4.0));
        session.decide(Verdict::RetryTimeout, secs(4.0), || 0);
        assert_eq!(budget.available(), 485.0, "a timeout costs more");
    }

    #[test]
    fn an_empty_budget_leaves_one_attempt() {
        let policy = sample().build().unwrap();
        let budget = RetryBudget::tokens(4, 5, 10);
        let mut session = Session::start(&policy, Some(&budget), Duration::ZERO);
        assert_eq!(session.decide(Verdict::Retry, secs(0.0), || 0), Finish(Reason::Budget));
        assert_eq!(budget.available(), 4.0);
    }

    #[test]
    fn a_wait_that_does_not_begin_is_not_charged() {
        let budget = RetryBudget::tokens(500, 5, 10);
        let exhausted = sample().count(0).build().unwrap();
        Session::start(&exhausted, Some(&budget), Duration::ZERO).decide(Verdict::Retry, secs(0.0), || 0);
        let late = sample().deadline(secs(1.0)).build().unwrap();
        Session::start(&late, Some(&budget), Duration::ZERO).decide(Verdict::Retry, secs(0.0), || 0);
        assert_eq!(budget.available(), 500.0);
    }

    #[test]
    fn a_call_that_retries_again_keeps_its_place_in_flight() {
        let policy = sample().build().unwrap();
        let budget = RetryBudget::in_flight(0.0, 1).unwrap();
        let mut session = Session::start(&policy, Some(&budget), Duration::ZERO);
        for wait in [3.0, 6.0, 12.0] {
            assert_eq!(session.decide(Verdict::Retry, secs(0.0), || 0), Wait(secs(wait)));
        }
    }

    #[test]
    fn in_flight_budget_counts_calls_that_wait_until_they_end() {
        let policy = sample().build().unwrap();
        let budget = RetryBudget::in_flight(0.2, 3).unwrap();
        let mut calls: Vec<_> = (0..20).map(|_| Session::start(&policy, Some(&budget), Duration::ZERO)).collect();
        let retrying = |calls: &mut Vec<Session<'_>>| {
            let waits = |call: &mut Session<'_>| matches!(call.decide(Verdict::Retry, secs(0.0), || 0), Wait(_));
            calls.iter_mut().map(waits).filter(|waits| *waits).count()
        };
        assert_eq!(retrying(&mut calls), 4, "20 % of 20 active calls");
        calls.drain(..4);
        assert_eq!(retrying(&mut calls), 3, "the floor of 3, above 20 % of 16... rounded down");
        calls.clear();
        assert_eq!(budget.available(), 3.0, "dropped calls give back their places");
    }

    proptest! {
        #[test]
        fn no_wait_passes_the_deadline_and_the_count_is_exact(
            count in 0..50_u32,
            interval in any::<u64>(),
            factor in 0.01..100.0,
            cap in 1..=u64::MAX,
            deadline in 1..=u64::MAX,
            start in any::<u64>(),
            steps in prop::collection::vec((any::<u64>(), any::<u64>(), prop::option::of(any::<u64>())), 60),
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
            // Beyond 584 years there is no deadline.
            let end = start.checked_add(deadline).filter(|end| *end != u64::MAX).map(Duration::from_nanos);
            let start = Duration::from_nanos(start);
            let mut session = Session::start(&policy, None, start);
            let mut now = start;
            for (taken, random, asked) in steps {
                now = now.saturating_add(Duration::from_nanos(taken >> 20));
                let verdict = asked.map_or(Verdict::Retry, |asked| Verdict::RetryAfter(Duration::from_nanos(asked)));
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

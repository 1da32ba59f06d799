//! [`Plan`]: the attempts, waits and worst case of a policy, computed without running it.

use core::{fmt, iter, time::Duration};

use crate::{
    backoff::{Backoff, first},
    deadline::Deadline,
    nanos::Nanos,
    policy::RetryPolicy,
};

/// The attempts and waits of a policy, and the longest time that a call may take.
///
/// Created by [`RetryPolicy::plan`]; its `Display` is a small table. Does not include waits that a server requests, or
/// those after it has throttled ([`Verdict::RetryAfter`](crate::Verdict::RetryAfter) and
/// [`RetryThrottled`](crate::Verdict::RetryThrottled)).
///
/// ```
/// use std::time::Duration;
/// use retry_core::RetryPolicy;
///
/// let plan = RetryPolicy::BALLERINA.plan(Some(Duration::from_secs(2)));
/// assert_eq!(plan.attempts(), 4);
/// assert_eq!(plan.worst_case(), Some(Duration::from_secs(29)));
/// assert_eq!(plan.to_string(), "\
/// attempt    earliest      latest  then waits
///       1          0s          0s  3s
///       2          3s          5s  6s
///       3          9s         13s  12s
///       4         21s         27s
/// at most 4 attempts, done after at most 29s
/// ");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    policy: RetryPolicy,
    attempt_timeout: Option<Nanos>,
}

/// One attempt of a [`Plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The number of the attempt, starting at 1.
    pub attempt: u64,
    /// The earliest start: every attempt before it failed immediately, and every wait was the shortest.
    pub earliest: Duration,
    /// The latest start: every attempt before it took its full time, and every wait was the longest. `None` if attempts
    /// have no timeout.
    pub latest: Option<Duration>,
    /// The shortest and the longest wait after it; `None` after the last attempt.
    pub wait: Option<(Duration, Duration)>,
}

impl RetryPolicy {
    /// Returns the plan of this policy for attempts that take at most `attempt_timeout`; `None` means any time.
    #[must_use]
    pub fn plan(&self, attempt_timeout: Option<Duration>) -> Plan {
        Plan { policy: *self, attempt_timeout: attempt_timeout.map(Nanos::new) }
    }
}

/// How many waits are computed one by one. For the rest, only an upper bound is.
const COMPUTED: u32 = 1 << 16;

/// How many attempts are printed; the rest is summed up.
const PRINTED: u64 = 16;

impl Plan {
    /// Returns the attempts in order, computed one by one.
    pub fn steps(&self) -> impl Iterator<Item = Step> + use<> {
        let Self { policy, attempt_timeout } = *self;
        let mut next = Some(Position::new(&policy, attempt_timeout));
        iter::from_fn(move || {
            let position = next?;
            let (wait, following) = position.next(&policy).unzip();
            next = following;
            Some(Step {
                attempt: u64::from(position.retries) + 1,
                earliest: position.earliest.get(),
                latest: position.latest.map(Nanos::get),
                wait: wait.map(|(shortest, longest)| (shortest.get(), longest.get())),
            })
        })
    }

    /// Returns the maximum number of attempts: `count + 1`, or as many as can start before the deadline. Exact up to
    /// 65,536 retries; `count + 1` beyond.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        let (last, left) = self.last_computed();
        u64::from(last.retries) + 1 + u64::from(left)
    }

    /// Returns the longest time that a call may take, attempts and waits; `None` if there is neither a timeout nor a
    /// deadline. Exact up to 65,536 retries; beyond, an upper bound that takes each wait as the longest.
    #[must_use]
    pub fn worst_case(&self) -> Option<Duration> {
        let deadline = (self.policy.deadline != Nanos::MAX).then_some(self.policy.deadline);
        let Some(timeout) = self.attempt_timeout else { return deadline.map(Nanos::get) };
        let (last, left) = self.last_computed();
        let each = timeout.saturating_add(self.policy.max_wait_interval);
        let rest = Nanos(each.0.saturating_mul(u64::from(left)));
        let end = last.latest.unwrap_or(Nanos::MAX).saturating_add(timeout).saturating_add(rest);
        Some(deadline.map_or(end, |deadline| end.min(deadline)).get())
    }

    /// Returns the last attempt that is computed, and how many may follow it.
    fn last_computed(&self) -> (Position, u32) {
        let mut position = Position::new(&self.policy, self.attempt_timeout);
        for _ in 0..COMPUTED {
            match position.next(&self.policy) {
                Some((_, next)) => position = next,
                None => return (position, 0),
            }
        }
        (position, self.policy.count - position.retries)
    }
}

/// One attempt in the shortest and in the longest course of a call.
#[derive(Clone, Copy, Debug)]
struct Position {
    retries: u32,
    earliest: Nanos,
    latest: Option<Nanos>,
    timeout: Option<Nanos>,
    shortest: Backoff,
    longest: Backoff,
}

impl Position {
    fn new(policy: &RetryPolicy, timeout: Option<Nanos>) -> Self {
        let start = Nanos::ZERO;
        let backoff = Backoff::new(policy);
        Self { retries: 0, earliest: start, latest: Some(start), timeout, shortest: backoff, longest: backoff }
    }

    /// Returns the shortest and the longest wait after this attempt, and the next attempt; `None` after the last.
    fn next(mut self, policy: &RetryPolicy) -> Option<((Nanos, Nanos), Self)> {
        if self.retries == policy.count {
            return None;
        }
        let first = first(policy);
        let shortest = self.shortest.advance(policy, first, || 0);
        let longest = self.longest.advance(policy, first, || u64::MAX);
        self.retries += 1;
        self.earliest = self.earliest.saturating_add(shortest);
        if Deadline::new(Nanos::ZERO, policy.deadline).has_passed(self.earliest) {
            return None;
        }
        let after = |timeout| Some(self.latest?.saturating_add(timeout).saturating_add(longest));
        self.latest = match (self.timeout.and_then(after), policy.deadline) {
            (latest, Nanos::MAX) => latest,
            // No attempt starts after the deadline.
            (latest, deadline) => Some(latest.unwrap_or(deadline).min(deadline)),
        };
        Some(((shortest, longest), self))
    }
}

/// A table of up to 16 attempts, and the worst case.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "attempt    earliest      latest  then waits")?;
        for Step { attempt, earliest, latest, wait } in self.steps().take(PRINTED as usize) {
            write!(f, "{attempt:>7}  {:>10}  ", Time(earliest))?;
            match latest {
                Some(latest) => write!(f, "{:>10}", Time(latest))?,
                None => write!(f, "{:>10}", "any time")?,
            }
            match wait {
                Some((shortest, longest)) if shortest == longest => writeln!(f, "  {}", Time(longest))?,
                Some((shortest, longest)) => writeln!(f, "  {} to {}", Time(shortest), Time(longest))?,
                None => writeln!(f)?,
            }
        }
        let attempts = self.attempts();
        if attempts > PRINTED {
            writeln!(f, "      … and {} more", attempts - PRINTED)?;
        }
        let plural = if attempts == 1 { "" } else { "s" };
        write!(f, "at most {attempts} attempt{plural}")?;
        match self.worst_case() {
            Some(end) => writeln!(f, ", done after at most {}", Time(end)),
            None => writeln!(f, ", without a time limit"),
        }
    }
}

/// Displays a time like the `Debug` of `Duration`, except that zero is `0s` and not `0ns`.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() { f.pad("0s") } else { fmt::Debug::fmt(&self.0, f) }
    }
}

#[cfg(test)]
mod tests {
    use std::{string::ToString, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::{Decision, Jitter, RetryPolicyBuilder, Session, Verdict};

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn sample() -> RetryPolicyBuilder {
        RetryPolicy::BALLERINA.to_builder()
    }

    #[test]
    fn jitter_gives_each_wait_a_range() {
        let check = |jitter, expected: [(u64, u64); 3]| {
            let plan = sample().jitter(jitter).build().unwrap().plan(Some(secs(2)));
            let waits: Vec<_> = plan.steps().filter_map(|step| step.wait).collect();
            let expected = expected.map(|(least, most)| (Duration::from_millis(least), Duration::from_millis(most)));
            assert_eq!(waits, expected, "{jitter:?}");
        };
        check(Jitter::None, [(3000, 3000), (6000, 6000), (12000, 12000)]);
        check(Jitter::Full, [(0, 3000), (0, 6000), (0, 12000)]);
        check(Jitter::Equal, [(1500, 3000), (3000, 6000), (6000, 12000)]);
        check(Jitter::Decorrelated, [(3000, 9000), (3000, 20000), (3000, 20000)]);
    }

    #[test]
    fn a_deadline_bounds_the_attempts_and_the_worst_case() {
        let check = |deadline, timeout, attempts, worst| {
            let plan = sample().count(9).deadline(secs(deadline)).build().unwrap().plan(timeout);
            assert_eq!((plan.attempts(), plan.steps().count() as u64), (attempts, attempts), "{deadline}");
            assert_eq!(plan.worst_case(), Some(secs(worst)));
        };
        check(3, Some(secs(2)), 1, 2);
        check(4, Some(secs(2)), 2, 4);
        check(10, Some(secs(2)), 3, 10);
        check(10, None, 3, 10);
        check(1000, Some(secs(2)), 10, 3 + 6 + 12 + 6 * 20 + 10 * 2);
    }

    #[test]
    fn the_table_shows_unbounded_times_and_omitted_attempts() {
        let open = sample().count(1).jitter(Jitter::Full).build().unwrap().plan(None);
        let expected = "attempt    earliest      latest  then waits\n      1          0s          0s  0s to 3s\n      \
                        2          0s    any time\nat most 2 attempts, without a time limit\n";
        assert_eq!(open.to_string(), expected);
        let long = sample().count(99).build().unwrap().plan(Some(secs(2))).to_string();
        assert_eq!(long.lines().count(), 1 + 16 + 2);
        let just_fits = sample().count(15).build().unwrap().plan(None).to_string();
        assert_eq!(just_fits.lines().count(), 1 + 16 + 1, "{just_fits}");
        assert!(!long.contains(" to "), "{long}");
        assert!(long.contains("      … and 84 more\nat most 100 attempts, done after at most 2141s"), "{long}");
    }

    #[test]
    fn huge_numbers_are_fast() {
        let huge = RetryPolicy::builder()
            .count(u32::MAX)
            .interval(Duration::MAX)
            .max_wait_interval(Duration::MAX)
            .backoff_factor(f64::MAX)
            .jitter(Jitter::None)
            .build()
            .unwrap();
        assert_eq!(huge.plan(Some(Duration::MAX)).attempts(), 1 << 32);
        assert_eq!(huge.plan(Some(Duration::MAX)).worst_case(), Some(Duration::from_nanos(u64::MAX)));
        let bounded = sample().count(u32::MAX).deadline(secs(1_000_000_000)).build().unwrap().plan(None);
        assert_eq!((bounded.attempts(), bounded.worst_case()), (1 << 32, Some(secs(1_000_000_000))));
    }

    #[test]
    fn beyond_the_computed_attempts_each_wait_counts_as_the_longest() {
        let plan = |count| sample().count(count).backoff_factor(1.0).build().unwrap().plan(Some(secs(2)));
        let computed = plan(COMPUTED);
        assert_eq!(computed.attempts(), u64::from(COMPUTED) + 1);
        assert_eq!(computed.worst_case(), Some(secs(u64::from(COMPUTED) * 5 + 2)));
        assert_eq!(plan(COMPUTED + 10).attempts(), u64::from(COMPUTED) + 11);
        assert_eq!(plan(COMPUTED + 10).worst_case(), Some(secs(u64::from(COMPUTED) * 5 + 2 + 10 * 22)));
    }

    proptest! {
        #[test]
        fn a_call_stays_within_its_plan(
            count in 0..40_u32,
            interval in 0..10_000_000_000_u64,
            factor in 0.1..5.0,
            cap in 1..50_000_000_000_u64,
            deadline in prop::option::of(1..100_000_000_000_u64),
            timeout in 0..5_000_000_000_u64,
            jitter in prop_oneof![
                Just(Jitter::None), Just(Jitter::Full), Just(Jitter::Equal), Just(Jitter::Decorrelated)
            ],
            chances in prop::collection::vec((any::<u64>(), 0.0..=1.0), 41),
        ) {
            let nanos = Duration::from_nanos;
            let builder = RetryPolicy::builder()
                .count(count)
                .interval(nanos(interval))
                .backoff_factor(factor)
                .max_wait_interval(nanos(cap))
                .jitter(jitter);
            let policy = deadline.map_or(builder, |deadline| builder.deadline(nanos(deadline))).build().unwrap();
            let plan = policy.plan(Some(nanos(timeout)));
            let steps: Vec<_> = plan.steps().collect();
            prop_assert_eq!(steps.len() as u64, plan.attempts());
            let mut session = Session::start(&policy, None, Duration::ZERO);
            let mut now = Duration::ZERO;
            for (step, (random, part)) in steps.iter().zip(chances) {
                prop_assert!(step.earliest <= now && now <= step.latest.unwrap());
                let taken = nanos((timeout as f64 * part) as u64);
                now += session.remaining(now).map_or(taken, |remaining| remaining.min(taken));
                prop_assert!(now <= plan.worst_case().unwrap());
                let Decision::Wait(wait) = session.decide(Verdict::Retry, now, || random) else { return Ok(()) };
                let (least, most) = step.wait.unwrap();
                prop_assert!(least <= wait && wait <= most);
                now += wait;
            }
            prop_assert!(false, "an attempt beyond the plan");
        }
    }
}

//! What a policy will do: computed, not run.

use core::{fmt, iter, time::Duration};

use crate::{
    policy::{Nanos, RetryPolicy},
    waits::Backoff,
};

/// What a policy will do: its attempts, its waits, and how long a call may take at the most.
///
/// Made by [`RetryPolicy::plan`]. Prints as a small table. Waits that a server asks for
/// ([`Verdict::RetryAfter`](crate::Verdict::RetryAfter)) are not in it: they are the server's plan.
///
/// ```
/// use std::time::Duration;
/// use retry_core::RetryPolicy;
///
/// let plan = RetryPolicy::SAMPLE.plan(Some(Duration::from_secs(2)));
/// assert_eq!(plan.attempts(), 4);
/// assert_eq!(plan.worst_case(), Some(Duration::from_secs(29)));
/// assert_eq!(plan.to_string(), "\
/// attempt    earliest      latest  then waits
///       1          0s          0s  3s
///       2          3s          5s  6s
///       3          9s         13s  12s
///       4         21s         27s
/// at most 4 attempts, over after 29s at the latest
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
    /// The attempt's number, from 1.
    pub attempt: u64,
    /// When it begins at the earliest: each attempt before it failed at once, each wait was the least.
    pub earliest: Duration,
    /// When it begins at the latest: each attempt before it used its time up, each wait was the most.
    /// None where an attempt may take any time.
    pub latest: Option<Duration>,
    /// The least and the most that is waited after it; none after the last.
    pub wait: Option<(Duration, Duration)>,
}

impl RetryPolicy {
    /// What this policy will do, if an attempt takes `attempt_timeout` at the most (none: any time).
    #[must_use]
    pub fn plan(&self, attempt_timeout: Option<Duration>) -> Plan {
        Plan { policy: *self, attempt_timeout: attempt_timeout.map(Nanos::new) }
    }
}

/// How many waits are followed one by one before the rest is bounded as a whole.
const FOLLOWED: u32 = 1 << 16;

/// How many rows are printed before the rest is summed up.
const PRINTED: u64 = 16;

impl Plan {
    /// The attempts, in order: up to [`attempts`](Self::attempts) of them, computed one by one.
    pub fn steps(&self) -> impl Iterator<Item = Step> + use<> {
        let Self { policy, attempt_timeout } = *self;
        let mut next = Some(Walk::new(&policy, attempt_timeout));
        iter::from_fn(move || {
            let walk = next?;
            next = walk.next(&policy);
            let wait = next.map(|_| walk.wait(&policy));
            Some(Step {
                attempt: u64::from(walk.retries) + 1,
                earliest: walk.earliest.get(),
                latest: walk.latest.map(Nanos::get),
                wait: wait.map(|(least, most)| (least.get(), most.get())),
            })
        })
    }

    /// How many attempts a call makes at the most: `count + 1`, or as many as can begin before the
    /// deadline. Exact up to 65,536 retries, `count + 1` beyond.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        let (last, left) = self.follow();
        u64::from(last.retries) + 1 + u64::from(left)
    }

    /// How long a call takes at the most, attempts and waits; none where an attempt may take any time and
    /// there is no deadline. Never exceeded; exact up to 65,536 retries, and beyond each wait counts as
    /// the longest.
    #[must_use]
    pub fn worst_case(&self) -> Option<Duration> {
        let deadline = (self.policy.deadline != Nanos::MAX).then_some(self.policy.deadline);
        let Some(timeout) = self.attempt_timeout else { return deadline.map(Nanos::get) };
        let (last, left) = self.follow();
        let each = timeout.saturating_add(self.policy.max_wait_interval);
        let rest = Nanos(each.0.saturating_mul(u64::from(left)));
        let end = last.latest.unwrap_or(Nanos::MAX).saturating_add(timeout).saturating_add(rest);
        Some(deadline.map_or(end, |deadline| end.min(deadline)).get())
    }

    /// The last attempt that is followed one by one, and how many may come after it.
    fn follow(&self) -> (Walk, u32) {
        let mut walk = Walk::new(&self.policy, self.attempt_timeout);
        for _ in 0..FOLLOWED {
            match walk.next(&self.policy) {
                Some(next) => walk = next,
                None => return (walk, 0),
            }
        }
        (walk, self.policy.count - walk.retries)
    }
}

/// A walk along the attempts: at its least and at its most at once.
#[derive(Clone, Copy, Debug)]
struct Walk {
    retries: u32,
    earliest: Nanos,
    latest: Option<Nanos>,
    timeout: Option<Nanos>,
    least: Backoff,
    most: Backoff,
}

impl Walk {
    fn new(policy: &RetryPolicy, timeout: Option<Nanos>) -> Self {
        let start = Nanos(0);
        let backoff = Backoff::new(policy);
        Self { retries: 0, earliest: start, latest: Some(start), timeout, least: backoff, most: backoff }
    }

    /// The wait after this attempt, at its least and at its most: jitter at either end of its dice.
    fn wait(mut self, policy: &RetryPolicy) -> (Nanos, Nanos) {
        (self.least.advance(policy, || 0), self.most.advance(policy, || u64::MAX))
    }

    /// The next attempt, if there is one.
    fn next(mut self, policy: &RetryPolicy) -> Option<Self> {
        if self.retries == policy.count {
            return None;
        }
        let least = self.least.advance(policy, || 0);
        let most = self.most.advance(policy, || u64::MAX);
        self.retries += 1;
        self.earliest = self.earliest.saturating_add(least);
        if self.earliest >= policy.deadline && policy.deadline != Nanos::MAX {
            return None;
        }
        let after = |timeout| Some(self.latest?.saturating_add(timeout).saturating_add(most));
        self.latest = match (self.timeout.and_then(after), policy.deadline) {
            (latest, Nanos::MAX) => latest,
            // An attempt begins before the deadline or not at all.
            (latest, deadline) => Some(latest.unwrap_or(deadline).min(deadline)),
        };
        Some(self)
    }
}

/// The table, of 16 attempts at the most, and the worst case.
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
                Some((least, most)) if least == most => writeln!(f, "  {}", Time(most))?,
                Some((least, most)) => writeln!(f, "  {} to {}", Time(least), Time(most))?,
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
            Some(end) => writeln!(f, ", over after {} at the latest", Time(end)),
            None => writeln!(f, ", each of which may take any time"),
        }
    }
}

/// A time for people: as `Duration` has it, but for zero, which is not a matter of nanoseconds.
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
        RetryPolicy::builder().interval(secs(3)).backoff_factor(2.0).max_wait_interval(secs(20))
    }

    #[test]
    fn jitter_gives_each_wait_a_least_and_a_most() {
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
    fn the_table_says_what_is_not_bounded_and_what_is_left_out() {
        let open = sample().count(1).jitter(Jitter::Full).build().unwrap().plan(None);
        let expected = "attempt    earliest      latest  then waits\n      1          0s          0s  0s to 3s\n      \
                        2          0s    any time\nat most 2 attempts, each of which may take any time\n";
        assert_eq!(open.to_string(), expected);
        let long = sample().count(99).build().unwrap().plan(Some(secs(2))).to_string();
        assert_eq!(long.lines().count(), 1 + 16 + 2);
        let just_fits = sample().count(15).build().unwrap().plan(None).to_string();
        assert_eq!(just_fits.lines().count(), 1 + 16 + 1, "{just_fits}");
        assert!(!long.contains(" to "), "without jitter a wait is one number: {long}");
        assert!(long.contains("      … and 84 more\nat most 100 attempts, over after 2141s at the latest"), "{long}");
    }

    #[test]
    fn the_largest_numbers_take_no_time() {
        let huge = RetryPolicy::builder()
            .count(u32::MAX)
            .interval(Duration::MAX)
            .max_wait_interval(Duration::MAX)
            .backoff_factor(f64::MAX)
            .build()
            .unwrap();
        assert_eq!(huge.plan(Some(Duration::MAX)).attempts(), 1 << 32);
        assert_eq!(huge.plan(Some(Duration::MAX)).worst_case(), Some(Duration::from_nanos(u64::MAX)));
        let bounded = sample().count(u32::MAX).deadline(secs(1_000_000_000)).build().unwrap().plan(None);
        assert_eq!((bounded.attempts(), bounded.worst_case()), (1 << 32, Some(secs(1_000_000_000))));
    }

    #[test]
    fn beyond_what_is_followed_each_wait_counts_as_the_longest() {
        let plan = |count| sample().count(count).backoff_factor(1.0).build().unwrap().plan(Some(secs(2)));
        let followed = plan(FOLLOWED);
        assert_eq!(followed.attempts(), u64::from(FOLLOWED) + 1);
        assert_eq!(followed.worst_case(), Some(secs(u64::from(FOLLOWED) * 5 + 2)));
        assert_eq!(plan(FOLLOWED + 10).attempts(), u64::from(FOLLOWED) + 11);
        assert_eq!(plan(FOLLOWED + 10).worst_case(), Some(secs(u64::from(FOLLOWED) * 5 + 2 + 10 * 22)));
    }

    proptest! {
        #[test]
        fn a_call_keeps_to_its_plan(
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

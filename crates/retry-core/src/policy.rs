//! [`RetryPolicy`]: how often to retry and how long to wait.

use core::{
    hash::{Hash, Hasher},
    time::Duration,
};

use crate::{jitter::Jitter, nanos::Nanos};

/// How often to retry and how long to wait before each retry.
///
/// Every policy is valid: [`RetryPolicyBuilder::build`] returns an error for invalid values. The first four fields have
/// the names of the Ballerina sample that this project ports.
///
/// | field | unit | default | meaning |
/// |---|---|---|---|
/// | `count`, or `max_retries` | retries | 3 | retries after the first attempt, so at most `count + 1` attempts |
/// | `interval` | time | 100 ms | the first wait |
/// | `backoff_factor` | ratio | 2.0 | each wait is the previous one times this |
/// | `max_wait_interval` | time | 60 s | the cap on every wait, the first included |
/// | `jitter` | | full | the random variation of waits, see [`Jitter`] |
/// | `deadline` | time | none | a limit on the call, attempts and waits included |
/// | `max_retry_after` | time | 60 s | the longest wait that a server may request, see [`Verdict::RetryAfter`] |
/// | `throttled_interval` | time | 1 s | instead of a shorter `interval` after [`Verdict::RetryThrottled`] |
///
/// [`interactive`](Self::interactive), [`background`](Self::background) and [`gateway`](Self::gateway) are policies for
/// three common cases, and [`BALLERINA`](Self::BALLERINA) is that of the sample:
///
/// | | `count` | `interval` | `backoff_factor` | `max_wait_interval` | `jitter` | `deadline` | `max_retry_after` |
/// |---|---|---|---|---|---|---|---|
/// | `interactive` | 2 | 100 ms | 2.0 | 1 s | full | 5 s | 1 s |
/// | `background` | `u32::MAX` | 1 s | 2.0 | 5 min | full | 1 h | 10 min |
/// | `gateway` | 3 | 50 ms | 2.0 | 2 s | full | 10 s | 2 s |
/// | `BALLERINA` | 3 | 3 s | 2.0 | 20 s | none | none | 60 s |
///
/// All four have the `throttled_interval` of the default. Times are stored in whole nanoseconds, up to 584 years; longer
/// ones are shortened to that.
///
/// [`Verdict::RetryAfter`]: crate::Verdict::RetryAfter
/// [`Verdict::RetryThrottled`]: crate::Verdict::RetryThrottled
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    pub(crate) count: u32,
    pub(crate) jitter: Jitter,
    pub(crate) interval: Nanos,
    pub(crate) throttled_interval: Nanos,
    pub(crate) backoff_factor: f64,
    pub(crate) max_wait_interval: Nanos,
    pub(crate) max_retry_after: Nanos,
    /// `Nanos::MAX` stands for no deadline.
    pub(crate) deadline: Nanos,
}

impl RetryPolicy {
    const DEFAULT: Self = Self {
        count: 3,
        jitter: Jitter::Full,
        interval: Nanos::from_millis(100),
        throttled_interval: Nanos::from_secs(1),
        backoff_factor: 2.0,
        max_wait_interval: Nanos::from_secs(60),
        max_retry_after: Nanos::from_secs(60),
        deadline: Nanos::MAX,
    };

    /// The policy of the Ballerina sample: retries after exactly 3, 6 and 12 s; waits double up to 20 s. Not for
    /// production: clients that fail together also retry together.
    pub const BALLERINA: Self = Self {
        jitter: Jitter::None,
        interval: Nanos::from_secs(3),
        max_wait_interval: Nanos::from_secs(20),
        ..Self::DEFAULT
    };

    /// Returns a policy for calls whose result a user waits for: two retries with short waits, over after 5 s.
    ///
    /// ```
    /// use std::time::Duration;
    /// use retry_core::RetryPolicy;
    ///
    /// let patient = RetryPolicy::interactive().with_deadline(Duration::from_secs(20));
    /// assert_eq!(patient.max_retries(), 2);
    /// ```
    #[must_use]
    pub const fn interactive() -> Self {
        Self {
            count: 2,
            max_wait_interval: Nanos::from_secs(1),
            max_retry_after: Nanos::from_secs(1),
            deadline: Nanos::from_secs(5),
            ..Self::DEFAULT
        }
    }

    /// Returns a policy for jobs that should succeed eventually: waits grow from 1 s to 5 min, and only the deadline of
    /// an hour ends the retries.
    #[must_use]
    pub const fn background() -> Self {
        Self {
            count: u32::MAX,
            interval: Nanos::from_secs(1),
            max_wait_interval: Nanos::from_secs(5 * 60),
            max_retry_after: Nanos::from_secs(10 * 60),
            deadline: Nanos::from_secs(60 * 60),
            ..Self::DEFAULT
        }
    }

    /// Returns a policy for a service between its clients and another service: short waits, as each waiting client holds
    /// a connection, and a deadline of 10 s. Use it with a [`RetryBudget`](crate::RetryBudget), which makes the short
    /// waits safe.
    #[must_use]
    pub const fn gateway() -> Self {
        Self {
            interval: Nanos::from_millis(50),
            max_wait_interval: Nanos::from_secs(2),
            max_retry_after: Nanos::from_secs(2),
            deadline: Nanos::from_secs(10),
            ..Self::DEFAULT
        }
    }

    /// Returns a builder with the defaults in the table above.
    ///
    /// ```
    /// use std::time::Duration;
    /// use retry_core::{Jitter, RetryPolicy};
    ///
    /// let policy = RetryPolicy::builder().max_retries(5).interval(Duration::from_millis(200)).build()?;
    /// assert_eq!((policy.backoff_factor(), policy.jitter()), (2.0, Jitter::Full));
    ///
    /// // The longest waits, as jitter is not included.
    /// let waits: Vec<u128> = policy.waits().map(|wait| wait.as_millis()).collect();
    /// assert_eq!(waits, [200, 400, 800, 1600, 3200]);
    /// # Ok::<(), retry_core::PolicyError>(())
    /// ```
    pub const fn builder() -> RetryPolicyBuilder {
        Self::DEFAULT.to_builder()
    }

    /// Returns a builder with the values of this policy.
    ///
    /// ```
    /// use retry_core::RetryPolicy;
    ///
    /// let policy = RetryPolicy::gateway().to_builder().max_retries(1).build()?;
    /// assert_eq!(policy.max_wait_interval(), RetryPolicy::gateway().max_wait_interval());
    /// # Ok::<(), retry_core::PolicyError>(())
    /// ```
    pub const fn to_builder(&self) -> RetryPolicyBuilder {
        RetryPolicyBuilder { policy: *self, backoff_factor: None }
    }

    /// Returns the number of retries after the first attempt, by the name that other libraries use for
    /// [`count`](Self::count).
    #[must_use]
    pub const fn max_retries(&self) -> u32 {
        self.count
    }

    /// Returns the number of retries after the first attempt.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Returns the first wait, before cap and jitter.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval.get()
    }

    /// Returns what replaces a shorter [`interval`](Self::interval) after a throttled attempt.
    #[must_use]
    pub const fn throttled_interval(&self) -> Duration {
        self.throttled_interval.get()
    }

    /// Returns the factor between two waits: a finite, positive number.
    #[must_use]
    pub const fn backoff_factor(&self) -> f64 {
        self.backoff_factor
    }

    /// Returns the cap on every wait, except those that a server requests.
    #[must_use]
    pub const fn max_wait_interval(&self) -> Duration {
        self.max_wait_interval.get()
    }

    /// Returns the random variation of waits.
    #[must_use]
    pub const fn jitter(&self) -> Jitter {
        self.jitter
    }

    /// Returns the limit on the call, attempts and waits included.
    #[must_use]
    pub const fn deadline(&self) -> Option<Duration> {
        match self.deadline {
            Nanos::MAX => None,
            deadline => Some(deadline.get()),
        }
    }

    /// Returns this policy with another limit on the call, attempts and waits included. Zero counts as a nanosecond: the
    /// call times out at once.
    ///
    /// ```
    /// use std::time::Duration;
    /// use retry_core::RetryPolicy;
    ///
    /// let policy = RetryPolicy::default().with_deadline(Duration::from_secs(5));
    /// assert_eq!(policy.deadline(), Some(Duration::from_secs(5)));
    /// ```
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        let deadline = Nanos::new(deadline);
        self.deadline = if deadline.is_zero() { Nanos(1) } else { deadline };
        self
    }

    /// Returns the longest wait that a server may request; a longer one ends the call.
    #[must_use]
    pub const fn max_retry_after(&self) -> Duration {
        self.max_retry_after.get()
    }
}

/// The defaults in the table above.
impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The factor is never NaN, so equality is an equivalence.
impl Eq for RetryPolicy {}

/// The factor is neither NaN nor zero, so equal factors have equal bits.
impl Hash for RetryPolicy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { count, jitter, interval, throttled_interval, .. } = self;
        let Self { backoff_factor, max_wait_interval, max_retry_after, deadline, .. } = self;
        (count, jitter, interval, throttled_interval).hash(state);
        (backoff_factor.to_bits(), max_wait_interval, max_retry_after, deadline).hash(state);
    }
}

/// Builds a [`RetryPolicy`], from the defaults or from another policy.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct RetryPolicyBuilder {
    policy: RetryPolicy,
    /// Not in `policy`, which is always valid: it is checked by `build`.
    backoff_factor: Option<f64>,
}

impl RetryPolicyBuilder {
    /// Sets the number of retries after the first attempt. With 0, a call makes a single attempt.
    pub const fn count(mut self, count: u32) -> Self {
        self.policy.count = count;
        self
    }

    /// Sets the number of retries after the first attempt, by the name that other libraries use for
    /// [`count`](Self::count).
    pub const fn max_retries(self, max_retries: u32) -> Self {
        self.count(max_retries)
    }

    /// Sets the first wait. With zero, retries follow immediately, whatever the factor.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.policy.interval = Nanos::new(interval);
        self
    }

    /// Sets what replaces a shorter [`interval`](Self::interval) after an attempt that the server throttled
    /// ([`Verdict::RetryThrottled`](crate::Verdict::RetryThrottled)). It grows and varies in the same way. With zero, such
    /// an attempt is like any other.
    ///
    /// ```
    /// use std::time::Duration;
    /// use retry_core::{Decision::Wait, Jitter, RetryPolicy, Session, Verdict};
    ///
    /// // The waits of the AWS SDKs since November 2026, without their jitter.
    /// let policy = RetryPolicy::builder()
    ///     .interval(Duration::from_millis(50))
    ///     .throttled_interval(Duration::from_secs(1))
    ///     .jitter(Jitter::None)
    ///     .build()?;
    /// let mut session = Session::start(&policy, None, Duration::ZERO);
    /// let mut wait_after = |verdict| session.decide(verdict, Duration::ZERO, || 0);
    /// assert_eq!(wait_after(Verdict::Retry), Wait(Duration::from_millis(50)));
    /// assert_eq!(wait_after(Verdict::RetryThrottled(None)), Wait(Duration::from_secs(2)));
    /// assert_eq!(wait_after(Verdict::Retry), Wait(Duration::from_millis(200)));
    /// # Ok::<(), retry_core::PolicyError>(())
    /// ```
    pub const fn throttled_interval(mut self, interval: Duration) -> Self {
        self.policy.throttled_interval = Nanos::new(interval);
        self
    }

    /// Sets the factor between two waits: a finite, positive number. With 1, all waits are equal; below 1, they get
    /// shorter.
    pub const fn backoff_factor(mut self, backoff_factor: f64) -> Self {
        self.backoff_factor = Some(backoff_factor);
        self
    }

    /// Sets the cap on every wait. Must not be zero.
    pub const fn max_wait_interval(mut self, max_wait_interval: Duration) -> Self {
        self.policy.max_wait_interval = Nanos::new(max_wait_interval);
        self
    }

    /// Sets the random variation of waits. [`Jitter::None`] is for tests that need exact waits.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.policy.jitter = jitter;
        self
    }

    /// Sets a limit on the call, attempts and waits included. Must not be zero.
    ///
    /// At the deadline, an attempt in flight times out. A wait that would not end before the deadline does not start.
    /// [`Duration::MAX`] is no limit.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::{future::pending, time::Duration};
    /// use retry_core::{Reason, RetryPolicy, retry};
    ///
    /// let policy = RetryPolicy::builder().deadline(Duration::from_millis(50)).build()?;
    /// let never = || pending::<Result<(), std::io::Error>>();
    /// assert_eq!(retry(policy, never).await.unwrap_err().reason(), Reason::Deadline);
    /// # Ok::<(), retry_core::PolicyError>(())
    /// # }).unwrap();
    /// ```
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.policy.deadline = Nanos::new(deadline);
        self
    }

    /// Sets the longest wait that a server may request; a longer one ends the call.
    pub const fn max_retry_after(mut self, max_retry_after: Duration) -> Self {
        self.policy.max_retry_after = Nanos::new(max_retry_after);
        self
    }

    /// Builds the policy.
    ///
    /// # Errors
    ///
    /// Returns an error if the factor is not a finite, positive number, or if the cap or the deadline is zero.
    ///
    /// ```
    /// use retry_core::RetryPolicy;
    ///
    /// let error = RetryPolicy::builder().backoff_factor(f64::NAN).build().unwrap_err();
    /// assert_eq!(error.to_string(), "backoff_factor is NaN: expected a finite number above zero");
    /// ```
    pub const fn build(self) -> Result<RetryPolicy, PolicyError> {
        let Self { mut policy, backoff_factor } = self;
        if let Some(factor) = backoff_factor {
            if !(factor.is_finite() && factor > 0.0) {
                return Err(PolicyError(Invalid::BackoffFactor(factor)));
            }
            policy.backoff_factor = factor;
        }
        if policy.max_wait_interval.is_zero() {
            return Err(PolicyError(Invalid::Zero("max_wait_interval")));
        }
        if policy.deadline.is_zero() {
            return Err(PolicyError(Invalid::Zero("deadline")));
        }
        Ok(policy)
    }
}

/// The error of an invalid policy. The message contains the field, its value and what is expected.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(transparent)]
pub struct PolicyError(Invalid);

impl PolicyError {
    /// Returns the name of the invalid field.
    ///
    /// ```
    /// use retry_core::RetryPolicy;
    ///
    /// assert_eq!(RetryPolicy::builder().backoff_factor(-1.0).build().unwrap_err().field(), "backoff_factor");
    /// ```
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self.0 {
            Invalid::BackoffFactor(_) => "backoff_factor",
            Invalid::Zero(field) => field,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
enum Invalid {
    #[error("backoff_factor is {0}: expected a finite number above zero")]
    BackoffFactor(f64),
    #[error("{0} is 0: expected a time above zero")]
    Zero(&'static str),
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    /// Compares a policy with the values of the guide, as `count`, the times `interval`, `max_wait_interval` and
    /// `max_retry_after` in milliseconds, and `deadline` in seconds. All of them double their waits.
    #[track_caller]
    fn check(policy: RetryPolicy, count: u32, times: [u64; 3], jitter: Jitter, deadline: Option<u64>) {
        let [interval, max_wait_interval, max_retry_after] = times.map(Duration::from_millis);
        assert_eq!((policy.count(), policy.max_retries()), (count, count));
        assert_eq!((policy.interval(), policy.max_wait_interval()), (interval, max_wait_interval));
        assert_eq!((policy.max_retry_after(), policy.throttled_interval()), (max_retry_after, Duration::from_secs(1)));
        assert_eq!((policy.backoff_factor(), policy.jitter()), (2.0, jitter));
        assert_eq!(policy.deadline(), deadline.map(Duration::from_secs));
        assert_eq!(policy.to_builder().build(), Ok(policy));
    }

    #[test]
    fn named_policies_have_the_values_of_the_guide() {
        check(RetryPolicy::interactive(), 2, [100, 1000, 1000], Jitter::Full, Some(5));
        check(RetryPolicy::background(), u32::MAX, [1000, 300_000, 600_000], Jitter::Full, Some(3600));
        check(RetryPolicy::gateway(), 3, [50, 2000, 2000], Jitter::Full, Some(10));
    }

    #[test]
    fn parity_the_policy_of_the_sample_has_its_values() {
        check(RetryPolicy::BALLERINA, 3, [3000, 20_000, 60_000], Jitter::None, None);
    }

    #[test]
    fn the_default_grows_and_jitters() {
        check(RetryPolicy::default(), 3, [100, 60_000, 60_000], Jitter::Full, None);
        let interval = Duration::from_millis(200);
        check(RetryPolicy::builder().interval(interval).build().unwrap(), 3, [200, 60_000, 60_000], Jitter::Full, None);
    }

    #[test]
    fn a_builder_from_a_policy_changes_only_what_is_set() {
        let policy = RetryPolicy::gateway().to_builder().max_retries(1).deadline(Duration::MAX).build().unwrap();
        check(policy, 1, [50, 2000, 2000], Jitter::Full, None);
        let unchanged = RetryPolicy { backoff_factor: 1.5, ..RetryPolicy::gateway() };
        assert_eq!(unchanged.to_builder().build(), Ok(unchanged));
    }

    #[test]
    fn invalid_values_are_errors_that_name_the_field() {
        let builder = RetryPolicy::builder();
        for (builder, message) in [
            (builder.backoff_factor(0.0), "backoff_factor is 0: expected a finite number above zero"),
            (builder.backoff_factor(-2.0), "backoff_factor is -2: expected a finite number above zero"),
            (builder.backoff_factor(f64::NAN), "backoff_factor is NaN: expected a finite number above zero"),
            (builder.backoff_factor(f64::INFINITY), "backoff_factor is inf: expected a finite number above zero"),
            (builder.backoff_factor(f64::NEG_INFINITY), "backoff_factor is -inf: expected a finite number above zero"),
            (builder.max_wait_interval(Duration::ZERO), "max_wait_interval is 0: expected a time above zero"),
            (builder.deadline(Duration::ZERO), "deadline is 0: expected a time above zero"),
        ] {
            let error = builder.build().unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(message.split(' ').next(), Some(error.field()));
        }
    }

    #[test]
    fn getters_return_what_was_set() {
        let policy = RetryPolicy::builder()
            .count(9)
            .interval(Duration::from_millis(1))
            .throttled_interval(Duration::from_millis(2))
            .backoff_factor(1.5)
            .max_wait_interval(Duration::from_secs(2))
            .jitter(Jitter::Equal)
            .deadline(Duration::from_secs(30))
            .max_retry_after(Duration::from_secs(7))
            .build()
            .unwrap();
        assert_eq!(policy.count(), 9);
        assert_eq!(policy.interval(), Duration::from_millis(1));
        assert_eq!(policy.throttled_interval(), Duration::from_millis(2));
        assert_eq!(policy.backoff_factor(), 1.5);
        assert_eq!(policy.max_wait_interval(), Duration::from_secs(2));
        assert_eq!(policy.jitter(), Jitter::Equal);
        assert_eq!(policy.deadline(), Some(Duration::from_secs(30)));
        assert_eq!(policy.max_retry_after(), Duration::from_secs(7));
        assert_eq!(RetryPolicy::default().deadline(), None);
    }

    #[test]
    fn equal_policies_have_equal_hashes_and_different_ones_do_not() {
        use std::hash::{BuildHasher, RandomState};
        let hasher = RandomState::new();
        let same = RetryPolicy::builder().count(2).deadline(Duration::from_secs(5));
        let same = same.max_wait_interval(Duration::from_secs(1)).max_retry_after(Duration::from_secs(1));
        assert_eq!(hasher.hash_one(RetryPolicy::interactive()), hasher.hash_one(same.build().unwrap()));
        assert_ne!(hasher.hash_one(RetryPolicy::interactive()), hasher.hash_one(RetryPolicy::default()));
    }
}

//! [`RetryPolicy`]: how often to retry and how long to wait.

use core::{
    hash::{Hash, Hasher},
    time::Duration,
};

use crate::{jitter::Jitter, nanos::Nanos};

/// How often to retry and how long to wait before each retry.
///
/// Every policy is valid: [`RetryPolicyBuilder::build`] returns an error for invalid values. The first four terms are
/// those of the Ballerina sample that this project ports; [`RetryPolicy::SAMPLE`] has its values.
///
/// | field | unit | default | meaning |
/// |---|---|---|---|
/// | `count` | retries | 3 | retries after the first attempt, so at most `count + 1` attempts |
/// | `interval` | time | 3 s | the first wait |
/// | `backoff_factor` | ratio | 1.0 | each wait is the previous one times this |
/// | `max_wait_interval` | time | 60 s | the cap on every wait, the first included |
/// | `jitter` | | none | the random variation of waits, see [`Jitter`] |
/// | `deadline` | time | none | a limit on the call, attempts and waits included |
/// | `max_retry_after` | time | 60 s | the longest wait that a server may request, see [`Verdict::RetryAfter`] |
///
/// Times are stored in whole nanoseconds, up to 584 years; longer ones are shortened to that.
///
/// [`Verdict::RetryAfter`]: crate::Verdict::RetryAfter
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    pub(crate) count: u32,
    pub(crate) jitter: Jitter,
    pub(crate) interval: Nanos,
    pub(crate) backoff_factor: f64,
    pub(crate) max_wait_interval: Nanos,
    pub(crate) max_retry_after: Nanos,
    /// `Nanos::MAX` stands for no deadline.
    pub(crate) deadline: Nanos,
}

impl RetryPolicy {
    /// The policy of the sample: 3 retries after 3, 6 and 12 s. Waits double up to 20 s.
    pub const SAMPLE: Self = Self { backoff_factor: 2.0, max_wait_interval: Nanos::from_secs(20), ..Self::DEFAULT };

    const DEFAULT: Self = Self {
        count: 3,
        jitter: Jitter::None,
        interval: Nanos::from_secs(3),
        backoff_factor: 1.0,
        max_wait_interval: Nanos::from_secs(60),
        max_retry_after: Nanos::from_secs(60),
        deadline: Nanos::MAX,
    };

    /// Returns a builder with the defaults in the table above.
    ///
    /// ```
    /// use std::time::Duration;
    /// use retry_core::RetryPolicy;
    ///
    /// let policy = RetryPolicy::builder()
    ///     .count(5)
    ///     .interval(Duration::from_secs(3))
    ///     .backoff_factor(2.0)
    ///     .max_wait_interval(Duration::from_secs(20))
    ///     .build()?;
    /// let waits: Vec<u64> = policy.waits().map(|wait| wait.as_secs()).collect();
    /// assert_eq!(waits, [3, 6, 12, 20, 20]);
    /// # Ok::<(), retry_core::PolicyError>(())
    /// ```
    pub const fn builder() -> RetryPolicyBuilder {
        RetryPolicyBuilder { policy: Self::DEFAULT, backoff_factor: None }
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
        let Self { count, jitter, interval, backoff_factor, max_wait_interval, max_retry_after, deadline } = self;
        (count, jitter, interval, backoff_factor.to_bits(), max_wait_interval, max_retry_after, deadline).hash(state);
    }
}

/// Builds a [`RetryPolicy`] from the defaults.
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

    /// Sets the first wait. With zero, retries follow immediately, whatever the factor.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.policy.interval = Nanos::new(interval);
        self
    }

    /// Sets the factor between two waits: a finite, positive number. Below 1, waits get shorter.
    pub const fn backoff_factor(mut self, backoff_factor: f64) -> Self {
        self.backoff_factor = Some(backoff_factor);
        self
    }

    /// Sets the cap on every wait. Must not be zero.
    pub const fn max_wait_interval(mut self, max_wait_interval: Duration) -> Self {
        self.policy.max_wait_interval = Nanos::new(max_wait_interval);
        self
    }

    /// Sets the random variation of waits.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.policy.jitter = jitter;
        self
    }

    /// Sets a limit on the call, attempts and waits included. Must not be zero.
    ///
    /// At the deadline, an attempt in flight times out. A wait that would not end before the deadline does not start.
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

    #[test]
    fn parity_factor_defaults_to_one_and_cap_to_a_minute() {
        let policy = RetryPolicy::builder().build().unwrap();
        assert_eq!(policy, RetryPolicy::default());
        assert_eq!(policy.backoff_factor(), 1.0);
        assert_eq!(policy.max_wait_interval(), Duration::from_secs(60));
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
            .backoff_factor(1.5)
            .max_wait_interval(Duration::from_secs(2))
            .jitter(Jitter::Equal)
            .deadline(Duration::from_secs(30))
            .max_retry_after(Duration::from_secs(7))
            .build()
            .unwrap();
        assert_eq!(policy.count(), 9);
        assert_eq!(policy.interval(), Duration::from_millis(1));
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
        let sample = RetryPolicy::builder().backoff_factor(2.0).max_wait_interval(Duration::from_secs(20));
        assert_eq!(hasher.hash_one(RetryPolicy::SAMPLE), hasher.hash_one(sample.build().unwrap()));
        assert_ne!(hasher.hash_one(RetryPolicy::SAMPLE), hasher.hash_one(RetryPolicy::default()));
    }

    #[test]
    fn the_policy_of_the_sample_has_its_values() {
        let RetryPolicy { count, interval, backoff_factor, max_wait_interval, .. } = RetryPolicy::SAMPLE;
        assert_eq!((count, interval.get(), backoff_factor), (3, Duration::from_secs(3), 2.0));
        assert_eq!(max_wait_interval.get(), Duration::from_secs(20));
    }
}

//! The policy: how often to retry and how long to wait, checked once when it is built.

use core::{
    hash::{Hash, Hasher},
    time::Duration,
};

use crate::{jitter::Jitter, waits::Waits};

/// How often to retry and how long to wait before each retry.
///
/// A policy that exists is valid: [`RetryPolicyBuilder::build`] is the only place that can refuse.
/// The four basic terms and their meaning are those of the Ballerina sample this project ports;
/// [`RetryPolicy::SAMPLE`] has its numbers.
///
/// | field | unit | default | meaning |
/// |---|---|---|---|
/// | `count` | retries | 3 | retries after the first attempt, so `count + 1` attempts |
/// | `interval` | time | 3 s | the first wait |
/// | `backoff_factor` | ratio | 1.0 | each wait is the one before times this |
/// | `max_wait_interval` | time | 60 s | no wait is longer, the first included |
/// | `jitter` | | none | how waits are spread at random, see [`Jitter`] |
/// | `deadline` | time | none | a limit over the whole call, attempts and waits |
/// | `max_retry_after` | time | 60 s | the longest wait a server may ask for, see [`Verdict::RetryAfter`] |
///
/// Times count in whole nanoseconds; beyond 584 years they count as 584 years.
///
/// [`Verdict::RetryAfter`]: crate::Verdict::RetryAfter
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(
    feature = "serde",
    serde(try_from = "crate::policy_file::PolicyFile", into = "crate::policy_file::PolicyFile")
)]
pub struct RetryPolicy {
    pub(crate) count: u32,
    pub(crate) jitter: Jitter,
    pub(crate) interval: Nanos,
    pub(crate) backoff_factor: f64,
    pub(crate) max_wait_interval: Nanos,
    pub(crate) max_retry_after: Nanos,
    /// `Nanos::MAX` stands for none: a call of 584 years has no deadline.
    pub(crate) deadline: Nanos,
}

impl RetryPolicy {
    /// The sample's policy: 3 retries, 3 s doubled each time, never above 20 s. The waits are 3, 6 and 12 s.
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

    /// A builder that starts from the defaults in the table above.
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

    /// Retries after the first attempt; the call makes at most one attempt more than this.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// The first wait, before the cap and the jitter.
    #[must_use]
    pub const fn interval(&self) -> Duration {
        self.interval.get()
    }

    /// What each wait is multiplied by to get the next; finite and above zero.
    #[must_use]
    pub const fn backoff_factor(&self) -> f64 {
        self.backoff_factor
    }

    /// The cap: no wait of the policy's own is longer.
    #[must_use]
    pub const fn max_wait_interval(&self) -> Duration {
        self.max_wait_interval.get()
    }

    /// How waits are spread at random.
    #[must_use]
    pub const fn jitter(&self) -> Jitter {
        self.jitter
    }

    /// The limit over the whole call, if there is one.
    #[must_use]
    pub const fn deadline(&self) -> Option<Duration> {
        match self.deadline {
            Nanos::MAX => None,
            deadline => Some(deadline.get()),
        }
    }

    /// The longest wait a server may ask for; a longer one ends the call.
    #[must_use]
    pub const fn max_retry_after(&self) -> Duration {
        self.max_retry_after.get()
    }

    /// The waits before each retry, in order, as they are without jitter.
    #[must_use]
    pub fn waits(&self) -> Waits {
        Waits::new(self)
    }
}

/// The defaults in the table above: what [`RetryPolicy::builder`] builds untouched.
impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The factor is never NaN, so equality is an equivalence.
impl Eq for RetryPolicy {}

/// The factor is never NaN nor zero, so equal factors have equal bits.
impl Hash for RetryPolicy {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { count, jitter, interval, backoff_factor, max_wait_interval, max_retry_after, deadline } = self;
        (count, jitter, interval, backoff_factor.to_bits(), max_wait_interval, max_retry_after, deadline).hash(state);
    }
}

/// Builds a [`RetryPolicy`]; what is not set keeps its default.
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct RetryPolicyBuilder {
    policy: RetryPolicy,
    /// Not yet checked, so kept apart from the policy, which is always valid.
    backoff_factor: Option<f64>,
}

impl RetryPolicyBuilder {
    /// Sets how many retries may follow the first attempt. Any number; 0 means a single attempt.
    pub const fn count(mut self, count: u32) -> Self {
        self.policy.count = count;
        self
    }

    /// Sets the first wait. Any time; zero means that retries follow at once, whatever the factor.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.policy.interval = Nanos::new(interval);
        self
    }

    /// Sets what each wait is multiplied by to get the next. Finite and above zero; below 1 the waits shrink.
    pub const fn backoff_factor(mut self, backoff_factor: f64) -> Self {
        self.backoff_factor = Some(backoff_factor);
        self
    }

    /// Sets the cap on every wait. Above zero.
    pub const fn max_wait_interval(mut self, max_wait_interval: Duration) -> Self {
        self.policy.max_wait_interval = Nanos::new(max_wait_interval);
        self
    }

    /// Sets how waits are spread at random.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.policy.jitter = jitter;
        self
    }

    /// Sets a limit over the whole call. Above zero.
    ///
    /// An attempt in flight is cut when it passes, and no wait begins that would not end before it.
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

    /// Sets the longest wait a server may ask for. Zero refuses every such wait but that of zero.
    pub const fn max_retry_after(mut self, max_retry_after: Duration) -> Self {
        self.policy.max_retry_after = Nanos::new(max_retry_after);
        self
    }

    /// Checks the numbers.
    ///
    /// # Errors
    ///
    /// When the factor is not a finite number above zero, or the cap or the deadline is zero.
    ///
    /// ```
    /// use retry_core::RetryPolicy;
    ///
    /// let refused = RetryPolicy::builder().backoff_factor(f64::NAN).build().unwrap_err();
    /// assert_eq!(refused.to_string(), "backoff_factor is NaN: expected a finite number above zero");
    /// ```
    pub const fn build(self) -> Result<RetryPolicy, PolicyError> {
        let Self { mut policy, backoff_factor } = self;
        if let Some(factor) = backoff_factor {
            if !(factor.is_finite() && factor > 0.0) {
                return Err(PolicyError(Refused::BackoffFactor(factor)));
            }
            policy.backoff_factor = factor;
        }
        if policy.max_wait_interval.is_zero() {
            return Err(PolicyError(Refused::Zero("max_wait_interval")));
        }
        if policy.deadline.is_zero() {
            return Err(PolicyError(Refused::Zero("deadline")));
        }
        Ok(policy)
    }
}

/// Why a policy was refused. Its message names the field, the value and what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(transparent)]
pub struct PolicyError(Refused);

impl PolicyError {
    /// The field that was refused, by the name of its builder method.
    ///
    /// ```
    /// use retry_core::RetryPolicy;
    ///
    /// assert_eq!(RetryPolicy::builder().backoff_factor(-1.0).build().unwrap_err().field(), "backoff_factor");
    /// ```
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self.0 {
            Refused::BackoffFactor(_) => "backoff_factor",
            Refused::Zero(field) => field,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
enum Refused {
    #[error("backoff_factor is {0}: expected a finite number above zero")]
    BackoffFactor(f64),
    #[error("{0} is 0: expected a time above zero")]
    Zero(&'static str),
}

/// A time in whole nanoseconds, saturating at 584 years: the unit in which waits are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Nanos(pub(crate) u64);

impl Nanos {
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const MAX: Self = Self(u64::MAX);

    pub(crate) const fn new(time: Duration) -> Self {
        let nanos = time.as_nanos();
        Self(if nanos > u64::MAX as u128 { u64::MAX } else { nanos as u64 })
    }

    const fn from_secs(secs: u64) -> Self {
        Self::new(Duration::from_secs(secs))
    }

    pub(crate) const fn get(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    pub(crate) const fn is_zero(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The time from `earlier` to here, zero if that lies later.
    pub(crate) const fn since(self, earlier: Self) -> Duration {
        self.saturating_sub(earlier).get()
    }

    pub(crate) const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn parity_unset_factor_is_one_and_unset_cap_is_a_minute() {
        let policy = RetryPolicy::builder().build().unwrap();
        assert_eq!(policy, RetryPolicy::default());
        assert_eq!(policy.backoff_factor(), 1.0);
        assert_eq!(policy.max_wait_interval(), Duration::from_secs(60));
    }

    #[test]
    fn what_cannot_mean_anything_is_refused_by_name() {
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
            let refused = builder.build().unwrap_err();
            assert_eq!(refused.to_string(), message);
            assert_eq!(message.split(' ').next(), Some(refused.field()));
        }
    }

    #[test]
    fn what_was_set_can_be_read_back() {
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
    fn equal_policies_have_equal_hashes_and_others_others() {
        use std::hash::{BuildHasher, RandomState};
        let hasher = RandomState::new();
        let sample = RetryPolicy::builder().backoff_factor(2.0).max_wait_interval(Duration::from_secs(20));
        assert_eq!(hasher.hash_one(RetryPolicy::SAMPLE), hasher.hash_one(sample.build().unwrap()));
        assert_ne!(hasher.hash_one(RetryPolicy::SAMPLE), hasher.hash_one(RetryPolicy::default()));
    }

    #[test]
    fn the_samples_policy_has_the_samples_numbers() {
        let RetryPolicy { count, interval, backoff_factor, max_wait_interval, .. } = RetryPolicy::SAMPLE;
        assert_eq!((count, interval.get(), backoff_factor), (3, Duration::from_secs(3), 2.0));
        assert_eq!(max_wait_interval.get(), Duration::from_secs(20));
    }
}

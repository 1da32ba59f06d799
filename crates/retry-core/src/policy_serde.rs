//! Policies in configuration files: reads and writes `RetryPolicy` with serde.

use alloc::{borrow::Cow, format};
use core::{fmt, time::Duration};

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    jitter::Jitter,
    policy::{PolicyError, RetryPolicy},
};

/// A policy as written in a file. Missing fields have the values of [`RetryPolicy::default`]; unknown fields are errors.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct PolicyFile {
    #[serde(alias = "max_retries")]
    count: u32,
    interval: Time,
    throttled_interval: Time,
    backoff_factor: f64,
    max_wait_interval: Time,
    jitter: Jitter,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Time>,
    max_retry_after: Time,
}

impl Default for PolicyFile {
    fn default() -> Self {
        RetryPolicy::default().into()
    }
}

impl From<RetryPolicy> for PolicyFile {
    fn from(policy: RetryPolicy) -> Self {
        Self {
            count: policy.count(),
            interval: Time(policy.interval()),
            throttled_interval: Time(policy.throttled_interval()),
            backoff_factor: policy.backoff_factor(),
            max_wait_interval: Time(policy.max_wait_interval()),
            jitter: policy.jitter(),
            deadline: policy.deadline().map(Time),
            max_retry_after: Time(policy.max_retry_after()),
        }
    }
}

impl TryFrom<PolicyFile> for RetryPolicy {
    type Error = PolicyError;

    fn try_from(file: PolicyFile) -> Result<Self, PolicyError> {
        let builder = Self::builder()
            .count(file.count)
            .interval(file.interval.0)
            .throttled_interval(file.throttled_interval.0)
            .backoff_factor(file.backoff_factor)
            .max_wait_interval(file.max_wait_interval.0)
            .jitter(file.jitter)
            .max_retry_after(file.max_retry_after.0);
        match file.deadline {
            Some(deadline) => builder.deadline(deadline.0),
            None => builder,
        }
        .build()
    }
}

impl Serialize for RetryPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        PolicyFile::from(*self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RetryPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        PolicyFile::deserialize(deserializer)?.try_into().map_err(de::Error::custom)
    }
}

/// A time, read from a number of seconds or from text with units. Written as text, to the nanosecond.
struct Time(Duration);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let time = SignedDuration::try_from(self.0).unwrap_or(SignedDuration::MAX);
        serializer.serialize_str(&format!("{time:#}"))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TimeVisitor)
    }
}

struct TimeVisitor;

impl de::Visitor<'_> for TimeVisitor {
    type Value = Time;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of seconds, or text like 3s, 200ms or 1m 30s")
    }

    fn visit_u64<E: de::Error>(self, secs: u64) -> Result<Time, E> {
        Ok(Time(Duration::from_secs(secs)))
    }

    fn visit_i64<E: de::Error>(self, secs: i64) -> Result<Time, E> {
        let invalid = |_| E::invalid_value(de::Unexpected::Signed(secs), &self);
        u64::try_from(secs).map_err(invalid).map(|secs| Time(Duration::from_secs(secs)))
    }

    fn visit_f64<E: de::Error>(self, secs: f64) -> Result<Time, E> {
        let invalid = |_| E::invalid_value(de::Unexpected::Float(secs), &self);
        Duration::try_from_secs_f64(secs).map_err(invalid).map(Time)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Time, E> {
        let bare = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let with_unit: Cow<'_, str> = if bare { format!("{text}s").into() } else { text.into() };
        let parsed = with_unit.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
        parsed.map(Time).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_file_is_read_like_calls_of_the_builder() {
        let policy: RetryPolicy = toml::from_str(
            "count = 5\ninterval = \"200ms\"\nthrottled_interval = 2\nbackoff_factor = 2\nmax_wait_interval = 20\njitter = \"full\"\n\
             deadline = \"1m 30s\"\nmax_retry_after = 0.5",
        )
        .unwrap();
        let expected = RetryPolicy::builder()
            .count(5)
            .interval(Duration::from_millis(200))
            .throttled_interval(secs(2))
            .backoff_factor(2.0)
            .max_wait_interval(secs(20))
            .jitter(Jitter::Full)
            .deadline(secs(90))
            .max_retry_after(Duration::from_millis(500));
        assert_eq!(policy, expected.build().unwrap());
        assert_eq!(toml::from_str::<RetryPolicy>("").unwrap(), RetryPolicy::default());
        let named: RetryPolicy = toml::from_str("max_retries = 5").unwrap();
        assert_eq!(named, RetryPolicy::builder().max_retries(5).build().unwrap());
        let bare: RetryPolicy = toml::from_str("interval = \"0.5\"\nmax_wait_interval = \"20\"").unwrap();
        assert_eq!((bare.interval(), bare.max_wait_interval()), (Duration::from_millis(500), secs(20)));
    }

    #[test]
    fn invalid_values_are_errors_that_name_them() {
        let check = |text: &str, expected: &str| {
            let error = toml::from_str::<RetryPolicy>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("backoff_factor = -1", "backoff_factor is -1: expected a finite number above zero");
        check("backoff_factor = nan", "backoff_factor is NaN: expected a finite number above zero");
        check("max_wait_interval = 0", "max_wait_interval is 0: expected a time above zero");
        check("deadline = \"0s\"", "deadline is 0: expected a time above zero");
        check("intervall = 3", "unknown field `intervall`");
        check("count = 3\nmax_retries = 3", "duplicate field `count`");
        check("jitter = \"some\"", "unknown variant `some`, expected one of `none`, `full`, `equal`, `decorrelated`");
        for bad in ["-3", "-0.5", "nan", "inf", "\"soon\"", "\"-3s\"", "\"\"", "true"] {
            let expected = "expected a number of seconds, or text like 3s, 200ms or 1m 30s";
            check(&std::format!("interval = {bad}"), expected);
        }
    }

    proptest! {
        #[test]
        fn policies_survive_writing_and_reading(
            count in any::<u32>(),
            times in any::<[u64; 5]>(),
            factor in any::<f64>().prop_filter("valid", |factor| factor.is_finite() && *factor > 0.0),
        ) {
            let [interval, throttled, cap, deadline, asked] = times.map(Duration::from_nanos);
            let policy = RetryPolicy::builder()
                .count(count)
                .interval(interval)
                .throttled_interval(throttled)
                .backoff_factor(factor)
                .max_wait_interval(cap.max(secs(1)))
                .jitter(Jitter::Decorrelated)
                .deadline(deadline.max(secs(1)))
                .max_retry_after(asked)
                .build()
                .unwrap();
            let json = serde_json::to_string(&policy).unwrap();
            prop_assert_eq!(serde_json::from_str::<RetryPolicy>(&json).unwrap(), policy);
            let toml = toml::to_string(&policy).unwrap();
            prop_assert_eq!(toml::from_str::<RetryPolicy>(&toml).unwrap(), policy);
        }
    }
}

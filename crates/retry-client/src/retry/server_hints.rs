//! The headers in which servers say whether and when to retry, beyond `Retry-After`.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use http::HeaderMap;

use crate::{decimal::decimal, retry::retry_after::retry_after};

/// A response header in which a server says whether or when to retry; see
/// [`RetryConfig::server_hints`](crate::RetryConfig::server_hints).
///
/// Values that are not as described are ignored, except those of [`GrpcRetryPushback`](Self::GrpcRetryPushback).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerHint {
    /// `retry-after`: a wait in whole seconds, or a date (RFC 9110, section 10.2.3).
    RetryAfter,
    /// `retry-after-ms`: a wait in milliseconds, possibly with a fraction. Sent by services of Azure and OpenAI.
    RetryAfterMs,
    /// `x-amz-retry-after`: a wait in milliseconds. Sent by services of AWS.
    AmzRetryAfter,
    /// `grpc-retry-pushback-ms`: a wait in whole milliseconds. Any other value, such as a negative one, and several values
    /// mean that the request is not retried (gRFC A6).
    GrpcRetryPushback,
    /// `x-should-retry`: with `false`, a response is not retried; with `true`, a response with an error status (4xx or 5xx)
    /// is retried although the status is not listed. A POST still needs an `Idempotency-Key`, or
    /// [`repeatable`](crate::CallOptions::repeatable). Sent by services of OpenAI and Anthropic.
    ShouldRetry,
}

impl ServerHint {
    /// All hints.
    pub const ALL: [Self; 5] =
        [Self::RetryAfter, Self::RetryAfterMs, Self::AmzRetryAfter, Self::GrpcRetryPushback, Self::ShouldRetry];

    /// Returns the name of the header.
    #[must_use]
    pub const fn header_name(self) -> &'static str {
        match self {
            Self::RetryAfter => "retry-after",
            Self::RetryAfterMs => "retry-after-ms",
            Self::AmzRetryAfter => "x-amz-retry-after",
            Self::GrpcRetryPushback => "grpc-retry-pushback-ms",
            Self::ShouldRetry => "x-should-retry",
        }
    }
}

/// What a response says about a retry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Advice {
    /// Whether to retry; `None` if it does not say.
    pub(crate) retry: Option<bool>,
    /// The wait before the retry; `None` if it does not say.
    pub(crate) wait: Option<Duration>,
}

impl Advice {
    /// Adds what another field of the response says. The first wait counts, and any field may forbid a retry.
    pub(crate) fn or(self, other: Self) -> Self {
        let retry = if other.retry == Some(false) { other.retry } else { self.retry.or(other.retry) };
        Self { retry, wait: self.wait.or(other.wait) }
    }
}

/// The hints that count, in their order.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ServerHints([Option<ServerHint>; ServerHint::ALL.len()]);

impl FromIterator<ServerHint> for ServerHints {
    fn from_iter<I: IntoIterator<Item = ServerHint>>(hints: I) -> Self {
        let mut list = Self::default();
        for hint in hints {
            // A second time, it would add nothing.
            if !list.contains(hint)
                && let Some(slot) = list.0.iter_mut().find(|slot| slot.is_none())
            {
                *slot = Some(hint);
            }
        }
        list
    }
}

impl fmt::Debug for ServerHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().flatten()).finish()
    }
}

impl ServerHints {
    pub(crate) fn contains(self, hint: ServerHint) -> bool {
        self.0.contains(&Some(hint))
    }

    /// Returns what `headers` say at the time `now`, by the first hint with a valid wait and any hint that forbids a retry.
    pub(crate) fn read(self, headers: &HeaderMap, now: SystemTime) -> Advice {
        let advice = self.0.into_iter().flatten().map(|hint| match hint {
            ServerHint::RetryAfter => wait(retry_after(headers, now)),
            ServerHint::RetryAfterMs | ServerHint::AmzRetryAfter => wait(millis(headers, hint.header_name())),
            ServerHint::GrpcRetryPushback => pushback(headers, hint.header_name()),
            ServerHint::ShouldRetry => should_retry(headers, hint.header_name()),
        });
        advice.fold(Advice::default(), Advice::or)
    }
}

fn wait(wait: Option<Duration>) -> Advice {
    Advice { retry: None, wait }
}

/// Returns the values of a header that are text, without the spaces around them.
fn values<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::trim)
}

/// Returns the first valid number of milliseconds, possibly with a fraction. A number that is too large is the longest time.
fn millis(headers: &HeaderMap, name: &'static str) -> Option<Duration> {
    values(headers, name).find_map(|value| {
        let seconds = decimal(value)? / 1000.0;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    })
}

fn pushback(headers: &HeaderMap, name: &'static str) -> Advice {
    let mut values = headers.get_all(name).iter();
    let (Some(value), second) = (values.next(), values.next()) else { return Advice::default() };
    let is_number = |value: &&str| value.bytes().all(|byte| byte.is_ascii_digit());
    let millis = value.to_str().ok().map(str::trim).filter(is_number).and_then(|value| value.parse().ok());
    match millis.filter(|_| second.is_none()) {
        Some(millis) => wait(Some(Duration::from_millis(millis))),
        None => Advice { retry: Some(false), wait: None },
    }
}

fn should_retry(headers: &HeaderMap, name: &'static str) -> Advice {
    let retry = values(headers, name).find_map(|value| match value {
        _ if value.eq_ignore_ascii_case("true") => Some(true),
        _ if value.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    });
    Advice { retry, wait: None }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use ServerHint::{AmzRetryAfter, GrpcRetryPushback, RetryAfter, RetryAfterMs, ShouldRetry};

    const NOTHING: Advice = Advice { retry: None, wait: None };
    const NO: Advice = Advice { retry: Some(false), wait: None };
    const YES: Advice = Advice { retry: Some(true), wait: None };

    fn after(millis: f64) -> Advice {
        wait(Some(Duration::from_secs_f64(millis / 1000.0)))
    }

    #[track_caller]
    fn check(hints: &[ServerHint], fields: &[(&'static str, &str)], expected: Advice) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let hints: ServerHints = hints.iter().copied().collect();
        assert_eq!(hints.read(&headers, SystemTime::UNIX_EPOCH), expected, "{fields:?}");
    }

    #[test]
    fn waits_in_milliseconds() {
        for hint in [RetryAfterMs, AmzRetryAfter] {
            let check = |value, expected| check(&[hint], &[(hint.header_name(), value)], expected);
            check("0", after(0.0));
            check("1500", after(1500.0));
            check(" 20 ", after(20.0));
            check("12.5", after(12.5));
            check("99999999999999999999999999", wait(Some(Duration::MAX)));
            for invalid in ["", "-1", "+1", "1e3", "inf", "nan", "1s", "1,5", "1.2.3", ".", "٣", "soon"] {
                check(invalid, NOTHING);
            }
        }
        check(&[RetryAfterMs], &[("retry-after-ms", "soon"), ("retry-after-ms", "7")], after(7.0));
    }

    #[test]
    fn a_pushback_that_is_not_a_wait_forbids_retries() {
        let check = |values: &[&str], expected| {
            let fields: Vec<_> = values.iter().map(|value| ("grpc-retry-pushback-ms", *value)).collect();
            check(&[GrpcRetryPushback], &fields, expected);
        };
        check(&[], NOTHING);
        check(&["0"], after(0.0));
        check(&["1500"], after(1500.0));
        for invalid in ["-1", "", "soon", "1.5", "+1", "99999999999999999999", "٣"] {
            check(&[invalid], NO);
        }
        check(&["1", "2"], NO);
    }

    #[test]
    fn a_server_may_demand_or_forbid_a_retry() {
        let check = |value, expected| check(&[ShouldRetry], &[("x-should-retry", value)], expected);
        check("true", YES);
        check("false", NO);
        check("False", NO);
        check("", NOTHING);
        check("1", NOTHING);
        check("maybe", NOTHING);
    }

    #[test]
    fn only_the_hints_of_the_list_count() {
        let all = [
            ("retry-after", "3"),
            ("retry-after-ms", "20"),
            ("x-amz-retry-after", "30"),
            ("grpc-retry-pushback-ms", "-1"),
            ("x-should-retry", "true"),
        ];
        check(&[], &all, NOTHING);
        check(&[RetryAfter], &all, after(3000.0));
        check(&[AmzRetryAfter], &all, after(30.0));
        check(&[GrpcRetryPushback], &all, NO);
        check(&ServerHint::ALL, &[], NOTHING);
        for hint in ServerHint::ALL {
            assert!(all.iter().any(|(name, _)| *name == hint.header_name()), "{hint:?}");
        }
    }

    #[test]
    fn the_first_hint_of_the_list_with_a_valid_wait_counts() {
        let fields = [("retry-after", "3"), ("retry-after-ms", "20")];
        check(&[RetryAfter, RetryAfterMs], &fields, after(3000.0));
        check(&[RetryAfterMs, RetryAfter], &fields, after(20.0));
        check(&[RetryAfterMs, RetryAfter], &[("retry-after", "3"), ("retry-after-ms", "?")], after(3000.0));
        assert_eq!(format!("{:?}", ServerHints::from_iter([RetryAfterMs, RetryAfter])), "[RetryAfterMs, RetryAfter]");
        let often = [RetryAfterMs; 9].into_iter().chain([RetryAfter]).collect::<Vec<_>>();
        check(&often, &[("retry-after", "3")], after(3000.0));
    }

    #[test]
    fn a_hint_that_forbids_a_retry_takes_precedence() {
        let fields = [("x-should-retry", "true"), ("grpc-retry-pushback-ms", "-1")];
        check(&[ShouldRetry, GrpcRetryPushback], &fields, NO);
        check(&[GrpcRetryPushback, ShouldRetry], &fields, NO);
        let fields = [("x-should-retry", "true"), ("grpc-retry-pushback-ms", "10")];
        check(&ServerHint::ALL, &fields, Advice { retry: Some(true), wait: Some(Duration::from_millis(10)) });
    }

    proptest! {
        #[test]
        fn no_value_panics(value in prop_oneof!["[0-9]{0,30}[.]?[0-9]{0,30}", any::<String>()]) {
            let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) else { return Ok(()) };
            for hint in ServerHint::ALL {
                let headers = HeaderMap::from_iter([(HeaderName::from_static(hint.header_name()), value.clone())]);
                let hints = ServerHints::from_iter([hint]);
                let Advice { retry, wait } = hints.read(&headers, SystemTime::UNIX_EPOCH);
                prop_assert!(retry.is_none() || wait.is_none(), "{hint:?} {value:?}");
            }
        }
    }
}

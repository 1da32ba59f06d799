//! The types of settings, and their parsers. An error says what is expected.

use std::{fmt, num::NonZero, str::FromStr, thread, time::Duration};

use clap::{
    ValueEnum,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use http::{HeaderName, StatusCode, uri::PathAndQuery};
use retry_client::{GrpcCode, HedgeAfter, RetryMethods, ServerHint, retry_core::Jitter};

use crate::common::duration;

/// Whether this text turns a setting off.
pub(crate) fn is_off(text: &str) -> bool {
    ["off", "none"].contains(&text.trim())
}

/// A value, or `None` for `off` (or `none`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit<T>(pub Option<T>);

/// Parses `off`, or what `parse` parses.
pub(crate) fn limit<T, E: fmt::Display>(
    parse: impl Fn(&str) -> Result<T, E> + Clone,
) -> impl Fn(&str) -> Result<Limit<T>, String> + Clone {
    move |text| match text.trim() {
        text if is_off(text) => Ok(Limit(None)),
        text => parse(text).map(|value| Limit(Some(value))).map_err(|error| format!("{error}, or off")),
    }
}

/// Parses the idle timeout. A negative value turns it off, as in Ballerina.
pub(crate) fn timeout(text: &str) -> Result<Limit<Duration>, String> {
    let parsed = match text.trim().strip_prefix('-') {
        Some(negative) => duration::parse(negative).map(|_off| None),
        None if is_off(text) => Ok(None),
        None => duration::parse(text).map(Some),
    };
    match parsed {
        Ok(Some(Duration::ZERO)) => Err("expected more than zero, or a negative value for no timeout".to_owned()),
        Ok(timeout) => Ok(Limit(timeout)),
        Err(error) => Err(format!("{error}, or a negative value for no timeout")),
    }
}

/// Parses the name of a header.
pub(crate) fn header_name(text: &str) -> Result<HeaderName, &'static str> {
    text.parse().map_err(|_| "expected the name of a header, such as grpc-timeout")
}

/// Parses a duration above zero.
pub(crate) fn above_zero(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err("expected more than zero".to_owned()),
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

/// Parses a number of bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.
pub(crate) fn bytes(text: &str) -> Result<usize, &'static str> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: usize = match text.get(digits.len()..).unwrap_or_default().trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(BYTES),
    };
    digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit)).ok_or(BYTES)
}

const BYTES: &str = "expected a number of bytes such as 65536, 64KiB or 1MiB";

/// Parses the maximum size of a request head.
pub(crate) fn header_size(text: &str) -> Result<usize, &'static str> {
    const MINIMUM: usize = 8 * 1024;
    // Each header counts for 33 bytes or more over HTTP/2, and a `HeaderMap` panics if it gets a 24,577th name.
    const MAXIMUM: usize = 512 * 1024;
    let size = bytes(text).ok().filter(|size| (MINIMUM..=MAXIMUM).contains(size));
    size.ok_or("expected a number of bytes from 8KiB to 512KiB")
}

/// Parses a whole number from 1 up.
pub(crate) fn at_least_one(text: &str) -> Result<usize, &'static str> {
    // The most permits that a semaphore can have.
    const MAXIMUM: usize = usize::MAX >> 3;
    text.parse().ok().filter(|number| (1..=MAXIMUM).contains(number)).ok_or("expected a whole number, at least 1")
}

/// The number of threads that serve connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ThreadCount(Option<usize>);

impl ThreadCount {
    /// Returns the number; without one, it is that of the processors that the process may use.
    pub(crate) fn get(self) -> usize {
        self.0.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
    }
}

impl FromStr for ThreadCount {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MAXIMUM: usize = 1024;
        if text.trim() == "auto" {
            return Ok(Self(None));
        }
        let number = text.trim().parse().ok().filter(|number| (1..=MAXIMUM).contains(number));
        number.map(|number| Self(Some(number))).ok_or("expected a whole number from 1 to 1024, or auto")
    }
}

/// Parses a ratio.
pub(crate) fn ratio(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or("expected a number from 0 to 1")
}

/// Parses a number of retries.
pub(crate) fn count(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "expected a whole number from 0 to 4294967295")
}

/// Parses a number of failures in a row.
pub(crate) fn failures(text: &str) -> Result<u32, &'static str> {
    text.parse().ok().filter(|failures| *failures > 0).ok_or("expected a whole number from 1 to 4294967295")
}

/// Parses when a request is sent to a second endpoint: a quantile of the response times as a percentage, or a time.
pub(crate) fn hedge_after(text: &str) -> Result<HedgeAfter, &'static str> {
    let after = match text.trim().strip_suffix('%') {
        Some(percent) => {
            let percent = percent.trim_end().parse::<f64>().ok().filter(|percent| *percent > 0.0 && *percent < 100.0);
            percent.map(|percent| HedgeAfter::Quantile(percent / 100.0))
        }
        None => above_zero(text).ok().map(HedgeAfter::Time),
    };
    after.ok_or("expected a percentage of the responses such as 95%, or a duration such as 50ms")
}

/// Parses the path of the sample's request.
pub(crate) fn path(text: &str) -> Result<String, &'static str> {
    let valid = text.starts_with('/') && text.parse::<PathAndQuery>().is_ok();
    valid.then(|| text.to_owned()).ok_or("expected a path that starts with /, such as /hello")
}

/// Status codes to retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusCodes(pub(crate) Vec<u16>);

impl FromStr for StatusCodes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() || is_off(text) {
            return Ok(Self(Vec::new()));
        }
        let code = |code: &str| code.trim().parse().ok().filter(|code| StatusCode::from_u16(*code).is_ok());
        let codes: Option<_> = text.split(',').map(code).collect();
        codes.map(Self).ok_or("expected codes from 100 to 999, separated by commas, such as 502,503, or off")
    }
}

/// The headers in which the upstream says whether and when to retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerHints(pub(crate) Vec<ServerHint>);

impl FromStr for ServerHints {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() || is_off(text) {
            return Ok(Self(Vec::new()));
        }
        let find = |name: &str| ServerHint::ALL.into_iter().find(|hint| hint.header_name().eq_ignore_ascii_case(name));
        let hints: Option<_> = text.split(',').map(|name| find(name.trim())).collect();
        hints.map(Self).ok_or_else(|| {
            let names = ServerHint::ALL.map(ServerHint::header_name);
            format!("expected some of {}, separated by commas, or off", names.join(", "))
        })
    }
}

/// Status codes of gRPC calls to retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GrpcStatusCodes(pub(crate) Vec<GrpcCode>);

impl FromStr for GrpcStatusCodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() || is_off(text) {
            return Ok(Self(Vec::new()));
        }
        let code = |code: &str| match code.trim().parse() {
            Ok(GrpcCode::Ok) => {
                Err("OK is not an error: expected names such as UNAVAILABLE, or numbers from 1 to 16".to_owned())
            }
            parsed => parsed.map_err(|error| format!("{error}, or off")),
        };
        text.split(',').map(code).collect::<Result<_, _>>().map(Self)
    }
}

/// Parses the methods that are retried though the upstream may have processed the request.
pub(crate) fn methods() -> impl TypedValueParser<Value = RetryMethods> {
    let idempotent = PossibleValue::new("idempotent").help("GET, HEAD, OPTIONS, TRACE, PUT and DELETE");
    let all = PossibleValue::new("all").help("Every method");
    PossibleValuesParser::new([idempotent, all])
        .map(|name| if name == "all" { RetryMethods::All } else { RetryMethods::Idempotent })
}

/// Parses how waits are randomized.
pub(crate) fn jitter() -> impl TypedValueParser<Value = Jitter> {
    PossibleValuesParser::new([
        PossibleValue::new("none").alias("off").help("No randomization"),
        PossibleValue::new("full").help("Between zero and the computed wait"),
        PossibleValue::new("equal").help("Between half the computed wait and all of it"),
        PossibleValue::new("decorrelated").help("Between the first wait and three times the previous one"),
    ])
    .map(|name| match &*name {
        "full" => Jitter::Full,
        "equal" => Jitter::Equal,
        "decorrelated" => Jitter::Decorrelated,
        _ => Jitter::None,
    })
}

/// Parses `on` or `off`, or `true` or `false` as for the other switches.
pub(crate) fn on_off() -> impl TypedValueParser<Value = bool> {
    let values = [PossibleValue::new("on").alias("true"), PossibleValue::new("off").aliases(["false", "none"])];
    PossibleValuesParser::new(values).map(|name| ["on", "true"].contains(&&*name))
}

/// The `Host` that is sent to the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Host {
    /// The host that the client sent
    Keep,
    /// The host of the upstream's URL; it is replaced by the client's in Location
    Rewrite,
}

/// A command other than serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Command {
    /// Print the schedule of attempts and waits, then exit
    Plan,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_a_negative_timeout_is_off_and_zero_is_an_error() {
        let check = |text: &str, expected| assert_eq!(timeout(text).ok(), expected, "{text}");
        check("2", Some(Limit(Some(Duration::from_secs(2)))));
        check("-1", Some(Limit(None)));
        check("-200ms", Some(Limit(None)));
        check("off", Some(Limit(None)));
        check("none", Some(Limit(None)));
        check("0", None);
        check("0s", None);
        check("soon", None);
        check("-soon", None);
    }

    #[test]
    fn status_codes_are_a_list() {
        let check = |text: &str, expected: Option<&[u16]>| {
            assert_eq!(text.parse::<StatusCodes>().ok().map(|codes| codes.0).as_deref(), expected, "{text}");
        };
        check("", Some(&[]));
        check("off", Some(&[]));
        check("none", Some(&[]));
        check("503", Some(&[503]));
        check("502, 503", Some(&[502, 503]));
        check("502,,503", None);
        check("99", None);
        check("5xx", None);
    }

    #[test]
    fn server_hints_are_a_list_of_header_names() {
        use ServerHint::{RetryAfter, ShouldRetry};
        let check = |text: &str, expected: Option<&[ServerHint]>| {
            assert_eq!(text.parse::<ServerHints>().ok().map(|hints| hints.0).as_deref(), expected, "{text}");
        };
        check("off", Some(&[]));
        check("", Some(&[]));
        check("retry-after", Some(&[RetryAfter]));
        check("X-Should-Retry, retry-after", Some(&[ShouldRetry, RetryAfter]));
        check("retry-after,", None);
        let error = "retry-later".parse::<ServerHints>().unwrap_err();
        let expected = "expected some of retry-after, retry-after-ms, x-amz-retry-after, grpc-retry-pushback-ms, \
                        x-should-retry, separated by commas, or off";
        assert_eq!(error, expected);
    }

    #[test]
    fn grpc_status_codes_are_a_list_of_names_or_numbers() {
        let check = |text: &str, expected: Result<&[GrpcCode], &str>| {
            let codes = text.parse::<GrpcStatusCodes>();
            assert_eq!(codes.as_ref().map(|codes| &*codes.0).map_err(|error| &**error), expected, "{text}");
        };
        check("", Ok(&[]));
        check("off", Ok(&[]));
        check("UNAVAILABLE", Ok(&[GrpcCode::Unavailable]));
        check("unavailable, 8", Ok(&[GrpcCode::Unavailable, GrpcCode::ResourceExhausted]));
        let expected = "expected a name such as UNAVAILABLE, or a number from 0 to 16, or off";
        for (text, unknown) in [("UNAVAILABLE,", ""), ("503", "503"), ("8,AVAILABLE", "AVAILABLE")] {
            check(text, Err(&format!("'{unknown}' is not a gRPC status code: {expected}")));
        }
        check("0", Err("OK is not an error: expected names such as UNAVAILABLE, or numbers from 1 to 16"));
    }

    #[test]
    fn hedging_begins_after_a_percentage_or_a_time() {
        let check = |text: &str, expected| assert_eq!(hedge_after(text).ok(), expected, "{text}");
        check("95%", Some(HedgeAfter::Quantile(0.95)));
        check(" 12.5 % ", Some(HedgeAfter::Quantile(0.125)));
        check("50ms", Some(HedgeAfter::Time(Duration::from_millis(50))));
        check("2", Some(HedgeAfter::Time(Duration::from_secs(2))));
        for nonsense in ["", "%", "0%", "100%", "-5%", "NaN%", "0", "0s", "-50ms", "soon"] {
            check(nonsense, None);
        }
    }

    #[test]
    fn sizes_are_in_bytes_or_in_binary_units() {
        let check = |text: &str, expected| assert_eq!(bytes(text).ok(), expected, "{text}");
        check("0", Some(0));
        check("65536", Some(65536));
        check("64KiB", Some(65536));
        check("1 MiB", Some(1 << 20));
        check("2GiB", Some(2 << 30));
        check("99999999999999999999", None);
        check("18446744073709551615GiB", None);
        for nonsense in ["", "KiB", "64K", "1.5MiB", "-1", "64 kib"] {
            check(nonsense, None);
        }
        assert_eq!(header_size("8191").ok(), None);
        assert_eq!(header_size("8KiB"), Ok(8192));
        assert_eq!(header_size("512KiB"), Ok(524_288));
        assert_eq!(header_size("524289").ok(), None);
    }

    #[test]
    fn threads_are_counted_or_one_per_processor() {
        assert_eq!("4".parse::<ThreadCount>().map(ThreadCount::get), Ok(4));
        assert_eq!(
            "auto".parse::<ThreadCount>().map(ThreadCount::get).ok(),
            thread::available_parallelism().ok().map(NonZero::get)
        );
        for nonsense in ["0", "1025", "-1", "off", ""] {
            assert!(nonsense.parse::<ThreadCount>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn off_and_none_turn_a_setting_off() {
        let read = limit(ratio);
        assert_eq!(read("off"), Ok(Limit(None)));
        assert_eq!(read("none"), Ok(Limit(None)));
        assert_eq!(read("0.2"), Ok(Limit(Some(0.2))));
        for nonsense in ["NaN", "1.1", "-0.1", "x"] {
            assert_eq!(read(nonsense), Err("expected a number from 0 to 1, or off".to_owned()));
        }
    }
}

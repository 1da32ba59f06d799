//! [`DeadlineHeader`]: the time that is left for a request, as a header.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::decimal::decimal;

/// A request header with the time that the client is going to wait, so that the server can give up in time.
///
/// The name decides the format:
///
/// | name | format | example, for 1.5 s |
/// |---|---|---|
/// | `grpc-timeout` | at most 8 digits and a unit, from `n` to `H`: [gRPC over HTTP/2](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md) | `1500000u` |
/// | ends with `-ms`, such as Envoy's `x-envoy-expected-rq-timeout-ms` | whole milliseconds | `1500` |
/// | any other, such as `request-timeout` | whole seconds | `2` |
///
/// Times are rounded up, so that they are never zero, which some servers take for no limit.
///
/// ```
/// use std::time::Duration;
/// use http::HeaderName;
/// use retry_client::DeadlineHeader;
///
/// let header = DeadlineHeader::from(HeaderName::from_static("x-envoy-expected-rq-timeout-ms"));
/// assert_eq!(header.value(Duration::from_micros(1_234_500)), "1235");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadlineHeader {
    name: HeaderName,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Grpc,
    Milliseconds,
    Seconds,
}

impl From<HeaderName> for DeadlineHeader {
    fn from(name: HeaderName) -> Self {
        let format = match name.as_str() {
            "grpc-timeout" => Format::Grpc,
            other if other.ends_with("-ms") => Format::Milliseconds,
            _ => Format::Seconds,
        };
        Self { name, format }
    }
}

impl DeadlineHeader {
    /// Returns the name of the header.
    #[must_use]
    pub fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Returns the value of the header for this time.
    #[must_use]
    pub fn value(&self, left: Duration) -> HeaderValue {
        match self.format {
            Format::Grpc => grpc_timeout(left),
            Format::Milliseconds => whole(left, MILLISECOND).into(),
            Format::Seconds => whole(left, SECOND).into(),
        }
    }

    /// Returns the time in the header of a request. `None` if there is no such header, or if it is not a time above zero.
    /// Seconds and milliseconds may have a fraction.
    #[must_use]
    pub fn read(&self, headers: &HeaderMap) -> Option<Duration> {
        let text = headers.get(&self.name)?.to_str().ok()?.trim();
        let seconds = match self.format {
            Format::Grpc => return parse_grpc_timeout(text).filter(|time| !time.is_zero()),
            Format::Milliseconds => decimal(text)? / 1000.0,
            Format::Seconds => decimal(text)?,
        };
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)).filter(|time| !time.is_zero())
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// The units of `grpc-timeout`.
const GRPC_UNITS: [(char, Duration); 6] = [
    ('n', Duration::from_nanos(1)),
    ('u', Duration::from_micros(1)),
    ('m', MILLISECOND),
    ('S', SECOND),
    ('M', Duration::from_secs(60)),
    ('H', Duration::from_secs(60 * 60)),
];
const GRPC_MAX_DIGITS: usize = 8;
const GRPC_MAX: u64 = 99_999_999;

/// Returns how many of these units a time takes, rounded up; at least one.
fn whole(time: Duration, unit: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(unit.as_nanos())).unwrap_or(u64::MAX).max(1)
}

/// Uses the finest unit that fits.
fn grpc_timeout(left: Duration) -> HeaderValue {
    let mut numbers = GRPC_UNITS.iter().map(|(name, unit)| (*name, whole(left, *unit)));
    let (unit, number) = numbers.find(|(_, number)| *number <= GRPC_MAX).unwrap_or(('H', GRPC_MAX));
    // Digits and a letter are always a valid value.
    HeaderValue::try_from(format!("{number}{unit}")).unwrap_or_else(|_| HeaderValue::from_static("1n"))
}

fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let (_, unit) = GRPC_UNITS.iter().find(|(name, _)| unit.starts_with(*name))?;
    let is_plain = digits.len() <= GRPC_MAX_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u32 = digits.parse().ok().filter(|_| is_plain)?;
    Some(*unit * number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ENVOY: &str = "x-envoy-expected-rq-timeout-ms";

    fn header(name: &'static str) -> DeadlineHeader {
        HeaderName::from_static(name).into()
    }

    fn read(name: &'static str, value: &str) -> Option<Duration> {
        let name_and_value = (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        header(name).read(&HeaderMap::from_iter([name_and_value]))
    }

    #[test]
    fn values_are_rounded_up_and_never_zero() {
        let check = |nanos, grpc: &str, millis: &str, secs: &str| {
            let left = Duration::from_nanos(nanos);
            assert_eq!(header("grpc-timeout").value(left), grpc);
            assert_eq!(header(ENVOY).value(left), millis);
            assert_eq!(header("request-timeout").value(left), secs);
        };
        check(0, "1n", "1", "1");
        check(1, "1n", "1", "1");
        check(99_999_999, "99999999n", "100", "1");
        check(100_000_000, "100000u", "100", "1");
        check(100_000_001, "100001u", "101", "1");
        check(1_500_000_000, "1500000u", "1500", "2");
        check(99_999_999_000, "99999999u", "100000", "100");
        check(99_999_999_001, "100000m", "100000", "100");
        check(60_000_000_000_000, "60000000m", "60000000", "60000");
        check(u64::MAX, "5124096H", "18446744073710", "18446744074");
    }

    #[test]
    fn grpc_timeouts_beyond_eight_digits_have_a_coarser_unit() {
        let check = |seconds, expected: &str| {
            assert_eq!(header("grpc-timeout").value(Duration::from_secs(seconds)), expected);
        };
        check(99_999, "99999000m");
        check(100_000, "100000S");
        check(99_999_999, "99999999S");
        check(100_000_000, "1666667M");
        check(u64::MAX, "99999999H");
    }

    #[test]
    fn grpc_timeouts_are_read() {
        let check = |value: &str, expected| assert_eq!(read("grpc-timeout", value), expected, "{value:?}");
        check("5n", Some(Duration::from_nanos(5)));
        check("5u", Some(Duration::from_micros(5)));
        check("5m", Some(Duration::from_millis(5)));
        check("5S", Some(Duration::from_secs(5)));
        check("5M", Some(Duration::from_secs(5 * 60)));
        check("5H", Some(Duration::from_secs(5 * 3600)));
        check(" 99999999H ", Some(Duration::from_secs(99_999_999 * 3600)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        for invalid in ["", "S", "5", "5s", "-5S", "+5S", "5 S", "0S", "000000001S", "1.5S", "5\u{a0}", "٣S", "soon"] {
            check(invalid, None);
        }
    }

    #[test]
    fn seconds_and_milliseconds_are_read() {
        let check = |value: &str, millis, secs| {
            assert_eq!(read(ENVOY, value), millis, "{value:?}");
            assert_eq!(read("request-timeout", value), secs, "{value:?}");
        };
        check("5", Some(Duration::from_millis(5)), Some(Duration::from_secs(5)));
        check("1.5", Some(Duration::from_micros(1500)), Some(Duration::from_millis(1500)));
        check(&"9".repeat(400), Some(Duration::MAX), Some(Duration::MAX));
        for invalid in ["", "0", "0.0", "-1", "+1", "1e3", "inf", "5S", "soon"] {
            check(invalid, None, None);
        }
        assert_eq!(header(ENVOY).read(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn no_value_panics_or_is_zero(value in prop_oneof!["[0-9]{0,30}[.]?[0-9]{0,9}[HMSmun]?", "[^\u{0}-\u{1f}\u{7f}]{0,20}"]) {
            for name in ["grpc-timeout", ENVOY, "request-timeout"] {
                prop_assert_ne!(read(name, &value), Some(Duration::ZERO));
            }
        }

        #[test]
        fn a_time_is_read_as_it_was_written_rounded_up(nanos in 1..100_000_000_000_000_000_u64) {
            const TOLERANCE: Duration = Duration::from_micros(1); // a fraction of milliseconds is not exact
            let left = Duration::from_nanos(nanos);
            for (name, unit) in [("grpc-timeout", left / 10_000), (ENVOY, MILLISECOND), ("request-timeout", SECOND)] {
                let header = header(name);
                let read = header.read(&HeaderMap::from_iter([(header.name().clone(), header.value(left))])).unwrap();
                prop_assert!(left <= read + TOLERANCE && read <= left + unit + TOLERANCE, "{name}: {read:?}");
            }
        }
    }
}

//! What settings are made of: each reads itself from text, and says what is allowed where it can't.

use std::{fmt, str::FromStr, time::Duration};

use clap::ValueEnum;
use http::{StatusCode, uri::PathAndQuery};
use retry_client::{RetryMethods, retry_core::Jitter};

use crate::{
    common::{duration, listen::ListenAddress},
    gateway,
};

/// The backend's URL as it was given; its debug output hides it, as it may have a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Upstream(pub(crate) String);

impl From<&str> for Upstream {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstream(…)")
    }
}

/// What turns a setting off.
pub(crate) fn is_off(text: &str) -> bool {
    ["off", "none"].contains(&text.trim())
}

/// A setting that can be turned off: `off` (or `none`), or a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit<T>(pub Option<T>);

/// Reads `off`, or else what `parse` reads.
pub(crate) fn limit<T, E: fmt::Display>(
    parse: impl Fn(&str) -> Result<T, E> + Clone,
) -> impl Fn(&str) -> Result<Limit<T>, String> + Clone {
    move |text| match text.trim() {
        text if is_off(text) => Ok(Limit(None)),
        text => parse(text).map(|value| Limit(Some(value))).map_err(|error| format!("{error}, or off")),
    }
}

/// Reads the idle timeout, for which a negative value is off, as Ballerina has it.
pub(crate) fn timeout(text: &str) -> Result<Limit<Duration>, String> {
    let parsed = match text.trim().strip_prefix('-') {
        Some(negative) => duration::parse(negative).map(|_off| None),
        None if is_off(text) => Ok(None),
        None => duration::parse(text).map(Some),
    };
    match parsed {
        Ok(Some(Duration::ZERO)) => Err("allowed is more than zero, or a negative value for no timeout".to_owned()),
        Ok(timeout) => Ok(Limit(timeout)),
        Err(error) => Err(format!("{error}, or a negative value for no timeout")),
    }
}

/// Reads a time above zero.
pub(crate) fn above_zero(text: &str) -> Result<Duration, String> {
    let duration = duration::parse(text).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        return Err("allowed is more than zero".to_owned());
    }
    Ok(duration)
}

/// Reads a number of bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.
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

const BYTES: &str = "allowed is a number of bytes such as 65536, 64KiB or 1MiB";

/// Reads the limit on the head of a request.
pub(crate) fn header_size(text: &str) -> Result<usize, &'static str> {
    const LEAST: usize = 8 * 1024;
    match bytes(text) {
        Ok(size) if size >= LEAST => Ok(size),
        _ => Err("allowed is a number of bytes from 8KiB up"),
    }
}

/// Reads a number of things of which there has to be one.
pub(crate) fn at_least_one(text: &str) -> Result<usize, &'static str> {
    // The most that a semaphore can count.
    const MOST: usize = usize::MAX >> 3;
    text.parse().ok().filter(|number| (1..=MOST).contains(number)).ok_or("allowed is a whole number from 1 up")
}

/// Reads the share of calls that retries may add.
pub(crate) fn ratio(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or("allowed is a number from 0 to 1")
}

/// Reads a whole number of retries.
pub(crate) fn count(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "allowed is a whole number from 0 to 4294967295")
}

/// Reads the path of the sample's request.
pub(crate) fn path(text: &str) -> Result<String, &'static str> {
    let valid = text.starts_with('/') && text.parse::<PathAndQuery>().is_ok();
    valid.then(|| text.to_owned()).ok_or("allowed is a path that starts with /, such as /hello")
}

/// Statuses to retry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusCodes(pub(crate) Vec<u16>);

impl StatusCodes {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for StatusCodes {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim().is_empty() || is_off(text) {
            return Ok(Self(Vec::new()));
        }
        let code = |code: &str| code.trim().parse().ok().filter(|code| StatusCode::from_u16(*code).is_ok());
        let codes: Option<_> = text.split(',').map(code).collect();
        codes.map(Self).ok_or("allowed are codes from 100 to 999, such as 502,503")
    }
}

/// Which methods are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Methods {
    /// GET, HEAD, OPTIONS, TRACE, PUT and DELETE
    Idempotent,
    /// Every method
    All,
}

impl From<Methods> for RetryMethods {
    fn from(methods: Methods) -> Self {
        match methods {
            Methods::Idempotent => Self::Idempotent,
            Methods::All => Self::All,
        }
    }
}

/// How waits are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Spread {
    /// Each wait as long as computed
    #[value(alias = "off")]
    None,
    /// From zero to the wait computed
    Full,
    /// From half the wait computed to all of it
    Equal,
    /// From the first wait to three times the one before
    Decorrelated,
}

impl From<Spread> for Jitter {
    fn from(spread: Spread) -> Self {
        match spread {
            Spread::None => Self::None,
            Spread::Full => Self::Full,
            Spread::Equal => Self::Equal,
            Spread::Decorrelated => Self::Decorrelated,
        }
    }
}

/// Which headers tell the upstream of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Forwarded {
    /// X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto
    XForwarded,
    /// Forwarded (RFC 7239)
    Forwarded,
    /// None, and none of those that came
    #[value(alias = "none")]
    Off,
}

impl From<Forwarded> for gateway::Forwarded {
    fn from(forwarded: Forwarded) -> Self {
        match forwarded {
            Forwarded::XForwarded => Self::XForwarded,
            Forwarded::Forwarded => Self::Standard,
            Forwarded::Off => Self::Off,
        }
    }
}

/// Which `Host` the upstream gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Host {
    /// The one that the caller sent
    Keep,
    /// Its own, from its URL; URLs with that in Location are turned back
    Rewrite,
}

/// Whether something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is
    On,
    /// It is not
    #[value(alias = "none")]
    Off,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// As in the sample
    Sample,
    /// A JSON object on each line
    Json,
}

/// Reads an address, or a port on this machine alone.
pub(crate) fn admin(text: &str) -> Result<ListenAddress, &'static str> {
    let loopback = text.parse::<u16>().map(|port| format!("127.0.0.1:{port}"));
    let address = loopback.as_deref().unwrap_or(text);
    address.parse().map_err(|_| "allowed is a port, or HOST:PORT such as 127.0.0.1:9091")
}

/// What the program is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Command {
    /// Print what the policy will do, and end
    Plan,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parity_a_negative_timeout_is_off_and_zero_is_refused() {
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
    }

    #[test]
    fn a_port_alone_is_for_this_machine_alone() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(admin(text).ok().map(|address| address.to_string()).as_deref(), expected, "{text}");
        };
        check("9091", Some("127.0.0.1:9091"));
        check("0.0.0.0:9091", Some("0.0.0.0:9091"));
        check("65536", None);
        check(":9091", None);
    }

    #[test]
    fn what_can_be_off_says_so() {
        let read = limit(ratio);
        assert_eq!(read("off"), Ok(Limit(None)));
        assert_eq!(read("none"), Ok(Limit(None)));
        for off in ["off", "none"] {
            assert_eq!(Spread::from_str(off, false), Ok(Spread::None));
            assert_eq!(Forwarded::from_str(off, false), Ok(Forwarded::Off));
            assert_eq!(Switch::from_str(off, false), Ok(Switch::Off));
        }
        assert_eq!(read("0.2"), Ok(Limit(Some(0.2))));
        for nonsense in ["NaN", "1.1", "-0.1", "x"] {
            assert_eq!(read(nonsense), Err("allowed is a number from 0 to 1, or off".to_owned()));
        }
    }
}

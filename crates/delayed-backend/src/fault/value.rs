//! The values of behaviors in a script, such as `503` in `status=503`.

use std::time::Duration;

use h2::Reason;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::common::duration;
use crate::fault::{Behavior, Delay, TlsFault, duration_text};

/// The type of a value, with the function that adds the value to a behavior.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    None(fn(&mut Behavior)),
    Bytes(fn(&mut Behavior, u64)),
    LimitedBytes(fn(&mut Behavior, u32)),
    Count(fn(&mut Behavior, u64)),
    Rate(fn(&mut Behavior, u64)),
    Duration(fn(&mut Behavior, Duration)),
    Delay(fn(&mut Behavior, Delay)),
    Status(fn(&mut Behavior, StatusCode)),
    Field(fn(&mut Behavior, HeaderValue)),
    Header(fn(&mut Behavior, HeaderName, HeaderValue)),
    Text(fn(&mut Behavior, String)),
    Code(fn(&mut Behavior, Reason)),
    Tls(fn(&mut Behavior, TlsFault)),
}

impl Value {
    /// Returns what a valid value is, for error messages.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::None(_) => "no value",
            Self::Bytes(_) => "a number of bytes, such as 100, 64KiB or 1MiB",
            Self::LimitedBytes(_) => "a number of bytes from 1 to 16MiB",
            Self::Count(_) => "a whole number from 1 up",
            Self::Rate(_) => "a number of bytes per second, at least 1, such as 50KiB/s",
            Self::Duration(_) => {
                "a duration such as 3s, 200ms or 1m 30s, or a number of seconds; negative ones are invalid"
            }
            Self::Delay(_) => {
                "a duration such as 3s, 200ms or 1m 30s, a number of seconds, or a range such as 10ms..50ms"
            }
            Self::Status(_) => "a status from 200 to 599, such as status=503",
            Self::Field(_) => "the value of a header field, such as retry-after=2; a value with a comma needs quotes",
            Self::Header(_) => {
                "a header field such as header=Location: /x; content-length and transfer-encoding depend on the body"
            }
            Self::Text(_) => "text, such as body=\"try later\"",
            Self::Code(_) => "an error code of HTTP/2, such as rst=CANCEL or rst=0x8; the RST of TCP is reset",
            Self::Tls(_) => "one of expired, wrong-name, untrusted, stall",
        }
    }

    /// Returns whether a value is any text.
    pub(crate) fn is_text(self) -> bool {
        matches!(self, Self::Field(_) | Self::Header(_) | Self::Text(_))
    }

    /// Parses a value and adds it to a behavior. Returns the value in its usual form, or `None` if it is invalid.
    pub(crate) fn add(self, to: &mut Behavior, text: Option<&str>) -> Option<String> {
        let text = match (self, text) {
            (Self::None(add), None) => {
                add(to);
                return Some(String::new());
            }
            (_, text) => text?,
        };
        match self {
            Self::None(_) => return None,
            Self::Bytes(add) => add(to, bytes(text)?),
            Self::LimitedBytes(add) => {
                add(to, bytes(text)?.try_into().ok().filter(|bytes| (1..=16 << 20).contains(bytes))?);
            }
            Self::Count(add) => add(to, text.parse().ok().filter(|count| *count > 0)?),
            Self::Rate(add) => add(to, bytes(text.strip_suffix("/s")?).filter(|rate| *rate > 0)?),
            Self::Duration(add) => {
                let duration = duration::parse(text).ok()?;
                add(to, duration);
                return Some(duration_text(duration));
            }
            Self::Delay(add) => add(to, delay(text)?),
            Self::Status(add) => {
                add(to, text.parse().ok().filter(|status: &StatusCode| (200..600).contains(&status.as_u16()))?);
            }
            Self::Field(add) => add(to, HeaderValue::from_str(text).ok()?),
            Self::Header(add) => {
                let (name, value) = header_field(text)?;
                let text = format!("{}: {}", text.split(':').next()?.trim(), value.to_str().ok()?);
                add(to, name, value);
                return Some(text);
            }
            Self::Text(add) => add(to, text.to_owned()),
            Self::Code(add) => add(to, code(text)?),
            Self::Tls(add) => add(to, tls_fault(text)?),
        }
        Some(text.to_owned())
    }
}

/// Parses a number of bytes: `100`, `64KiB`, `1MiB`, `1GiB`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = match unit.trim() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Parses a duration, or two with `..` between them.
fn delay(text: &str) -> Option<Delay> {
    let duration = |text| duration::parse(text).ok();
    match text.split_once("..") {
        None => duration(text).map(Delay::For),
        Some((low, high)) => {
            let (low, high) = (duration(low)?, duration(high)?);
            (low <= high).then_some(Delay::Between(low, high))
        }
    }
}

/// Parses `name: value`. hyper derives the framing of the body from its length, so that those fields are rejected.
fn header_field(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    let name: HeaderName = name.trim().parse().ok()?;
    let value = HeaderValue::from_str(value.trim()).ok()?;
    (![header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(&name)).then_some((name, value))
}

/// Parses an error code of HTTP/2: its name, or its number in hexadecimal (RFC 9113, section 7).
fn code(text: &str) -> Option<Reason> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u32::from_str_radix(digits, 16).ok().map(Reason::from);
    }
    let mut names = (0..=13).map(Reason::from);
    names.find(|code| format!("{code:?}").eq_ignore_ascii_case(text))
}

fn tls_fault(text: &str) -> Option<TlsFault> {
    TlsFault::ALL.into_iter().find(|fault| fault.name() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("64KiB", Some(65536)),
            ("1 MiB", Some(1 << 20)),
            ("2GiB", Some(2 << 30)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18014398509481984KiB", None),
            ("64K", None),
            ("1.5MiB", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn codes_have_names_and_numbers() {
        for (text, expected) in [
            ("NO_ERROR", Some(0)),
            ("cancel", Some(8)),
            ("HTTP_1_1_REQUIRED", Some(13)),
            ("0x8", Some(8)),
            ("0xffff", Some(0xffff)),
            ("8", None),
            ("0x", None),
            ("", None),
        ] {
            assert_eq!(code(text).map(u32::from), expected, "{text}");
        }
    }
}

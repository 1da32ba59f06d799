//! The values that a script gives to behaviours, such as the `503` of `status=503`.

use std::time::Duration;

use http::{HeaderValue, StatusCode};
use jiff::fmt::friendly::SpanPrinter;

use crate::common::duration;

/// The largest size of header fields.
const MAX_HEADERS: u32 = 16 << 20;

/// A type of values.
pub(crate) trait Value: Sized {
    /// What is expected, as an error message names it.
    const EXPECTED: &'static str;

    /// Reads a value. Returns `None` if it is invalid.
    fn parse(text: &str) -> Option<Self>;

    /// Returns the text that [`parse`](Self::parse) reads as the same value.
    fn to_text(&self) -> String;
}

/// The result of reading a value: its text in a script, if there is one, or what is expected.
pub(crate) type Parsed = Result<Option<String>, &'static str>;

/// Rejects any value.
pub(crate) fn none(text: Option<&str>) -> Parsed {
    match text {
        Some(_) => Err("no value"),
        None => Ok(None),
    }
}

/// Reads a value that has to be given.
pub(crate) fn required<V: Value>(text: Option<&str>, set: impl FnOnce(V)) -> Parsed {
    let value = text.and_then(V::parse).ok_or(V::EXPECTED)?;
    let text = value.to_text();
    set(value);
    Ok(Some(text))
}

/// Reads a value that may be left out.
pub(crate) fn optional<V: Value>(text: Option<&str>, set: impl FnOnce(Option<V>)) -> Parsed {
    match text {
        Some(_) => required(text, |value| set(Some(value))),
        None => {
            set(None);
            Ok(None)
        }
    }
}

/// Reads a value that has a default.
pub(crate) fn or_default<V: Value>(text: Option<&str>, default: &str, set: impl FnOnce(V)) -> Parsed {
    required(text.or(Some(default)), set)
}

/// A number of bytes.
impl Value for u64 {
    const EXPECTED: &'static str = "a number of bytes, such as 100";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

/// The size of header fields, in bytes.
impl Value for u32 {
    const EXPECTED: &'static str = "a number of bytes from 1 to 16777216";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|bytes| (1..=MAX_HEADERS).contains(bytes))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Value for Duration {
    const EXPECTED: &'static str = "a duration such as 3s, 200ms or 1m 30s, or a number of seconds";

    fn parse(text: &str) -> Option<Self> {
        duration::parse(text).ok()
    }

    fn to_text(&self) -> String {
        SpanPrinter::new().unsigned_duration_to_string(self)
    }
}

impl Value for StatusCode {
    const EXPECTED: &'static str = "a status from 200 to 599, such as status=503";

    fn parse(text: &str) -> Option<Self> {
        let status = Self::from_bytes(text.as_bytes()).ok()?;
        (200..600).contains(&status.as_u16()).then_some(status)
    }

    fn to_text(&self) -> String {
        self.as_str().to_owned()
    }
}

/// The value of a header field.
impl Value for HeaderValue {
    const EXPECTED: &'static str = "a valid field value, such as retry-after=2; one with a comma needs quotes";

    fn parse(text: &str) -> Option<Self> {
        Self::from_str(text).ok()
    }

    fn to_text(&self) -> String {
        quoted(&String::from_utf8_lossy(self.as_bytes()))
    }
}

/// The text of a body.
impl Value for String {
    const EXPECTED: &'static str = "a text, such as body=\"try later\"";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn to_text(&self) -> String {
        quoted(self)
    }
}

/// Puts a text in quotes if a script would misread it without.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-+.:/_".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("\"{text}\"") }
}

//! The values of behaviours in a script, such as `503` in `status=503`.

use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::common::duration;
use crate::fault::{Behaviour, duration_text};

/// The type of a value, with the function that adds the value to a behaviour.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    None(fn(&mut Behaviour)),
    Bytes(fn(&mut Behaviour, u64)),
    HeaderBytes(fn(&mut Behaviour, u32)),
    Duration(fn(&mut Behaviour, Duration)),
    Status(fn(&mut Behaviour, StatusCode)),
    Field(fn(&mut Behaviour, HeaderValue)),
    Text(fn(&mut Behaviour, String)),
}

impl Value {
    /// Returns what a valid value is, for error messages.
    pub(crate) fn expected(self) -> &'static str {
        match self {
            Self::None(_) => "no value",
            Self::Bytes(_) => "a number of bytes, such as 100",
            Self::HeaderBytes(_) => "a number of bytes from 1 to 16777216",
            Self::Duration(_) => {
                "a duration such as 3s, 200ms or 1m 30s, or a number of seconds; negative ones are invalid"
            }
            Self::Status(_) => "a status from 200 to 599, such as status=503",
            Self::Field(_) => "the value of a header field, such as retry-after=2; a value with a comma needs quotes",
            Self::Text(_) => "text, such as body=\"try later\"",
        }
    }

    /// Parses a value and adds it to a behaviour. Returns the text that follows the name in a script, or `None` if the
    /// value is invalid.
    pub(crate) fn add(self, to: &mut Behaviour, text: Option<&str>) -> Option<String> {
        match (self, text) {
            (Self::None(add), None) => add(to),
            (Self::Bytes(add), Some(text)) => add(to, text.parse().ok()?),
            (Self::HeaderBytes(add), Some(text)) => {
                add(to, text.parse().ok().filter(|bytes| (1..=16 << 20).contains(bytes))?);
            }
            (Self::Duration(add), Some(text)) => {
                let duration = duration::parse(text).ok()?;
                add(to, duration);
                return Some(format!("={}", duration_text(duration)));
            }
            (Self::Status(add), Some(text)) => {
                add(to, text.parse().ok().filter(|status: &StatusCode| (200..600).contains(&status.as_u16()))?);
            }
            (Self::Field(add), Some(text)) => add(to, HeaderValue::from_str(text).ok()?),
            (Self::Text(add), Some(text)) => add(to, text.to_owned()),
            _ => return None,
        }
        Some(text.map_or_else(String::new, |text| format!("={}", quoted(text))))
    }
}

/// Formats a text as in a script, with quotes if it needs them.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-+.:/_".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("\"{text}\"") }
}

//! Arbitrary bytes as `Retry-After`: parsing never panics, and seconds have their value.
#![no_main]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, header::RETRY_AFTER};
use libfuzzer_sys::fuzz_target;

// The parser is private to its crate, so its file is included here.
#[path = "../../crates/retry-client/src/retry/retry_after.rs"]
mod parser;

// The first four bytes are the current time, up to the year 2106. Each line after them is a header.
fuzz_target!(|input: (u32, &[u8])| {
    let (seconds, lines) = input;
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.into());
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').take(16) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(RETRY_AFTER, value);
        }
    }
    let found = parser::retry_after(&headers, now);
    assert_eq!(found, parser::retry_after(&headers, now), "the same twice");

    let first = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim);
    let Some(first) = first else { return };
    if first.is_empty() || !first.bytes().all(|byte| byte.is_ascii_digit()) {
        return;
    }
    // Computed independently of the parser.
    let counted = first.bytes().fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add((digit - b'0').into()));
    assert_eq!(found, Some(Duration::from_secs(counted)), "{first:?}");
});

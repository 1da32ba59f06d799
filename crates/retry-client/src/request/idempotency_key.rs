//! `Idempotency-Key`, by which a server recognizes a repeated request. IETF draft "The Idempotency-Key HTTP Header Field".

use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Adds a key to a request that has none: a random UUID, as servers expect.
pub(crate) fn ensure(headers: &mut HeaderMap, random: u128) {
    // A UUID is always a valid header value.
    if let Ok(key) = HeaderValue::try_from(uuid(random)) {
        headers.entry(IDEMPOTENCY_KEY).or_insert(key);
    }
}

/// Formats random bits as a version 4 UUID: RFC 9562, section 5.4.
fn uuid(random: u128) -> String {
    let version = (random & !(0xf << 76)) | 0x4 << 76;
    let bits = (version & !(0x3 << 62)) | 0x2 << 62;
    let digits = format!("{bits:032x}");
    let groups = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    groups.map(|(from, to)| digits.get(from..to).unwrap_or_default()).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_version_4_uuids() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(uuid(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef), "01234567-89ab-4def-8123-456789abcdef");
    }

    #[test]
    fn an_existing_key_is_kept() {
        let mut headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_static("mine"))]);
        ensure(&mut headers, 0);
        assert_eq!(headers[IDEMPOTENCY_KEY], "mine");
    }
}

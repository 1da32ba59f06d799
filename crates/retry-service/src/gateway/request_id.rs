//! `X-Request-Id`: identifies a request in the logs of every service that it passes through.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LENGTH: usize = 128;

/// Returns the id of a request: the one that it has if a trusted proxy sent it, or else a new one.
pub(super) fn of(headers: &HeaderMap, is_trusted: bool) -> HeaderValue {
    let received = if is_trusted { received(headers) } else { None };
    received.cloned().unwrap_or_else(generate)
}

/// Returns the id that a request has; `None` if there is none, more than one, or one that does not belong in a log.
fn received(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut ids = headers.get_all(X_REQUEST_ID).iter();
    let (id, None) = (ids.next()?, ids.next()) else { return None };
    is_loggable(id.as_bytes()).then_some(id)
}

/// Returns a new random id.
fn generate() -> HeaderValue {
    // `from_owner` allocates shared storage at once: the value is always cloned. Hexadecimal digits are always valid.
    let id = HeaderValue::from_maybe_shared(Bytes::from_owner(hexadecimal(fastrand::u128(..))));
    id.unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// Formats like `{number:032x}`, in a tenth of the time.
fn hexadecimal(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (position, digit) in digits.iter_mut().rev().enumerate() {
        let nibble = (number >> (4 * position)) as u8 & 0xf;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    digits
}

fn is_loggable(id: &[u8]) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trusted_id_is_kept_if_it_is_loggable() {
        let check = |sent: &[&str], is_trusted, kept| {
            let mut headers = HeaderMap::new();
            for id in sent {
                headers.append(X_REQUEST_ID, HeaderValue::from_str(id).unwrap());
            }
            let id = of(&headers, is_trusted);
            assert_eq!(sent.iter().any(|sent| id == sent), kept, "{sent:?}");
        };
        check(&["abc-123"], true, true);
        check(&["abc-123"], false, false);
        check(&["abc-123", "abc-124"], true, false);
        check(&[&"x".repeat(MAX_LENGTH)], true, true);
        check(&[""], true, false);
        check(&["a b"], true, false);
        check(&[&"x".repeat(MAX_LENGTH + 1)], true, false);
    }

    #[test]
    fn digits_are_those_of_format() {
        for number in [0, 1, 0xabc_def0, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            assert_eq!(hexadecimal(number), *format!("{number:032x}").as_bytes());
        }
    }

    #[test]
    fn each_request_without_an_id_gets_its_own() {
        let (one, other) = (of(&HeaderMap::new(), true), of(&HeaderMap::new(), true));
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}

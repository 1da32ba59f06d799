//! The id by which one request is known in every log it passes.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::{X_REQUEST_ID, marks::Marks};

const LONGEST: usize = 128;

/// The id that a trusted peer sends, if it is one and fit for a log, or else a new one.
pub(crate) fn keep_or_make(headers: &HeaderMap, marks: Marks, trusted: bool) -> HeaderValue {
    if marks.x_request_id && trusted {
        let mut given = headers.get_all(X_REQUEST_ID).iter();
        if let (Some(id), None) = (given.next(), given.next())
            && is_fit(id.as_bytes())
        {
            return id.clone();
        }
    }
    // In one piece from the start, as it is shared at once. Hexadecimal digits are always a valid value.
    let id = HeaderValue::from_maybe_shared(Bytes::from_owner(hexadecimal(fastrand::u128(..))));
    id.unwrap_or_else(|_| HeaderValue::from_static("none"))
}

/// What `format!` does in ten times the time, for every request.
fn hexadecimal(number: u128) -> [u8; 32] {
    let mut digits = [0; 32];
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        let nibble = (number >> (4 * place)) as u8 & 0xf;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    digits
}

fn is_fit(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trusted_peers_id_is_kept_if_it_is_fit_for_a_log() {
        let check = |given: &[&str], trusted, kept| {
            let mut headers = HeaderMap::new();
            for id in given {
                headers.append(X_REQUEST_ID, HeaderValue::from_str(id).unwrap());
            }
            let id = keep_or_make(&headers, Marks::of(&headers), trusted);
            assert_eq!(given.iter().any(|given| id == given), kept, "{given:?}");
        };
        check(&["abc-123"], true, true);
        check(&["abc-123"], false, false);
        check(&["abc-123", "abc-124"], true, false);
        check(&[&"x".repeat(LONGEST)], true, true);
        check(&[""], true, false);
        check(&["a b"], true, false);
        check(&[&"x".repeat(LONGEST + 1)], true, false);
    }

    #[test]
    fn digits_are_those_of_format() {
        for number in [0, 1, 0xabc_def0, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            assert_eq!(hexadecimal(number), *format!("{number:032x}").as_bytes());
        }
    }

    #[test]
    fn each_request_without_one_gets_its_own() {
        let make = || keep_or_make(&HeaderMap::new(), Marks::default(), true);
        let (one, other) = (make(), make());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}

//! The id by which one request is known in every log it passes.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::{X_REQUEST_ID, marks::Marks};

const LONGEST: usize = 128;

/// The caller's id where it is fit for a log, or else a new one; it is in the headers afterwards.
pub(crate) fn keep_or_make(headers: &mut HeaderMap, marks: Marks) -> HeaderValue {
    let given = if marks.x_request_id { headers.get(X_REQUEST_ID) } else { None };
    if let Some(id) = given.filter(|id| is_fit(id.as_bytes())) {
        return id.clone();
    }
    // In one piece from the start, as it is shared at once. Hexadecimal digits are always a valid value.
    let id = HeaderValue::from_maybe_shared(Bytes::from_owner(hexadecimal(fastrand::u128(..))));
    let id = id.unwrap_or_else(|_| HeaderValue::from_static("none"));
    headers.insert(X_REQUEST_ID, id.clone());
    id
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
    fn a_callers_id_is_kept_where_it_is_fit_for_a_log() {
        let check = |given: &str, kept| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(given).unwrap());
            let marks = Marks::of(&headers);
            let id = keep_or_make(&mut headers, marks);
            assert_eq!(id == given, kept, "{given}");
            assert_eq!(headers[X_REQUEST_ID], id);
        };
        check("abc-123", true);
        check(&"x".repeat(LONGEST), true);
        check("", false);
        check("a b", false);
        check(&"x".repeat(LONGEST + 1), false);
    }

    #[test]
    fn digits_are_those_of_format() {
        for number in [0, 1, 0xabc_def0, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677] {
            assert_eq!(hexadecimal(number), *format!("{number:032x}").as_bytes());
        }
    }

    #[test]
    fn each_request_without_one_gets_its_own() {
        let make = || keep_or_make(&mut HeaderMap::new(), Marks::default());
        let (one, other) = (make(), make());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}

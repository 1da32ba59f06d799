//! Checks the head of a response: what it announces of its body has to be one thing. RFC 9112, section 6.
//!
//! Whoever passes such a head on would otherwise announce something else than was received. nginx, Envoy and Node refuse
//! the same.

use std::str;

use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};

/// The largest head, in bytes. nginx takes 4 or 8 KiB unless told otherwise.
pub(crate) const MAX_SIZE: usize = 64 * 1024;

/// The most fields: as many as there may be in 8 KiB of them that are short.
pub(crate) const MAX_FIELDS: usize = 1000;

/// Why a head is refused: it contradicts itself, is beyond the limits, or names a coding that would have to be undone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHead {
    #[error("it has both Content-Length and Transfer-Encoding")]
    TwoLengths,
    #[error("its Transfer-Encoding is {0:?}: expected chunked, once")]
    TransferCoding(String),
    #[error("its Content-Length is {0:?}: expected one number")]
    Length(String),
    #[error("it is larger than {} KiB, or has more than {MAX_FIELDS} fields", MAX_SIZE / 1024)]
    TooLarge,
    #[error("it is malformed, or larger than {} KiB", MAX_SIZE / 1024)]
    Malformed,
}

/// Checks how a response announces the end of its body, and leaves its `Content-Length` as one canonical number.
pub(crate) fn check(headers: &mut HeaderMap) -> Result<(), BadHead> {
    if headers.contains_key(TRANSFER_ENCODING) {
        let coding = list(headers, TRANSFER_ENCODING);
        if !coding.eq_ignore_ascii_case("chunked") {
            return Err(BadHead::TransferCoding(coding));
        }
        if headers.contains_key(CONTENT_LENGTH) {
            return Err(BadHead::TwoLengths);
        }
        return Ok(());
    }
    match headers.get(CONTENT_LENGTH) {
        None => Ok(()),
        Some(length) if is_canonical(length.as_bytes()) && headers.get_all(CONTENT_LENGTH).iter().nth(1).is_none() => {
            Ok(())
        }
        Some(_) => {
            let announced = list(headers, CONTENT_LENGTH);
            let length = one_number(&announced).ok_or(BadHead::Length(announced))?;
            headers.insert(CONTENT_LENGTH, length.into());
            Ok(())
        }
    }
}

/// Removes white space around values, which HTTP/2 lets pass (RFC 9113, section 8.2.1) and HTTP/1.1 would not have.
pub(crate) fn trim_values(headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        let trimmed = value.as_bytes().trim_ascii();
        if trimmed.len() < value.len()
            && let Ok(trimmed) = HeaderValue::from_bytes(trimmed)
        {
            *value = trimmed;
        }
    }
}

/// The values of a field as one list.
fn list(headers: &HeaderMap, name: http::HeaderName) -> String {
    let values = headers.get_all(name);
    let values: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(", ").trim().to_owned()
}

fn is_canonical(length: &[u8]) -> bool {
    let starts_well = matches!(length, [b'0'] | [b'1'..=b'9', ..]);
    starts_well && str::from_utf8(length).is_ok_and(|length| length.parse::<u64>().is_ok())
}

/// The number that all members of a list are. RFC 9110, section 8.6, allows to take a list of the same number for it.
fn one_number(list: &str) -> Option<u64> {
    let mut numbers = list.split(',').map(|number| {
        let number = number.trim();
        // `parse` would allow a plus.
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<u64>().ok()).flatten()
    });
    let first = numbers.next()??;
    numbers.all(|number| number == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_announces_one_end_of_its_body() {
        let check = |headers: &[(&'static str, &'static str)], expected: Result<&str, BadHead>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            let checked = check(&mut map).map(|()| list(&map, CONTENT_LENGTH));
            assert_eq!(checked, expected.map(str::to_owned), "{headers:?}");
        };
        let coding = |text: &str| Err(BadHead::TransferCoding(text.to_owned()));
        let length = |text: &str| Err(BadHead::Length(text.to_owned()));
        check(&[], Ok(""));
        check(&[("content-length", "3")], Ok("3"));
        check(&[("content-length", "0")], Ok("0"));
        check(&[("content-length", "036")], Ok("36"));
        check(&[("content-length", "00")], Ok("0"));
        check(&[("content-length", "3"), ("content-length", "3")], Ok("3"));
        check(&[("content-length", "5, 5")], Ok("5"));
        check(&[("content-length", "5,05")], Ok("5"));
        check(&[("content-length", "3"), ("content-length", "4")], length("3, 4"));
        check(&[("content-length", "3,4")], length("3,4"));
        for nonsense in ["", "x", "+3", "-3", "0x3", "3 3", "3,", "18446744073709551616"] {
            check(&[("content-length", nonsense)], length(nonsense));
        }
        check(&[("transfer-encoding", "chunked")], Ok(""));
        check(&[("transfer-encoding", "Chunked")], Ok(""));
        check(&[("transfer-encoding", "gzip, chunked")], coding("gzip, chunked"));
        check(&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")], coding("gzip, chunked"));
        check(&[("transfer-encoding", "chunked, chunked")], coding("chunked, chunked"));
        check(&[("transfer-encoding", "gzip")], coding("gzip"));
        check(&[("transfer-encoding", "identity")], coding("identity"));
        check(&[("transfer-encoding", "")], coding(""));
        let both = [("content-length", "3"), ("transfer-encoding", "chunked")];
        check(&both, Err(BadHead::TwoLengths));
        check(&[both[1], both[0]], Err(BadHead::TwoLengths));
    }

    #[test]
    fn values_lose_their_outer_white_space() {
        let mut headers = HeaderMap::new();
        for value in [" a ", "b", "\tc d\t", " "] {
            headers.append("x", HeaderValue::from_static(value));
        }
        trim_values(&mut headers);
        assert_eq!(Vec::from_iter(headers.get_all("x")), ["a", "b", "c d", ""]);
    }
}

//! Message framing: the head must announce the length of the body in exactly one way. RFC 9112, section 6.
//!
//! An ambiguous message must not be forwarded, as the next server could find another end of the body (request
//! smuggling). nginx, Envoy and Node reject the same messages.

use std::str;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};

/// The framing of a message is ambiguous or not supported.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FramingError {
    /// The message has two announcements of its length.
    #[error("it has both Content-Length and Transfer-Encoding")]
    TwoLengths,
    /// The transfer coding is not exactly `chunked`: RFC 9112, section 6.1.
    #[error("unsupported Transfer-Encoding {0:?}: only chunked is supported")]
    TransferCoding(String),
    /// The length is not a single number.
    #[error("its Content-Length is {0:?}: expected one number")]
    Length(String),
}

/// Checks the framing of a message, and normalizes its `Content-Length` to a single number.
///
/// Call it before you forward a request; the client checks each response itself.
///
/// # Errors
///
/// Returns an error if the framing is ambiguous or not supported.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
///
/// let mut headers = HeaderMap::from_iter([("content-length".parse()?, HeaderValue::from_static("5, 05"))]);
/// retry_client::check_framing(&mut headers)?;
/// assert_eq!(headers["content-length"], "5");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_framing(headers: &mut HeaderMap) -> Result<(), FramingError> {
    // One pass over few headers is cheaper than two look-ups.
    let (mut has_coding, mut has_length) = (false, false);
    for name in headers.keys() {
        has_coding |= *name == TRANSFER_ENCODING;
        has_length |= *name == CONTENT_LENGTH;
    }
    if has_coding {
        let coding = list(headers, TRANSFER_ENCODING);
        return match coding.eq_ignore_ascii_case("chunked") {
            true if has_length => Err(FramingError::TwoLengths),
            true => Ok(()),
            false => Err(FramingError::TransferCoding(coding)),
        };
    }
    if !has_length || has_canonical_length(headers) {
        return Ok(());
    }
    let announced = list(headers, CONTENT_LENGTH);
    let length = one_number(&announced).ok_or(FramingError::Length(announced))?;
    headers.insert(CONTENT_LENGTH, length.into());
    Ok(())
}

/// Joins the values of a field to one list.
fn list(headers: &HeaderMap, name: HeaderName) -> String {
    let values = headers.get_all(name);
    let values: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    values.join(", ").trim().to_owned()
}

/// Whether there is one `Content-Length`, with a number in its shortest form.
fn has_canonical_length(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let (Some(length), None) = (lengths.next(), lengths.next()) else { return false };
    matches!(length, [b'0'] | [b'1'..=b'9', ..]) && str::from_utf8(length).is_ok_and(|text| text.parse::<u64>().is_ok())
}

/// Returns the number if all members of the list are the same. RFC 9110, section 8.6, allows to accept such a list.
fn one_number(list: &str) -> Option<u64> {
    let mut numbers = list.split(',').map(|number| {
        let number = number.trim();
        // `parse` accepts a plus sign.
        number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse::<u64>().ok()).flatten()
    });
    let first = numbers.next()??;
    numbers.all(|number| number == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_announces_one_length() {
        let check = |headers: &[(&'static str, &'static str)], expected: Result<&str, FramingError>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(*name, HeaderValue::from_static(value));
            }
            let checked = check_framing(&mut map).map(|()| list(&map, CONTENT_LENGTH));
            assert_eq!(checked, expected.map(str::to_owned), "{headers:?}");
        };
        let coding = |text: &str| Err(FramingError::TransferCoding(text.to_owned()));
        let length = |text: &str| Err(FramingError::Length(text.to_owned()));
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
        check(&both, Err(FramingError::TwoLengths));
        check(&[both[1], both[0]], Err(FramingError::TwoLengths));
    }
}

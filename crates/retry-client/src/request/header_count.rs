//! The limit on the number of headers of a request.

use crate::error::Error;

/// A `HeaderMap` panics if it gets a 24,577th name. Below this limit, the client can add its own headers.
const MAX_HEADERS: usize = 16_384;

/// Rejects a request with too many headers.
pub(crate) fn check_header_count(headers: usize) -> Result<(), Error> {
    match headers {
        0..=MAX_HEADERS => Ok(()),
        _ => Err(Error::bad_input(format!("the request has {headers} headers: expected at most {MAX_HEADERS}"))),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn there_is_room_for_more_headers_below_the_limit() {
        assert!(check_header_count(0).is_ok());
        assert!(check_header_count(MAX_HEADERS).is_ok());
        let error = check_header_count(MAX_HEADERS + 1).unwrap_err();
        assert_eq!(error.to_string(), "the request has 16385 headers: expected at most 16384");
        let mut headers = HeaderMap::new();
        for number in 0..MAX_HEADERS + 100 {
            headers.insert(HeaderName::try_from(format!("x-{number}")).unwrap(), HeaderValue::from_static(""));
        }
    }
}

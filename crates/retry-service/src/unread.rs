//! The answer to what cannot be read as a request.
//!
//! hyper gives it itself: 400, 414 or 431, without a body. The payload that every other error has is added on its way
//! out.

use http::StatusCode;
use jiff::Timestamp;

use crate::error_payload::ErrorPayload;

/// The same answer with a body, if it is such a one. To be asked only where no other can be: the body of an answer may
/// look like this, too.
pub(crate) fn with_payload(answer: &[u8], time: Timestamp) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(answer.strip_suffix(b"\r\n\r\n")?).ok()?;
    let (status_line, headers) = head.split_once("\r\n")?;
    let is_hypers =
        |line: &str| matches!(line, "connection: close" | "content-length: 0") || line.starts_with("date: ");
    if !headers.split("\r\n").all(is_hypers) {
        return None;
    }
    let (_, status) = status_line.split_once(' ')?;
    let (code, message) = match status.get(..3)? {
        "400" => (StatusCode::BAD_REQUEST, "this is no valid request"),
        "414" => (StatusCode::URI_TOO_LONG, "the target of the request is too long"),
        "431" => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the head of the request is too large"),
        _ => return None,
    };
    let payload = ErrorPayload::of_unread(time, code, message).to_json();
    let headers = headers.replace("content-length: 0", &format!("content-length: {}", payload.len()));
    let head = format!("{status_line}\r\ncontent-type: application/json\r\n{headers}\r\n\r\n");
    Some([head.into_bytes(), payload].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_hypers_gets_a_payload_and_no_other_answer_does() {
        let check = |head: &str| with_payload(head.replace('~', "\r\n").as_bytes(), Timestamp::UNIX_EPOCH);
        let told =
            check("HTTP/1.1 431 Request Header Fields Too Large~connection: close~content-length: 0~date: now~~");
        let payload = "{\"timestamp\":\"1970-01-01T00:00:00.000000Z\",\"status\":431,\"reason\":\"Request Header Fields Too Large\",\
                       \"message\":\"the head of the request is too large\",\"path\":\"\",\"method\":\"\"}";
        let expected = format!(
            "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-length: {}\r\ndate: now\r\n\r\n{payload}",
            payload.len()
        );
        assert_eq!(String::from_utf8(told.unwrap()).unwrap(), expected);
        assert!(check("HTTP/1.1 400 Bad Request~connection: close~content-length: 0~date: now~~").is_some());
        for other in [
            "HTTP/1.1 400 Bad Request~connection: close~content-length: 0~via: 1.1 a~~",
            "HTTP/1.1 400 Bad Request~content-length: 3~~",
            "HTTP/1.1 400 Bad Request~content-length: 0~~abc",
            "HTTP/1.1 404 Not Found~content-length: 0~~",
            "HTTP/1.1 200 OK~content-length: 0~~",
            "HTTP/1.1 400~~",
            "400~~",
            "",
        ] {
            assert_eq!(check(other), None, "{other}");
        }
    }
}

//! The answer to what cannot be read as a request.
//!
//! hyper gives it itself: 400, 414 or 431, without a body. The payload that every other error has is added on its way
//! out.

use http::{Method, StatusCode, Uri};
use jiff::Timestamp;

use crate::common::error_payload::ErrorPayload;

/// The answers, by what follows the version.
const ANSWERS: [(&str, StatusCode, &str); 3] = [
    ("400 Bad Request", StatusCode::BAD_REQUEST, "this is no valid request"),
    ("414 URI Too Long", StatusCode::URI_TOO_LONG, "the target of the request is too long"),
    (
        "431 Request Header Fields Too Large",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "the head of the request is too large",
    ),
];

/// The same answer with a body, if it is such a one, to the letter. To be asked only where no other can be: part of the
/// body of an answer may look like this, too.
///
/// HEAD gets the body as well: what cannot be read has no method. The connection ends behind it.
pub(crate) fn with_payload(answer: &[u8], time: Timestamp) -> Option<Vec<u8>> {
    let head = std::str::from_utf8(answer.strip_suffix(b"\r\n\r\n")?).ok()?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next()?;
    let status = status_line.strip_prefix("HTTP/1.1 ").or_else(|| status_line.strip_prefix("HTTP/1.0 "))?;
    let (_, code, message) = ANSWERS.into_iter().find(|(text, ..)| *text == status)?;
    let close = lines.clone().next().filter(|line| *line == "connection: close");
    let mut rest = lines.skip(close.iter().count());
    let (length, date) = (rest.next()?, rest.next()?);
    if length != "content-length: 0" || !date.starts_with("date: ") || rest.next().is_some() {
        return None;
    }
    let payload = ErrorPayload::new(time, code, message, &Method::default(), &Uri::default());
    let payload = ErrorPayload { path: String::new(), method: String::new(), ..payload }.to_json();
    let head = format!(
        "{status_line}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n{date}\r\n\r\n",
        payload.len()
    );
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
        assert!(check("HTTP/1.0 400 Bad Request~content-length: 0~date: now~~").is_some());
        for other in [
            "HTTP/1.1 400 Bad Request~connection: close~content-length: 0~via: 1.1 a~~",
            "HTTP/1.1 400 Bad Request~connection: close~content-length: 0~date: now~via: 1.1 a~~",
            "HTTP/1.1 400 Bad Request~connection: close~content-length: 0~~",
            "HTTP/1.1 400 Ours~connection: close~content-length: 0~date: now~~",
            "\0HTTP/1.1 400 Bad Request~connection: close~content-length: 0~date: now~~",
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

//! One request's turn in the script: what is played, and how it is done.

use std::future;
use std::num::NonZeroU64;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::fault::chunked_body::Chunked;
use crate::fault::connection::Connection;
use crate::fault::http2_frames as frames;
use crate::fault::io::{End, Order};
use crate::fault::truncated_body::{Cut, Ending, Sent};
use crate::fault::{Behaviour, Delay, Fault, RetryAfter};
use crate::routes::responses::{self as answers, Answer, boxed};

const GARBAGE: &[u8] = b"This is no HTTP at all.\0\xff\r\n\r\n";

/// The size of one of the fields that `huge-headers` consists of.
const FIELD: u32 = 16 << 10;

/// A request's number, what the script has for it, and where its bytes go.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) number: NonZeroU64,
    pub(crate) behaviour: Behaviour,
    pub(crate) connection: Arc<Connection>,
    /// The last stream that a GOAWAY in place of an answer leaves standing.
    pub(crate) stream_before: u32,
}

impl Turn {
    /// Logs the request, in the sample's own words where the sample has any.
    pub(crate) fn log(&self, request: &Parts) {
        let Behaviour { delay, .. } = &self.behaviour;
        let delayed = Behaviour { delay: *delay, ..Behaviour::default() };
        if self.behaviour == Behaviour::default() {
            log::info!("Request received from the client to healthy service.");
        } else if self.behaviour == delayed {
            log::info!("Request received from the client to delayed service.");
        } else {
            let (method, target) = (&request.method, request.uri.path());
            log::info!("Request received from the client: {method} {target} meets {}", self.behaviour);
        }
    }

    /// Plays the behaviour, now that the request has been read as far as it will be.
    pub(crate) async fn play(self, request: &Parts, answer: Answer) -> Result<Answer, h2::Error> {
        if let Some(Delay::For(delay)) = self.behaviour.delay {
            tokio::time::sleep(delay).await;
        }
        let http2 = request.version == Version::HTTP_2;
        match self.behaviour.fault {
            Some(Fault::Hang) => future::pending().await,
            Some(Fault::Down(length)) => {
                self.connection.take_down(length);
                future::pending().await
            }
            Some(Fault::RefusedStream) if http2 => Err(Reason::REFUSED_STREAM.into()),
            _ => Ok(self.send(request, answer, http2)),
        }
    }

    /// The answer as the caller gets it, with the orders that go with its bytes.
    fn send(&self, request: &Parts, answer: Answer, http2: bool) -> Answer {
        let mut answer = self.shape(answer);
        if has_content(answer.status()) {
            answer = self.delimit(answer, http2);
        }
        if self.behaviour.fault == Some(Fault::Goaway) && !http2 {
            answers::set(&mut answer, header::CONNECTION, "close");
        }
        if http2 && request.method == Method::HEAD {
            strip_body(&mut answer);
        }
        self.connection.wire.order(self.order(http2));
        answer
    }

    /// The answer with the behaviour's status, fields and body.
    fn shape(&self, answer: Answer) -> Answer {
        let Behaviour { status, retry_after, body, huge_headers, .. } = &self.behaviour;
        let mut answer = match status {
            Some(status) => instead(*status, body.as_deref()),
            None => answer,
        };
        if let Some(retry_after) = retry_after {
            let value = header_value(retry_after, Timestamp::now());
            answers::set(&mut answer, header::RETRY_AFTER, &value);
        }
        add_fields(&mut answer, huge_headers.unwrap_or_default());
        answer
    }

    /// The answer with its body chunked, cut, or both, as the behaviour says.
    fn delimit(&self, mut answer: Answer, http2: bool) -> Answer {
        if self.behaviour.chunked {
            answer = answer.map(|body| Chunked::new(body).boxed_unsync());
        }
        match self.behaviour.fault {
            Some(Fault::Truncate(bytes)) => cut(answer, bytes, self.ending(http2)),
            _ => answer,
        }
    }

    /// How a body that is cut ends.
    fn ending(&self, http2: bool) -> Ending {
        match (http2, self.behaviour.chunked) {
            (false, _) => Ending::Close(self.connection.wire.clone()),
            (true, false) => Ending::EndStream,
            (true, true) => Ending::Reset(Sent::default()),
        }
    }

    /// What the fault asks of the connection's bytes.
    fn order(&self, http2: bool) -> Option<Order> {
        match self.behaviour.fault? {
            Fault::Reset => Some(Order::After(0, End::Reset)),
            Fault::Close | Fault::RefusedStream => Some(Order::After(0, End::Close)),
            Fault::ResetAfter(bytes) => Some(Order::After(bytes, End::Reset)),
            Fault::CloseAfter(bytes) => Some(Order::After(bytes, End::Close)),
            Fault::StallAfter(bytes) => Some(Order::After(bytes, End::Stall)),
            Fault::Drip(pace) => Some(Order::Drip(pace)),
            Fault::Garbage => Some(Order::Instead(Bytes::from_static(GARBAGE))),
            Fault::Goaway if http2 => Some(Order::InsteadOfNextFrame(frames::goaway(self.stream_before).into())),
            Fault::Goaway | Fault::Hang | Fault::Truncate(_) | Fault::Down(_) => None,
        }
    }
}

fn cut(answer: Answer, bytes: Option<u64>, ending: Ending) -> Answer {
    let (mut head, body) = answer.into_parts();
    let body = Cut::new(body, bytes, ending);
    if let Some(length) = body.promised() {
        head.headers.insert(header::CONTENT_LENGTH, length.into());
    }
    Answer::from_parts(head, body.boxed_unsync())
}

/// Whether a response with this status has content, even if it is empty (RFC 9110, section 6.4.1).
fn has_content(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// hyper sends no body in answer to HEAD over HTTP/1.1, but leaves HTTP/2 to us.
pub(crate) fn strip_body(answer: &mut Answer) {
    if let Some(length) = answer.body().size_hint().exact() {
        answer.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    *answer.body_mut() = boxed(Empty::new());
}

fn instead(status: StatusCode, body: Option<&str>) -> Answer {
    let body = match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => "",
        _ => body.or(status.canonical_reason()).unwrap_or_default(),
    };
    answers::text(status, body.to_owned())
}

fn header_value(retry_after: &RetryAfter, now: Timestamp) -> String {
    match retry_after {
        RetryAfter::Text(text) => text.clone(),
        RetryAfter::DateIn(wait) => {
            let date = now.saturating_add(*wait).unwrap_or(Timestamp::MAX);
            DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap_or_default()
        }
    }
}

fn add_fields(answer: &mut Answer, bytes: u32) {
    for (index, start) in (0..bytes).step_by(FIELD as usize).enumerate() {
        let size = FIELD.min(bytes - start) as usize;
        let name = HeaderName::try_from(format!("x-huge-{index}"));
        let value = HeaderValue::try_from("x".repeat(size));
        if let (Ok(name), Ok(value)) = (name, value) {
            answer.headers_mut().insert(name, value);
        }
    }
}

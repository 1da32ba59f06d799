//! Plays a behaviour: delays a response, changes it, or replaces it with a fault.

use std::future;
use std::sync::Arc;

use h2::Reason;
use http::{HeaderName, StatusCode, header};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::fault::chunked_body::ChunkedBody;
use crate::fault::connection_faults::{ConnectionEnd, OutputFault};
use crate::fault::connection_state::ConnectionState;
use crate::fault::truncated_body::{Ending, TruncatedBody};
use crate::fault::{Behaviour, Delay, Fault, RetryAfter, http2_frames};
use crate::routes::responses::{self, Response};

/// The size of each field that `huge-headers` adds.
const FIELD_SIZE: u32 = 16 << 10;

/// One request and its response, with the behaviour to play.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) behaviour: Behaviour,
    pub(crate) connection: Arc<ConnectionState>,
    /// Whether the protocol is HTTP/2.
    pub(crate) http2: bool,
    /// The last HTTP/2 stream that a GOAWAY instead of this response accepts.
    pub(crate) last_stream: u32,
}

impl Exchange {
    /// Waits for the delay, sets the fault of the connection's output, and returns the changed response.
    ///
    /// # Errors
    ///
    /// If the HTTP/2 stream has to be reset.
    pub(crate) async fn play(self, response: Response) -> Result<Response, h2::Error> {
        if let Some(Delay::For(delay)) = self.behaviour.delay {
            tokio::time::sleep(delay).await;
        }
        match self.behaviour.fault {
            Some(Fault::Hang) => return future::pending().await,
            Some(Fault::Down(length)) => {
                self.connection.start_outage(length);
                return future::pending().await;
            }
            Some(Fault::RefusedStream) if self.http2 => return Err(Reason::REFUSED_STREAM.into()),
            _ => {}
        }
        let mut response = self.change_head(response);
        if has_content(response.status()) {
            response = self.change_body(response);
        }
        self.connection.fault.set(self.output_fault());
        Ok(response)
    }

    /// Replaces the response if the behaviour has a status, and adds header fields.
    fn change_head(&self, response: Response) -> Response {
        let Behaviour { status, retry_after, headers, body, huge_headers, .. } = &self.behaviour;
        let mut response = match (status, body) {
            (None, None) => response,
            (status, body) => status_response(status.unwrap_or_default(), body.as_deref()),
        };
        match retry_after {
            Some(RetryAfter::Field(value)) => {
                response.headers_mut().insert(header::RETRY_AFTER, value.clone());
            }
            Some(RetryAfter::DateIn(wait)) => {
                let date = Timestamp::now().saturating_add(*wait).unwrap_or(Timestamp::MAX);
                let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap_or_default();
                responses::set(&mut response, header::RETRY_AFTER, &date);
            }
            None => {}
        }
        // The first of a name replaces the field of the route.
        for (name, _) in headers {
            response.headers_mut().remove(name);
        }
        for (name, value) in headers {
            response.headers_mut().append(name, value.clone());
        }
        add_fields(&mut response, *huge_headers);
        if self.behaviour.fault == Some(Fault::Goaway) && !self.http2 {
            responses::set(&mut response, header::CONNECTION, "close");
        }
        response
    }

    /// Makes the body chunked, truncated, or both.
    fn change_body(&self, mut response: Response) -> Response {
        let chunked = self.behaviour.chunked;
        if chunked {
            response = response.map(|body| ChunkedBody::new(body).boxed_unsync());
        }
        let Some(Fault::Truncate(bytes)) = self.behaviour.fault else {
            return response;
        };
        let ending = match (self.http2, chunked) {
            (false, _) => Ending::Close(self.connection.fault.clone()),
            (true, false) => Ending::EndStream,
            (true, true) => Ending::Reset(None),
        };
        response.map(|body| TruncatedBody::new(body, bytes, ending).boxed_unsync())
    }

    fn output_fault(&self) -> Option<OutputFault> {
        match self.behaviour.fault.as_ref()? {
            Fault::Output(fault) => Some(fault.clone()),
            Fault::RefusedStream => Some(OutputFault::EndAfter(0, ConnectionEnd::Close)),
            Fault::Goaway if self.http2 => {
                Some(OutputFault::ReplaceNextFrame(http2_frames::goaway(self.last_stream).into()))
            }
            Fault::Goaway | Fault::Hang | Fault::Truncate(_) | Fault::Down(_) => None,
        }
    }
}

/// Returns whether a response with this status has content, even if it is empty (RFC 9110, section 6.4.1).
fn has_content(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn status_response(status: StatusCode, body: Option<&str>) -> Response {
    let body = match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => "",
        _ => body.or(status.canonical_reason()).unwrap_or_default(),
    };
    let content_type = if body.starts_with(['{', '[']) { "application/json" } else { "text/plain" };
    responses::typed(status, content_type, body.to_owned())
}

fn add_fields(response: &mut Response, bytes: u32) {
    for (index, start) in (0..bytes).step_by(FIELD_SIZE as usize).enumerate() {
        let size = FIELD_SIZE.min(bytes - start) as usize;
        if let Ok(name) = HeaderName::try_from(format!("x-huge-{index}")) {
            responses::set(response, name, &"x".repeat(size));
        }
    }
}

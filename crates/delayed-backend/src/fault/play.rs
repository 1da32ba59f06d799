//! Plays a behavior: delays a response, changes it, or replaces it with a fault.

use std::future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, StatusCode, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

use crate::fault::after_body::{After, AfterBody};
use crate::fault::chunked_body::ChunkedBody;
use crate::fault::connection_faults::{ConnectionEnd, HeadEnd, OutputFault, Position};
use crate::fault::connection_state::ConnectionState;
use crate::fault::outage::Outage;
use crate::fault::truncated_body::{Ending, TruncatedBody};
use crate::fault::watched_body::WatchedBody;
use crate::fault::{Behavior, Delay, Fault, RetryAfter, http2_frames};
use crate::recorder::missed_fault::MissedFault;
use crate::routes::known_bytes;
use crate::routes::responses::{self, Response};

/// The size of each field that `huge-headers` adds.
const FIELD_SIZE: u32 = 16 << 10;

/// One request and its response, with the behavior to play.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) behavior: Behavior,
    pub(crate) connection: Arc<ConnectionState>,
    /// Whether the protocol is HTTP/2.
    pub(crate) http2: bool,
    /// Whether the method is HEAD, so that no body is sent.
    pub(crate) is_head: bool,
    /// The number of the request on its connection; the first is number 1.
    pub(crate) position: u32,
    /// Reports that the response has ended before the fault, if that is possible.
    pub(crate) missed: Option<MissedFault>,
}

impl Exchange {
    /// Waits for the delay, sets the fault of the connection's output, and returns the changed response.
    ///
    /// # Errors
    ///
    /// If the HTTP/2 stream has to be reset.
    pub(crate) async fn play(mut self, response: Response) -> Result<Response, h2::Error> {
        if self.behavior.fault == Some(Fault::NoPing) {
            self.connection.fault.set(Some(OutputFault::IgnorePings));
            return future::pending().await;
        }
        if let Some(Delay::For(delay)) = self.behavior.delay {
            tokio::time::sleep(delay).await;
        }
        match self.behavior.fault {
            Some(Fault::Hang | Fault::NoWindow) => return future::pending().await,
            Some(Fault::Outage(outage, length)) => {
                self.connection.start_outage(outage, length);
                if outage == Outage::Down {
                    return future::pending().await;
                }
            }
            Some(Fault::Rst(code)) if self.http2 => return Err(code.into()),
            _ => {}
        }
        let mut response = self.change_head(response);
        let has_content = has_content(response.status());
        // Before the body is changed, which may set the fault that follows it.
        let missed = self.missed.take();
        let missed = match self.reason_to_miss(&response) {
            Some(reason) => {
                missed.into_iter().for_each(|missed| missed.report(&reason));
                None
            }
            None => missed,
        };
        let is_watched = missed.is_some() && !self.http2;
        self.connection.fault.set_watched(self.output_fault(), missed);
        if has_content {
            response = self.change_body(response);
        } else if let Some(fault) = self.fault_after_response() {
            self.connection.fault.set(Some(fault));
        }
        if is_watched {
            let slot = self.connection.fault.clone();
            response = response.map(|body| WatchedBody(body, slot).boxed_unsync());
        }
        Ok(response)
    }

    /// Returns why the response ends before the fault of its body, if it does.
    fn reason_to_miss(&self, response: &Response) -> Option<String> {
        let bytes = match self.behavior.fault {
            Some(Fault::Truncate(bytes)) => bytes,
            Some(Fault::BadChunk) => None,
            Some(Fault::Excess(_)) if self.is_head => None,
            _ => return None,
        };
        if self.is_head || !has_content(response.status()) {
            return Some("as the response has no body".to_owned());
        }
        let length = response.body().size_hint().exact().filter(|_| !self.behavior.chunked)?;
        (bytes.unwrap_or(length / 2) >= length).then(|| format!("as the body has {length} bytes"))
    }

    /// Replaces the response if the behavior has a status, and adds header fields.
    fn change_head(&self, response: Response) -> Response {
        let Behavior { status, retry_after, headers, body, huge_headers, .. } = &self.behavior;
        let mut response = match (status, body) {
            (None, None) => response,
            (Some(status), None) if has_content(*status) => self.status_text(*status),
            (status, body) => status_response(status.unwrap_or_default(), body.clone()),
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
        if self.is_last() && !self.http2 {
            responses::set(&mut response, header::CONNECTION, "close");
        }
        response
    }

    /// Returns a response whose body is the text of the status, or longer if the behavior would end it later than that.
    fn status_text(&self, status: StatusCode) -> Response {
        let text = status.canonical_reason().unwrap_or_default();
        match self.behavior.bytes_before_end() {
            Some(bytes) if bytes >= text.len() as u64 => {
                let mut response = known_bytes::longer_than(bytes);
                *response.status_mut() = status;
                response
            }
            _ => status_response(status, None),
        }
    }

    /// Changes the body, and sets what follows it.
    fn change_body(&self, mut response: Response) -> Response {
        let chunked = self.behavior.chunked;
        if chunked {
            response = response.map(|body| ChunkedBody::new(body).boxed_unsync());
        }
        let slot = self.connection.fault.clone();
        let (bytes, inserted) = match self.behavior.fault {
            Some(Fault::Truncate(bytes)) => (bytes, Bytes::new()),
            Some(Fault::BadChunk) => (None, BAD_CHUNK),
            _ => return self.add_fault_after(response),
        };
        let ending = match (self.http2, chunked) {
            (false, _) => Ending::Close(slot, inserted),
            (true, false) => Ending::EndStream,
            (true, true) => Ending::Reset(None),
        };
        response.map(|body| TruncatedBody::new(body, bytes, ending).boxed_unsync())
    }

    /// Adds the fault that follows the response.
    fn add_fault_after(&self, response: Response) -> Response {
        let after = match (&self.behavior.fault, self.fault_after_response()) {
            (Some(Fault::Excess(bytes)), _) if self.http2 && !self.is_head => After::Frame(excess(*bytes)),
            // hyper does not poll this body.
            (_, Some(fault)) if self.is_head || (!self.http2 && response.body().size_hint().exact() == Some(0)) => {
                self.connection.fault.set(Some(fault));
                return response;
            }
            (_, Some(fault)) => After::fault(self.connection.fault.clone(), fault, self.http2),
            (_, None) => return response,
        };
        response.map(|body| AfterBody::new(body, after).boxed_unsync())
    }

    /// Returns whether the client is asked to use another connection after this response.
    fn is_last(&self) -> bool {
        match self.behavior.fault {
            Some(Fault::Goaway) => true,
            Some(Fault::GoawayAfter(count)) => u64::from(self.position) >= count,
            _ => false,
        }
    }

    /// Returns whether the connection ignores all later requests, because a GOAWAY excludes them.
    pub(crate) fn ends_connection(&self) -> bool {
        self.http2 && self.is_last()
    }

    /// Returns the fault of the connection from the start of the response on.
    fn output_fault(&self) -> Option<OutputFault> {
        match self.behavior.fault.as_ref()? {
            Fault::Output(fault) => Some(fault.clone()),
            Fault::DripHead(pause) => {
                let head_end = if self.http2 { HeadEnd::Frame } else { HeadEnd::EmptyLine(0) };
                Some(OutputFault::DripHead(*pause, head_end))
            }
            Fault::Rst(_) | Fault::Tls(_) => Some(OutputFault::EndAfter(0, ConnectionEnd::Close)),
            Fault::Goaway if self.http2 => {
                Some(OutputFault::Insert(self.goaway(1), Position::AfterFrame, Some(ConnectionEnd::Close)))
            }
            _ => None,
        }
    }

    /// Returns the fault of the connection from the end of the response on.
    fn fault_after_response(&self) -> Option<OutputFault> {
        match self.behavior.fault.as_ref()? {
            Fault::AfterResponse(fault) => Some(fault.clone()),
            Fault::Excess(bytes) if !self.is_head => {
                Some(OutputFault::Insert(excess(*bytes), Position::AfterFlush, None))
            }
            Fault::GoawayAfter(_) if self.ends_connection() => {
                Some(OutputFault::Insert(self.goaway(0), Position::AfterFlush, None))
            }
            _ => None,
        }
    }

    /// Returns a GOAWAY that accepts all requests up to this one, except the latest `excluded`.
    ///
    /// Assumes that the client skips no stream identifier: 1, 3, 5 and so on.
    fn goaway(&self, excluded: u32) -> Bytes {
        let accepted = self.position.saturating_sub(excluded);
        http2_frames::goaway(accepted.saturating_mul(2).saturating_sub(1)).into()
    }
}

/// A chunk whose size is not a number (RFC 9112, section 7.1).
const BAD_CHUNK: Bytes = Bytes::from_static(b"not a size\r\n");

fn excess(bytes: u32) -> Bytes {
    vec![b'x'; bytes as usize].into()
}

/// Returns whether a response with this status has content, even if it is empty (RFC 9110, section 6.4.1).
fn has_content(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn status_response(status: StatusCode, body: Option<Bytes>) -> Response {
    let body = match status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => Bytes::new(),
        _ => body.unwrap_or_else(|| Bytes::from_static(status.canonical_reason().unwrap_or_default().as_bytes())),
    };
    let is_json = matches!(body.first(), Some(b'{' | b'['));
    responses::typed(status, if is_json { "application/json" } else { "text/plain" }, body)
}

fn add_fields(response: &mut Response, bytes: u32) {
    for (index, start) in (0..bytes).step_by(FIELD_SIZE as usize).enumerate() {
        let size = FIELD_SIZE.min(bytes - start) as usize;
        if let Ok(name) = HeaderName::try_from(format!("x-huge-{index}")) {
            responses::set(response, name, &"x".repeat(size));
        }
    }
}

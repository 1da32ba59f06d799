//! What the backend does with one request, as plain data.
//!
//! A new behavior needs a row in `table.rs`, and code in `play.rs` unless an existing [`Fault`] covers it.

mod after_body;
pub(crate) mod chunked_body;
pub(crate) mod connection_faults;
pub(crate) mod connection_state;
pub(crate) mod http2_frames;
pub(crate) mod outage;
pub(crate) mod play;
pub(crate) mod table;
pub(crate) mod truncated_body;
pub(crate) mod value;
mod watched_body;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderName, HeaderValue, StatusCode};
use jiff::fmt::friendly::SpanPrinter;

use crate::fault::connection_faults::{OutputFault, Position};
use crate::fault::outage::Outage;

/// The maximum number of characters in a summary, without the delay.
const MAX_SUMMARY: usize = 1024;

/// What the backend does with one request. By default it responds immediately.
///
/// Displayed as in a script. If its delay is a range, it is displayed with the delay that has been drawn, so that the
/// text plays the same behavior again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behavior {
    /// The delay before the response or the fault.
    pub(crate) delay: Option<Delay>,
    /// All behaviors of the script item except the delay, as in a script. Empty if there are none.
    pub(crate) text: Arc<str>,
    /// The status to respond with, instead of the route's own response.
    pub(crate) status: Option<StatusCode>,
    /// The `Retry-After` of the response with this status.
    pub(crate) retry_after: Option<RetryAfter>,
    /// The header fields to set.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// The body to respond with. If `None`, it is that of the route, or the reason phrase of `status`.
    pub(crate) body: Option<Bytes>,
    /// The total size of the header fields to add, in bytes.
    pub(crate) huge_headers: u32,
    /// Whether the response is sent without its length.
    pub(crate) chunked: bool,
    /// Whether the response is sent without reading the request's body.
    pub(crate) early: bool,
    /// The fault that affects the response, or replaces it.
    pub(crate) fault: Option<Fault>,
}

/// How long a response is delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delay {
    /// The default delay of the script.
    Default,
    /// This long.
    For(Duration),
    /// A random time between these, inclusive.
    Between(Duration, Duration),
}

impl Delay {
    /// Draws the delay of a request.
    pub(crate) fn draw(self, default: Duration, rng: &mut fastrand::Rng) -> Duration {
        match self {
            Self::Default => default,
            Self::For(length) => length,
            // In whole microseconds, so that it is short to display.
            Self::Between(low, high) => {
                let range = u64::try_from((high - low).as_micros()).unwrap_or(u64::MAX);
                low.saturating_add(Duration::from_micros(rng.u64(..=range)))
            }
        }
    }
}

/// A `Retry-After` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RetryAfter {
    /// This value, even if it is not valid for `Retry-After`.
    Field(HeaderValue),
    /// The date at this distance in the future.
    DateIn(Duration),
}

/// A fault. A request has at most one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There is no response.
    Hang,
    /// The connection's output has a fault, from this response on.
    Output(OutputFault),
    /// The head of the response is sent one byte at a time, with this pause between bytes.
    DripHead(Duration),
    /// The body ends after this many bytes, or after half of them.
    Truncate(Option<u64>),
    /// An invalid chunk after half of the body.
    BadChunk,
    /// This many bytes follow the body.
    Excess(u32),
    /// The connection's output has a fault after this response.
    AfterResponse(OutputFault),
    /// GOAWAY that excludes this request, or `Connection: close` over HTTP/1.1.
    Goaway,
    /// GOAWAY or `Connection: close` after this many responses on the connection.
    GoawayAfter(u64),
    /// RST_STREAM, or a closed connection over HTTP/1.1.
    Rst(Reason),
    /// Neither the request's body is read, nor is there a response.
    NoWindow,
    /// There is no response, and over HTTP/2 none to a PING either.
    NoPing,
    /// An outage of this length.
    Outage(Outage, Duration),
    /// The handshake of a connection fails. A request closes its connection.
    Tls(TlsFault),
}

/// A fault of a TLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsFault {
    /// The certificate has expired.
    Expired,
    /// The certificate is for another host.
    WrongName,
    /// The certificate is from another CA.
    Untrusted,
    /// The server never responds to the handshake.
    Stall,
}

impl TlsFault {
    pub(crate) const ALL: [Self; 4] = [Self::Expired, Self::WrongName, Self::Untrusted, Self::Stall];

    /// Returns the value of `tls` in a script.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::WrongName => "wrong-name",
            Self::Untrusted => "untrusted",
            Self::Stall => "stall",
        }
    }
}

impl Behavior {
    /// Returns the behavior as in a script, but for a text that is too long to be recorded with each request.
    pub(crate) fn summary(&self) -> String {
        match self.text.char_indices().nth(MAX_SUMMARY) {
            None => self.to_string(),
            Some((end, _)) => {
                let start = self.text.get(..end).unwrap_or_default();
                Self { text: format!("{start}…").into(), delay: self.delay, ..Self::default() }.to_string()
            }
        }
    }

    /// Returns whether the request's body is not read, because the response is early or the request is not processed.
    pub(crate) fn ignores_body(&self, http2: bool) -> bool {
        let unprocessed = matches!(self.fault, Some(Fault::Goaway | Fault::Rst(Reason::REFUSED_STREAM)));
        self.early || (http2 && unprocessed)
    }

    /// Returns whether an upstream gets the request: unless there is another response, or none at all.
    pub(crate) fn reaches_upstream(&self, http2: bool) -> bool {
        self.status.is_none() && self.body.is_none() && !self.replaces_response(http2)
    }

    /// Returns after how many bytes of the response it ends early, if the behavior says so.
    pub(crate) fn bytes_before_end(&self) -> Option<u64> {
        match self.fault {
            Some(Fault::Truncate(bytes)) => bytes,
            Some(Fault::Output(OutputFault::EndAfter(bytes @ 1.., _))) => Some(bytes),
            _ => None,
        }
    }

    /// Returns whether a response can end before the fault.
    pub(crate) fn can_be_missed(&self) -> bool {
        match self.fault {
            Some(Fault::Truncate(_) | Fault::BadChunk | Fault::Excess(_)) => true,
            Some(Fault::Output(OutputFault::EndAfter(bytes, _))) => bytes > 0,
            _ => false,
        }
    }

    /// Returns the fault of a TLS handshake, if the behavior is one.
    pub(crate) fn tls_fault(&self) -> Option<TlsFault> {
        match self.fault {
            Some(Fault::Tls(fault)) => Some(fault),
            _ => None,
        }
    }

    /// Returns whether the client receives no head of a response.
    pub(crate) fn replaces_response(&self, http2: bool) -> bool {
        match &self.fault {
            Some(Fault::Output(fault)) => {
                matches!(fault, OutputFault::EndAfter(0, _) | OutputFault::Insert(_, Position::Here, _))
            }
            Some(Fault::Outage(outage, _)) => *outage == Outage::Down,
            Some(Fault::Hang | Fault::Rst(_) | Fault::NoWindow | Fault::NoPing | Fault::Tls(_)) => true,
            Some(Fault::Goaway) => http2,
            Some(
                Fault::DripHead(_)
                | Fault::Truncate(_)
                | Fault::BadChunk
                | Fault::Excess(_)
                | Fault::AfterResponse(_)
                | Fault::GoawayAfter(_),
            )
            | None => false,
        }
    }
}

impl fmt::Display for Behavior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let delay = self.delay.map(|delay| match delay {
            Delay::Default => "delay".to_owned(),
            Delay::For(length) => format!("delay={}", duration_text(length)),
            Delay::Between(low, high) => format!("delay={}..{}", duration_text(low), duration_text(high)),
        });
        match (&*self.text, &delay) {
            ("", None) => f.write_str("ok"),
            ("", Some(delay)) => f.write_str(delay),
            (text, None) => f.write_str(text),
            (text, Some(delay)) => write!(f, "{text};{delay}"),
        }
    }
}

/// Formats a duration as in a script.
pub(crate) fn duration_text(duration: Duration) -> String {
    SpanPrinter::new().unsigned_duration_to_string(&duration)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use crate::script::Script;

    #[test]
    fn a_summary_is_short_and_a_body_is_not_copied() {
        let long = "é".repeat(1 << 20);
        let script: Script = format!("status=503;body={long};delay=1s,close").parse().unwrap();
        let behavior = script.behavior(NonZeroU64::MIN);
        let summary = behavior.summary();
        assert!(summary.starts_with("status=503;body=éé") && summary.ends_with("é…;delay=1s"), "{summary}");
        assert_eq!(summary.chars().count(), 1024 + "…;delay=1s".chars().count());
        let again = script.behavior(NonZeroU64::MIN);
        assert_eq!(behavior.body.unwrap().as_ptr(), again.body.unwrap().as_ptr());
        assert_eq!(script.behavior(NonZeroU64::new(2).unwrap()).summary(), "close");
    }
}

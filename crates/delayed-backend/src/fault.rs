//! What the backend does with one request, as plain data.

pub(crate) mod chunked_body;
pub(crate) mod connection;
pub(crate) mod http2_frames;
pub(crate) mod io;
pub(crate) mod play;
pub(crate) mod truncated_body;

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::common::duration;

/// What is done with one request; the default is to answer it at once.
///
/// Displayed as it is written in a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// A wait between the request and all that follows.
    pub(crate) delay: Option<Delay>,
    /// Answer with this status instead of the route's own.
    pub(crate) status: Option<StatusCode>,
    /// The `Retry-After` sent with the status.
    pub(crate) retry_after: Option<RetryAfter>,
    /// The body sent with the status; its standard phrase where there is none.
    pub(crate) body: Option<String>,
    /// Add header fields of so many bytes.
    pub(crate) huge_headers: Option<u32>,
    /// Send the response without its length.
    pub(crate) chunked: bool,
    /// Answer before the request's body is read.
    pub(crate) early: bool,
    /// What goes wrong beyond the answer's own content.
    pub(crate) fault: Option<Fault>,
}

/// How long an answer is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delay {
    /// As long as the script says for all its delays.
    Usual,
    /// So long.
    For(Duration),
}

/// A `Retry-After` field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RetryAfter {
    /// This very text, well-formed or not.
    Text(String),
    /// The date so far in the future.
    DateIn(Duration),
}

/// What goes wrong with an exchange; at most one thing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Hang,
    Reset,
    Close,
    ResetAfter(u64),
    CloseAfter(u64),
    /// So many bytes of the body; half of it when not said.
    Truncate(Option<u64>),
    StallAfter(u64),
    Drip(Duration),
    Garbage,
    Goaway,
    RefusedStream,
    Down(Duration),
}

impl Fault {
    /// Whether the caller gets nothing of an answer, so that there is no point in shaping one.
    ///
    /// `goaway` is not among them: under HTTP/1.1 the answer is given.
    pub(crate) fn leaves_no_answer(self) -> bool {
        match self {
            Self::Hang | Self::Reset | Self::Close | Self::Garbage => true,
            Self::RefusedStream | Self::Down(_) => true,
            Self::ResetAfter(_) | Self::CloseAfter(_) | Self::StallAfter(_) => false,
            Self::Truncate(_) | Self::Drip(_) | Self::Goaway => false,
        }
    }
}

impl Behaviour {
    /// Whether the request's body is left unread: it is answered too early, or not processed.
    pub(crate) fn ignores_the_body(&self, http2: bool) -> bool {
        let unprocessed = matches!(self.fault, Some(Fault::Goaway | Fault::RefusedStream));
        self.early || (http2 && unprocessed)
    }

    /// The parts of the behaviour, as a script has them.
    fn parts(&self) -> Vec<String> {
        let mut parts = Vec::new();
        parts.extend(self.status.map(|status| format!("status={}", status.as_u16())));
        parts.extend(self.retry_after.as_ref().map(ToString::to_string));
        parts.extend(self.body.as_ref().map(|body| format!("body={}", Quoted(body))));
        parts.extend(self.huge_headers.map(|bytes| format!("huge-headers={bytes}")));
        parts.extend(self.chunked.then(|| "chunked".to_owned()));
        parts.extend(self.early.then(|| "early".to_owned()));
        parts.extend(self.fault.map(|fault| fault.to_string()));
        parts.extend(self.delay.map(|delay| delay.to_string()));
        parts
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        f.write_str(if parts.is_empty() { "ok" } else { "" })?;
        f.write_str(&parts.join(";"))
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => f.write_str("delay"),
            Self::For(length) => write!(f, "delay={}", duration::text(*length)),
        }
    }
}

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "retry-after={}", Quoted(text)),
            Self::DateIn(wait) => write!(f, "retry-after-date={}", duration::text(*wait)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hang => f.write_str("hang"),
            Self::Reset => f.write_str("reset"),
            Self::Close => f.write_str("close"),
            Self::ResetAfter(bytes) => write!(f, "reset-after={bytes}"),
            Self::CloseAfter(bytes) => write!(f, "close-after={bytes}"),
            Self::Truncate(None) => f.write_str("truncate"),
            Self::Truncate(Some(bytes)) => write!(f, "truncate={bytes}"),
            Self::StallAfter(bytes) => write!(f, "stall-after={bytes}"),
            Self::Drip(pace) => write!(f, "drip={}", duration::text(*pace)),
            Self::Garbage => f.write_str("garbage"),
            Self::Goaway => f.write_str("goaway"),
            Self::RefusedStream => f.write_str("refused-stream"),
            Self::Down(length) => write!(f, "down={}", duration::text(*length)),
        }
    }
}

/// A value in quotes where the script would misread it without.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-+.:/_".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) { f.write_str(self.0) } else { write!(f, "\"{}\"", self.0) }
    }
}

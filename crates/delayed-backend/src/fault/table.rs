//! The table of all behaviors that a script can name.
//!
//! The parser, its error messages and `--help` use [`KEYWORDS`]. A test checks that the crate's documentation matches.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;

use crate::fault::connection_faults::{ConnectionEnd, OutputFault, Position};
use crate::fault::outage::Outage;
use crate::fault::value::Value;
use crate::fault::{Delay, Fault, RetryAfter};

/// A behavior that a script can name.
#[derive(Debug)]
pub(crate) struct Keyword {
    /// In one of these forms: `name`, `name=example`, `name[=default]`.
    usage: &'static str,
    pub(crate) class: Class,
    pub(crate) value: Value,
    pub(crate) scope: Scope,
    meaning: &'static str,
}

/// What a behavior can be combined with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing.
    Alone,
    /// Everything.
    Delay,
    /// Everything except the faults that send no response.
    Response,
    /// Requires `status`, and excludes another `Retry-After`.
    RetryAfter,
    /// Like `Response`, and may be given several times.
    Header,
    /// Everything except another fault.
    Fault,
    /// `delay` only, because there is no response.
    NoResponse,
}

/// What a behavior affects, and in which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A response, over any protocol.
    Both,
    /// A response over HTTP/1.1. Over HTTP/2, something similar.
    Http1,
    /// A response over HTTP/2. Over HTTP/1.1, something similar.
    Http2,
    /// A connection, and so all HTTP/2 streams on it.
    Connection,
    /// The handshake of a connection over TLS.
    Tls,
    /// All connections.
    Server,
}

impl Scope {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Connection => "connection",
            Self::Tls => "TLS",
            Self::Server => "server",
        }
    }
}

/// Defines the table. A row consists of the usage, the class, the scope, and the type of the value with the function
/// that adds it to a behavior. Its doc comment describes what the behavior does.
macro_rules! keywords {
    ($($(#[doc = $meaning:literal])+ $usage:literal: $class:ident, $scope:ident, $value:ident($add:expr);)+) => {
        /// All behaviors, in the order of the documentation.
        pub(crate) static KEYWORDS: &[Keyword] = &[$(Keyword {
            usage: $usage,
            class: Class::$class,
            value: Value::$value($add),
            scope: Scope::$scope,
            meaning: concat!($($meaning),+),
        }),+];
    };
}

keywords! {
    /// responds immediately; cannot be combined with other behaviors
    "ok": Alone, Both, None(|_| ());

    /// waits for the default delay before anything else: 5 s, or the value of `--delay`
    "delay": Delay, Both, None(|to| to.delay = Some(Delay::Default));

    /// waits this long before anything else; a range such as `delay=10ms..50ms` is distributed uniformly, by the seed
    "delay=1s": Delay, Both, Delay(|to, delay| to.delay = Some(delay));

    /// responds with this status (200 to 599) and its reason phrase; 204, 205 and 304 have no body
    "status=503": Response, Both, Status(|to, status| to.status = Some(status));

    /// adds this `Retry-After`; needs `status`
    "retry-after=2": RetryAfter, Both, Field(|to, value| to.retry_after = Some(RetryAfter::Field(value)));

    /// adds a `Retry-After` with the date this far in the future; needs `status`
    "retry-after-date=2s": RetryAfter, Both, Duration(|to, wait| to.retry_after = Some(RetryAfter::DateIn(wait)));

    /// sets this header field; several fields can be set
    "header=Location: /x": Header, Both, Header(|to, name, value| to.headers.push((name, value)));

    /// sends this text as the body, or this JSON: `body={"a":1}`; the status is 200 without `status`
    "body=\"try later\"": Response, Both, Text(|to, text| to.body = Some(text.into()));

    /// adds header fields with values of this total size
    "huge-headers[=1MiB]": Response, Both, LimitedBytes(|to, bytes| to.huge_headers = bytes);

    /// sends the response without `Content-Length`
    "chunked": Response, Both, None(|to| to.chunked = true);

    /// responds without reading the request's body; without `early`, it is read first
    "early": Response, Both, None(|to| to.early = true);

    /// never responds
    "hang": NoResponse, Both, None(|to| to.fault = Some(Fault::Hang));

    /// resets the connection (RST) before any byte of the response
    "reset": NoResponse, Connection, None(|to| to.fault = end_after(0, ConnectionEnd::Reset));

    /// closes the connection (FIN) before any byte of the response
    "close": NoResponse, Connection, None(|to| to.fault = end_after(0, ConnectionEnd::Close));

    /// resets the connection after this many bytes of the response, including its head; a shorter response is not
    /// affected
    "reset-after=100": Fault, Connection, Bytes(|to, bytes| to.fault = end_after(bytes, ConnectionEnd::Reset));

    /// like `reset-after`, but closes the connection
    "close-after=100": Fault, Connection, Bytes(|to, bytes| to.fault = end_after(bytes, ConnectionEnd::Close));

    /// like `reset-after`, but leaves the connection open and sends nothing more
    "stall-after=100": Fault, Connection, Bytes(|to, bytes| to.fault = end_after(bytes, ConnectionEnd::Stall));

    /// announces the full `Content-Length`, but sends half of the body; with `chunked`, the body is never terminated
    "truncate": Fault, Both, None(|to| to.fault = Some(Fault::Truncate(None)));

    /// like `truncate`, but sends this many bytes of the body
    "truncate=5": Fault, Both, Bytes(|to, bytes| to.fault = Some(Fault::Truncate(Some(bytes))));

    /// sends this many bytes more than `Content-Length`, and leaves the connection open
    "excess[=5]": Fault, Both, LimitedBytes(|to, bytes| to.fault = Some(Fault::Excess(bytes)));

    /// sends half of the body as a chunk, then a chunk without a valid size, and closes the connection
    "bad-chunk": Fault, Http1, None(|to| (to.chunked, to.fault) = (true, Some(Fault::BadChunk)));

    /// sends the response one byte at a time, with this pause between bytes
    "drip[=10ms]": Fault, Connection, Duration(|to, pause| to.fault = pace(1, pause));

    /// sends only the head of the response one byte at a time
    "drip-head[=10ms]": Fault, Connection, Duration(|to, pause| to.fault = Some(Fault::DripHead(pause)));

    /// sends the response at this rate
    "bandwidth=50KiB/s": Fault, Connection, Rate(|to, rate| to.fault = bandwidth(rate));

    /// sends bytes that are not HTTP, and closes the connection
    "garbage": NoResponse, Connection, None(|to| to.fault = insert(GARBAGE, Position::Here, ConnectionEnd::Close));

    /// responds, and closes the connection once it has been idle for this long, without an announcement
    "close-idle[=20ms]": Fault, Connection, Duration(|to, idle| to.fault = after(OutputFault::CloseIdle(idle)));

    /// responds, and leaves the connection open but dead: nothing more is read from it or sent on it
    "half-open": Fault, Connection, None(|to| to.fault = after(STALL));

    /// asks the client to use another connection
    "goaway": Fault, Both, None(|to| to.fault = Some(Fault::Goaway));

    /// responds, and asks the client to use another connection if this is at least the third response on this one
    "goaway=3": Fault, Both, Count(|to, count| to.fault = Some(Fault::GoawayAfter(count)));

    /// refuses the request without processing it; the same as `rst=REFUSED_STREAM`
    "refused-stream": NoResponse, Http2, None(|to| to.fault = Some(Fault::Rst(Reason::REFUSED_STREAM)));

    /// resets the stream with this error code, by name or as `0x8`
    "rst=CANCEL": NoResponse, Http2, Code(|to, code| to.fault = Some(Fault::Rst(code)));

    /// does not read the request's body, so that its flow-control window is never opened again, and never responds
    "no-window": NoResponse, Http2, None(|to| to.fault = Some(Fault::NoWindow));

    /// never responds, and does not respond to PINGs either
    "no-ping": NoResponse, Http2, None(|to| to.fault = Some(Fault::NoPing));

    /// closes all connections, and refuses new ones for this long; `down=0` refuses none
    "down[=3s]": NoResponse, Server, Duration(|to, length| to.fault = outage(Outage::Down, length));

    /// for this long, reads and sends nothing on any connection and accepts none, so that connecting takes until then;
    /// responds afterwards
    "blackhole[=3s]": Fault, Server, Duration(|to, length| to.fault = outage(Outage::Blackhole, length));

    /// the next connection gets a certificate that is `expired`, for a `wrong-name` or `untrusted`, or its handshake
    /// never ends (`stall`); takes the turn of a connection, not of a request
    "tls=expired": NoResponse, Tls, Tls(|to, fault| to.fault = Some(Fault::Tls(fault)));
}

const GARBAGE: Bytes = Bytes::from_static(b"This is not HTTP.\0\xff\r\n\r\n");

/// What leaves a connection open and dead.
const STALL: OutputFault = OutputFault::Insert(Bytes::new(), Position::AfterFlush, Some(ConnectionEnd::Stall));

/// How often `bandwidth` sends.
const WRITES_PER_SECOND: u32 = 50;

fn bandwidth(rate: u64) -> Option<Fault> {
    let bytes = (rate / u64::from(WRITES_PER_SECOND)).clamp(1, 1 << 20);
    // Exact for small rates; at the largest ones, the pause is shorter than timers can be.
    pace(usize::try_from(bytes).unwrap_or(usize::MAX), Duration::from_secs_f64(bytes as f64 / rate as f64))
}

fn pace(bytes: usize, pause: Duration) -> Option<Fault> {
    Some(Fault::Output(OutputFault::Pace(bytes, pause)))
}

fn insert(bytes: Bytes, position: Position, end: ConnectionEnd) -> Option<Fault> {
    Some(Fault::Output(OutputFault::Insert(bytes, position, Some(end))))
}

fn after(fault: OutputFault) -> Option<Fault> {
    Some(Fault::AfterResponse(fault))
}

fn outage(outage: Outage, length: Duration) -> Option<Fault> {
    Some(Fault::Outage(outage, length))
}

fn end_after(bytes: u64, end: ConnectionEnd) -> Option<Fault> {
    Some(Fault::Output(OutputFault::EndAfter(bytes, end)))
}

impl Keyword {
    /// Returns the name without a value.
    pub(crate) fn name(&self) -> &'static str {
        self.usage.split(['=', '[']).next().unwrap_or_default()
    }

    /// Returns whether the name is followed by a value.
    pub(crate) fn takes_value(&self) -> bool {
        !matches!(self.value, Value::None(_))
    }

    /// Returns the default value, or `None` if there is no default.
    pub(crate) fn default(&self) -> Option<&'static str> {
        self.usage.split_once("[=")?.1.strip_suffix(']')
    }

    /// Returns the forms that a script can use.
    pub(crate) fn forms(&self) -> Vec<String> {
        match self.default() {
            Some(default) => vec![self.name().to_owned(), format!("{}={default}", self.name())],
            None => vec![self.usage.to_owned()],
        }
    }

    /// Returns a description in Markdown.
    pub(crate) fn meaning(&self) -> &'static str {
        self.meaning.trim()
    }
}

/// Returns the behaviors with this name, with their positions in the table. Some names have one with a value, and one
/// without.
pub(crate) fn named(name: &str) -> impl Iterator<Item = (usize, &'static Keyword)> {
    KEYWORDS.iter().enumerate().filter(move |(_, keyword)| keyword.name() == name)
}

/// Returns the names of all behaviors, separated by commas.
pub(crate) fn names() -> String {
    let mut names: Vec<_> = KEYWORDS.iter().map(Keyword::name).collect();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// The documentation of the crate and of the project contain the table. `UPDATE_DOCS=1` writes it.
    #[test]
    fn the_documentation_lists_every_behavior() {
        let rows = KEYWORDS.iter().map(|keyword| {
            let forms: Vec<_> = keyword.forms().iter().map(|form| format!("`{form}`")).collect();
            format!("| {} | {} | {} |\n", forms.join(", "), keyword.scope.text(), keyword.meaning())
        });
        let rows: String = rows.collect();
        let table = format!("| behavior | affects | what it does |\n|---|---|---|\n{rows}");
        check_document("src/fault/table.md", |_| table.clone());
        check_document("../../docs/faults.md", |document| {
            let (before, rest) = document.split_once(START).unwrap();
            let (_, after) = rest.split_once(END).unwrap();
            format!("{before}{START}{table}{END}{after}")
        });
    }

    const START: &str = "<!-- behaviors -->\n";
    const END: &str = "<!-- end of behaviors -->\n";

    #[track_caller]
    fn check_document(path: &str, expected: impl Fn(&str) -> String) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let document = fs::read_to_string(&file).unwrap_or_default();
        let expected = expected(&document);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&file, &expected).unwrap();
        } else {
            assert!(document == expected, "{path} is outdated: run UPDATE_DOCS=1 cargo test -p delayed-backend --lib");
        }
    }
}

//! The table of all behaviours that a script can name.
//!
//! The parser, its error messages and `--help` use [`KEYWORDS`]. A test checks that the crate's documentation matches.

use bytes::Bytes;

use crate::fault::connection_faults::{ConnectionEnd, OutputFault};
use crate::fault::value::Value;
use crate::fault::{Delay, Fault, RetryAfter};

/// A behaviour that a script can name.
#[derive(Debug)]
pub(crate) struct Keyword {
    /// In one of these forms: `name`, `name=example`, `name[=default]`.
    usage: &'static str,
    pub(crate) class: Class,
    pub(crate) value: Value,
    meaning: &'static str,
}

/// What a behaviour can be combined with.
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
    /// Requires `status`.
    Body,
    /// Everything except another fault.
    Fault,
    /// `delay` only, because there is no response.
    NoResponse,
}

/// Defines the table. A row consists of the usage, the class, and the type of the value with the function that adds it
/// to a behaviour. Its doc comment describes what the behaviour does.
macro_rules! keywords {
    ($($(#[doc = $meaning:literal])+ $usage:literal: $class:ident, $value:ident($add:expr);)+) => {
        /// All behaviours, in the order of the documentation.
        pub(crate) static KEYWORDS: &[Keyword] = &[$(Keyword {
            usage: $usage, class: Class::$class, value: Value::$value($add), meaning: concat!($($meaning),+),
        }),+];
    };
}

keywords! {
    /// responds immediately; cannot be combined with other behaviours
    "ok": Alone, None(|_| ());

    /// waits for the default delay before anything else: 5 s, or the value of `--delay`
    "delay": Delay, None(|to| to.delay = Some(Delay::Default));

    /// waits this long before anything else
    "delay=1s": Delay, Duration(|to, length| to.delay = Some(Delay::For(length)));

    /// responds with this status (200 to 599) and its reason phrase; 204, 205 and 304 have no body
    "status=503": Response, Status(|to, status| to.status = Some(status));

    /// adds this `Retry-After`; needs `status`
    "retry-after=2": RetryAfter, Field(|to, value| to.retry_after = Some(RetryAfter::Field(value)));

    /// adds a `Retry-After` with the date this far in the future; needs `status`
    "retry-after-date=2s": RetryAfter, Duration(|to, wait| to.retry_after = Some(RetryAfter::DateIn(wait)));

    /// sends this text as the body; needs `status`
    "body=\"try later\"": Body, Text(|to, text| to.body = Some(text));

    /// adds header fields with values of this total size in bytes
    "huge-headers[=1048576]": Response, HeaderBytes(|to, bytes| to.huge_headers = bytes);

    /// sends the response without `Content-Length`
    "chunked": Response, None(|to| to.chunked = true);

    /// responds without reading the request's body; without `early`, it is read first
    "early": Response, None(|to| to.early = true);

    /// never responds
    "hang": NoResponse, None(|to| to.fault = Some(Fault::Hang));

    /// resets the connection (RST) before any byte of the response
    "reset": NoResponse, None(|to| to.fault = end_after(0, ConnectionEnd::Reset));

    /// closes the connection (FIN) before any byte of the response
    "close": NoResponse, None(|to| to.fault = end_after(0, ConnectionEnd::Close));

    /// resets the connection after this many bytes of the response, including its head; a shorter response is not
    /// affected
    "reset-after=100": Fault, Bytes(|to, bytes| to.fault = end_after(bytes, ConnectionEnd::Reset));

    /// like `reset-after`, but closes the connection
    "close-after=100": Fault, Bytes(|to, bytes| to.fault = end_after(bytes, ConnectionEnd::Close));

    /// like `reset-after`, but leaves the connection open and sends nothing more
    "stall-after=100": Fault, Bytes(|to, bytes| to.fault = end_after(bytes, ConnectionEnd::Stall));

    /// announces the full `Content-Length`, but sends half of the body; with `chunked`, the body is never terminated
    "truncate": Fault, None(|to| to.fault = Some(Fault::Truncate(None)));

    /// like `truncate`, but sends this many bytes of the body
    "truncate=5": Fault, Bytes(|to, bytes| to.fault = Some(Fault::Truncate(Some(bytes))));

    /// sends the response one byte at a time, with this pause between bytes
    "drip[=10ms]": Fault, Duration(|to, pause| to.fault = Some(Fault::Output(OutputFault::Drip(pause))));

    /// sends bytes that are not HTTP, and closes the connection
    "garbage": NoResponse, None(|to| to.fault = Some(Fault::Output(OutputFault::Replace(GARBAGE))));

    /// asks the client to use another connection
    "goaway": Fault, None(|to| to.fault = Some(Fault::Goaway));

    /// refuses the request without processing it
    "refused-stream": NoResponse, None(|to| to.fault = Some(Fault::RefusedStream));

    /// closes all connections, and refuses new ones for this long
    "down[=3s]": NoResponse, Duration(|to, length| to.fault = Some(Fault::Down(length)));
}

const GARBAGE: Bytes = Bytes::from_static(b"This is not HTTP.\0\xff\r\n\r\n");

fn end_after(bytes: u64, end: ConnectionEnd) -> Option<Fault> {
    Some(Fault::Output(OutputFault::EndAfter(bytes, end)))
}

impl Keyword {
    /// Returns the name without a value.
    pub(crate) fn name(&self) -> &'static str {
        self.usage.split(['=', '[']).next().unwrap_or_default()
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

/// Returns the names of all behaviours, separated by commas.
pub(crate) fn names() -> String {
    let mut names: Vec<_> = KEYWORDS.iter().map(Keyword::name).collect();
    names.dedup();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_behaviour() {
        let rows = KEYWORDS.iter().map(|keyword| {
            let forms: Vec<_> = keyword.forms().iter().map(|form| format!("`{form}`")).collect();
            format!("//! | {} | {} |\n", forms.join(", "), keyword.meaning())
        });
        let table: String = rows.collect();
        assert!(include_str!("../lib.rs").contains(&table), "the table of src/lib.rs should be:\n{table}");
    }
}

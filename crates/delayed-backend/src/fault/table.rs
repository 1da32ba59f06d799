//! The behaviours that a script can name.
//!
//! The parser, its error messages, `--help` and the table in the crate's documentation all follow [`KEYWORDS`].

use bytes::Bytes;

use crate::fault::io::{ConnectionEnd, OutputFault};
use crate::fault::value::{Parsed, none, optional, or_default, required};
use crate::fault::{Behaviour, Delay, Fault, RetryAfter};

/// A behaviour that a script can name.
#[derive(Debug)]
pub(crate) struct Keyword {
    /// The name with an example of its value, in brackets if it may be left out.
    pub(crate) usage: &'static str,
    pub(crate) class: Class,
    /// What it does, in Markdown.
    pub(crate) meaning: &'static str,
    /// Reads the value, and adds the behaviour to others.
    pub(crate) add: fn(&mut Behaviour, Option<&str>) -> Parsed,
}

/// What a behaviour may be combined with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Nothing else.
    Alone,
    /// Everything.
    Delay,
    /// Whatever sends a response.
    Response,
    /// `status`, without another `Retry-After`.
    RetryAfter,
    /// `status`.
    Body,
    /// Everything but another fault.
    Fault,
    /// `delay` only, because there is no response.
    NoResponse,
}

impl Keyword {
    /// Returns the name without a value.
    pub(crate) fn name(&self) -> &'static str {
        self.usage.split(['=', '[']).next().unwrap_or_default()
    }

    /// Returns every form that a script may use.
    pub(crate) fn forms(&self) -> Vec<String> {
        let optional = self.usage.contains('[').then(|| self.name().to_owned());
        optional.into_iter().chain([self.usage.replace(['[', ']'], "")]).collect()
    }
}

/// Returns the names of all behaviours, separated by commas.
pub(crate) fn names() -> String {
    KEYWORDS.iter().map(Keyword::name).collect::<Vec<_>>().join(", ")
}

/// All behaviours, in the order of the documentation.
pub(crate) static KEYWORDS: &[Keyword] = &[
    Keyword {
        usage: "ok",
        class: Class::Alone,
        meaning: "responds at once; not to be combined with others",
        add: |_, value| none(value),
    },
    Keyword {
        usage: "delay[=1s]",
        class: Class::Delay,
        meaning: "waits before anything else; by default 5 s, or as long as `--delay` says",
        add: |to, value| optional(value, |length| to.delay = Some(length.map_or(Delay::Default, Delay::For))),
    },
    Keyword {
        usage: "status=503",
        class: Class::Response,
        meaning: "responds with this status (200 to 599) and its reason phrase; 204, 205 and 304 have no body",
        add: |to, value| required(value, |status| to.status = Some(status)),
    },
    Keyword {
        usage: "retry-after=2",
        class: Class::RetryAfter,
        meaning: "with `status`: adds `Retry-After` with this value",
        add: |to, value| required(value, |text| to.retry_after = Some(RetryAfter::Field(text))),
    },
    Keyword {
        usage: "retry-after-date=2s",
        class: Class::RetryAfter,
        meaning: "with `status`: adds `Retry-After` with the date this far in the future",
        add: |to, value| required(value, |wait| to.retry_after = Some(RetryAfter::DateIn(wait))),
    },
    Keyword {
        usage: "body=\"so sorry\"",
        class: Class::Body,
        meaning: "with `status`: sends this text as the body",
        add: |to, value| required(value, |text| to.body = Some(text)),
    },
    Keyword {
        usage: "huge-headers[=100000]",
        class: Class::Response,
        meaning: "adds header fields of this size in bytes, 1 MiB by default",
        add: |to, value| or_default(value, "1048576", |bytes| to.huge_headers = bytes),
    },
    Keyword {
        usage: "chunked",
        class: Class::Response,
        meaning: "sends the response without `Content-Length`",
        add: |to, value| none(value).inspect(|_| to.chunked = true),
    },
    Keyword {
        usage: "early",
        class: Class::Response,
        meaning: "responds before the request's body is read; all other behaviours read it first",
        add: |to, value| none(value).inspect(|_| to.early = true),
    },
    Keyword {
        usage: "hang",
        class: Class::NoResponse,
        meaning: "never responds",
        add: |to, value| none(value).inspect(|_| to.fault = Some(Fault::Hang)),
    },
    Keyword {
        usage: "reset",
        class: Class::NoResponse,
        meaning: "resets the connection (RST) before any byte of the response",
        add: |to, value| none(value).inspect(|_| to.fault = end_after(0, ConnectionEnd::Reset)),
    },
    Keyword {
        usage: "close",
        class: Class::NoResponse,
        meaning: "closes the connection (FIN) before any byte of the response",
        add: |to, value| none(value).inspect(|_| to.fault = end_after(0, ConnectionEnd::Close)),
    },
    Keyword {
        usage: "reset-after=100",
        class: Class::Fault,
        meaning: "resets the connection after this many bytes of the response, head included; a shorter one is complete",
        add: |to, value| required(value, |bytes| to.fault = end_after(bytes, ConnectionEnd::Reset)),
    },
    Keyword {
        usage: "close-after=100",
        class: Class::Fault,
        meaning: "as `reset-after`, but closes the connection",
        add: |to, value| required(value, |bytes| to.fault = end_after(bytes, ConnectionEnd::Close)),
    },
    Keyword {
        usage: "stall-after=100",
        class: Class::Fault,
        meaning: "as `reset-after`, but sends nothing more and leaves the connection open",
        add: |to, value| required(value, |bytes| to.fault = end_after(bytes, ConnectionEnd::Stall)),
    },
    Keyword {
        usage: "truncate[=5]",
        class: Class::Fault,
        meaning: "ends the body early under its full `Content-Length`: after this many bytes, or after half of them; \
                  with `chunked`, the end of the body is always missing",
        add: |to, value| optional(value, |bytes| to.fault = Some(Fault::Truncate(bytes))),
    },
    Keyword {
        usage: "drip[=1ms]",
        class: Class::Fault,
        meaning: "sends the response byte by byte, with this pause between two bytes, 10 ms by default",
        add: |to, value| {
            or_default(value, "10ms", |pause| {
                to.fault = Some(Fault::Output(OutputFault::Drip(pause)));
            })
        },
    },
    Keyword {
        usage: "garbage",
        class: Class::NoResponse,
        meaning: "sends bytes that are not HTTP, and closes the connection",
        add: |to, value| {
            let garbage = Bytes::from_static(b"This is no HTTP at all.\0\xff\r\n\r\n");
            none(value).inspect(|_| to.fault = Some(Fault::Output(OutputFault::Replace(garbage))))
        },
    },
    Keyword {
        usage: "goaway",
        class: Class::Fault,
        meaning: "asks the client to use another connection",
        add: |to, value| none(value).inspect(|_| to.fault = Some(Fault::Goaway)),
    },
    Keyword {
        usage: "refused-stream",
        class: Class::NoResponse,
        meaning: "refuses the request without processing it",
        add: |to, value| none(value).inspect(|_| to.fault = Some(Fault::RefusedStream)),
    },
    Keyword {
        usage: "down[=1s]",
        class: Class::NoResponse,
        meaning: "closes the listener and all connections for this long, 3 s by default",
        add: |to, value| or_default(value, "3s", |length| to.fault = Some(Fault::Down(length))),
    },
];

fn end_after(bytes: u64, end: ConnectionEnd) -> Option<Fault> {
    Some(Fault::Output(OutputFault::EndAfter(bytes, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_every_behaviour() {
        let documentation = include_str!("../lib.rs");
        let rows = KEYWORDS.iter().map(|keyword| {
            let forms = keyword.forms().iter().map(|form| format!("`{form}`")).collect::<Vec<_>>().join(", ");
            format!("//! | {forms} | {} |\n", keyword.meaning)
        });
        let table: String = rows.collect();
        assert!(documentation.contains(&table), "the table of src/lib.rs should be:\n{table}");
    }
}

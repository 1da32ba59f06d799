//! Which headers a request has that concern a gateway.

use http::{
    HeaderMap,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, MAX_FORWARDS, TE, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

use super::{X_REQUEST_ID, forwarded::is_forwarding};

/// Seen in one pass: most requests have few headers and hardly any of these, and to look up each costs more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    pub(crate) connection: bool,
    pub(crate) content_length: bool,
    pub(crate) cookie: bool,
    pub(crate) expect: bool,
    /// Any of those that tell for whom a request is forwarded.
    pub(crate) forwarding: bool,
    pub(crate) max_forwards: bool,
    /// One that may be spelt like the request's id.
    pub(crate) misspelt: bool,
    pub(crate) te: bool,
    pub(crate) transfer_encoding: bool,
    pub(crate) upgrade: bool,
    pub(crate) via: bool,
    pub(crate) x_request_id: bool,
}

impl Marks {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut marks = Self::default();
        for name in headers.keys() {
            marks.connection |= *name == CONNECTION;
            marks.content_length |= *name == CONTENT_LENGTH;
            marks.cookie |= *name == COOKIE;
            marks.expect |= *name == EXPECT;
            marks.max_forwards |= *name == MAX_FORWARDS;
            marks.te |= *name == TE;
            marks.transfer_encoding |= *name == TRANSFER_ENCODING;
            marks.upgrade |= *name == UPGRADE;
            marks.via |= *name == VIA;
            marks.forwarding |= *name == FORWARDED;
            // Neither standard names nor most others begin so.
            if name.as_str().starts_with('x') {
                marks.forwarding |= is_forwarding(name);
                marks.x_request_id |= *name == X_REQUEST_ID;
                marks.misspelt |= name.as_str().contains('_');
            }
        }
        marks
    }
}

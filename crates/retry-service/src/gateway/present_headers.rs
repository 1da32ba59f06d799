//! Which headers a request has, of those that a gateway handles.

use http::{
    HeaderMap,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, MAX_FORWARDS, TE, TRANSFER_ENCODING, UPGRADE, VIA,
    },
};

use super::{forwarded::is_forwarding, request_id::X_REQUEST_ID};

/// The presence of each header, found in one pass: most requests have few headers and hardly any of these, so that a
/// lookup of each would cost more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PresentHeaders {
    pub(super) connection: bool,
    pub(super) content_length: bool,
    pub(super) cookie: bool,
    pub(super) expect: bool,
    /// Any header that says for whom a request is forwarded.
    pub(super) forwarding: bool,
    pub(super) max_forwards: bool,
    /// A header that may be another spelling of `X-Request-Id`.
    pub(super) misspelt: bool,
    pub(super) te: bool,
    pub(super) transfer_encoding: bool,
    pub(super) upgrade: bool,
    pub(super) via: bool,
    pub(super) x_request_id: bool,
}

impl PresentHeaders {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut present = Self::default();
        for name in headers.keys() {
            present.connection |= *name == CONNECTION;
            present.content_length |= *name == CONTENT_LENGTH;
            present.cookie |= *name == COOKIE;
            present.expect |= *name == EXPECT;
            present.max_forwards |= *name == MAX_FORWARDS;
            present.te |= *name == TE;
            present.transfer_encoding |= *name == TRANSFER_ENCODING;
            present.upgrade |= *name == UPGRADE;
            present.via |= *name == VIA;
            present.forwarding |= *name == FORWARDED;
            // Standard names and most others do not begin with x.
            if name.as_str().starts_with('x') {
                present.forwarding |= is_forwarding(name);
                present.x_request_id |= *name == X_REQUEST_ID;
                present.misspelt |= name.as_str().contains('_');
            }
        }
        present
    }
}

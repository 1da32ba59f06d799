//! What a request and its response carry: their bodies, and the errors sent instead of a response of the upstream.

pub(crate) mod error;
pub(crate) mod finish;
pub(crate) mod request_body;
pub(crate) mod response_body;

//! Requests: their bodies and headers.

pub(crate) mod body;
pub(crate) mod buffer_quota;
pub(crate) mod deadline_header;
pub(crate) mod default_headers;
pub(crate) mod expect_continue;
pub(crate) mod header_count;
pub(crate) mod hop_by_hop;
pub(crate) mod idempotency_key;
pub(crate) mod replay;
mod replay_buffer;

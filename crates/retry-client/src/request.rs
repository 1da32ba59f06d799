//! Requests: their bodies, and what each attempt sends.

pub(crate) mod attempt_request;
pub(crate) mod body;
pub(crate) mod buffer_quota;
pub(crate) mod expect_continue;
pub(crate) mod hop_by_hop;
pub(crate) mod idempotency_key;
pub(crate) mod replay;
pub(crate) mod upload_limit;

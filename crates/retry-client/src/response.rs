//! Responses: their heads, and how their bodies are buffered, resumed and drained.

pub(crate) mod body;
pub(crate) mod buffering;
pub(crate) mod drain;
pub(crate) mod framing;
pub(crate) mod head_limits;
pub(crate) mod received_body;
pub(crate) mod resume;
pub(crate) mod retry_after;

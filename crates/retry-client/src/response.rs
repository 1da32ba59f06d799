//! Responses: how their heads are checked, and their bodies buffered and resumed.

pub(crate) mod body;
pub(crate) mod buffering;
pub(crate) mod framing;
pub(crate) mod grpc_buffering;
pub(crate) mod received_body;
pub(crate) mod resume;

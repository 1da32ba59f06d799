//! gRPC over HTTP/2: the status of a call, and where the first message of a response ends.

pub(crate) mod code;
pub(crate) mod code_set;
pub(crate) mod first_message;

//! The servers that a client may send a request to, and which of them are up.

pub(crate) mod config;
pub(crate) mod status;

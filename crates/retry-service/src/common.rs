//! What `retry-service` and `delayed-backend` have in common: the files in this folder are the same in both crates.

pub mod duration;
pub mod error_payload;
pub mod listen;
pub mod log_line;
pub mod signals;
pub mod usage_error;

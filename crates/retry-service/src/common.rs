//! Files that `retry-service` and `delayed-backend` share: the two folders are identical, see scripts/check-common.sh.

pub mod duration;
pub mod error_payload;
pub mod listen;
pub mod log_line;
pub mod signals;
pub mod usage_error;

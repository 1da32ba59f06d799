//! Files that `retry-service` and `delayed-backend` share: the two folders are identical, see scripts/check-common.sh.

pub(crate) mod duration;
pub(crate) mod error_payload;
pub(crate) mod listen;
pub(crate) mod log_line;
pub(crate) mod signals;
pub(crate) mod usage_error;

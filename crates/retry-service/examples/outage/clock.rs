//! The time that all processes of a measurement share.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
pub(crate) type Micros = u64;

pub(crate) const SECOND: Micros = 1_000_000;

#[allow(clippy::disallowed_methods, reason = "measures")]
pub(crate) fn now() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros().try_into().unwrap()
}

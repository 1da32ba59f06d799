//! [`cold_path`]: a hint for the compiler.

/// Marks the branch that calls it as unlikely, so that the code of a call without clock, timer and budget is in one
/// piece. `core::hint` has such a function, too, but not yet in the oldest Rust that this crate supports.
#[cold]
#[inline]
pub(crate) const fn cold_path() {}

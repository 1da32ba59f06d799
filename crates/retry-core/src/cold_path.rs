//! [`cold_path`]: a hint for the compiler.

/// Marks the branch that calls it as unlikely. It need not be: a call that reads the clock, or has a timer or a budget,
/// takes longer anyway, and without that code in its way, one that has none is shorter. `core::hint` has such a function,
/// too, but not yet in the oldest Rust that this crate supports.
#[cold]
#[inline]
pub(crate) const fn cold_path() {}

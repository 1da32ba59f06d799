//! One attempt, and its timeout.

use core::time::Duration;

/// What an operation knows of the attempt that it makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The number of the attempt, starting at 1.
    pub number: u32,
    /// The time left until the policy's deadline; `None` if it has no deadline.
    pub remaining: Option<Duration>,
}

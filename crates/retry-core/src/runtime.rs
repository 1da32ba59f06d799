//! [`Runtime`]: the source of time, timers and randomness.

use core::time::Duration;

/// A source of time, timers and randomness.
///
/// Implement it for another async runtime, for the virtual time of a test, or for blocking waits.
pub trait Runtime {
    /// The future returned by [`sleep`](Self::sleep).
    type Sleep: Future<Output = ()>;

    /// Returns the time since an origin of the implementor's choice. It never decreases, and the origin is the same for
    /// all calls that share a budget.
    fn now(&self) -> Duration;

    /// Returns a future that completes once `wait` is over, and not earlier. Not called for waits of zero between
    /// attempts.
    fn sleep(&self, wait: Duration) -> Self::Sleep;

    /// Returns 64 uniformly distributed bits, for jitter. They need not be secret, but should differ between processes.
    fn random(&self) -> u64;
}

//! [`Runtime`]: the source of time, timers and randomness.

use core::time::Duration;

/// A source of time, timers and randomness.
///
/// Implement it for another async runtime, or for the virtual time of a test. Each call has a clone of it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a runtime",
    note = "enable the feature `tokio` of `retry-core`, or create the `Retry` with `Retry::with_runtime`"
)]
pub trait Runtime: Clone {
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

/// What a [`Retry`](crate::Retry) has instead of a runtime without the feature `tokio`: enough for blocking calls.
#[cfg(not(feature = "tokio"))]
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct NoRuntime;

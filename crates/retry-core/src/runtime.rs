//! The one seam to the outside: the time, a sleep, a random number.

use core::time::Duration;

/// Where an executor gets time and chance from.
///
/// Implement it for another async runtime, for a test's virtual time, or for a blocking wait.
pub trait Runtime {
    /// What [`sleep`](Self::sleep) returns.
    type Sleep: Future<Output = ()>;

    /// The time since an origin of the implementor's choice, the same for all calls that share a
    /// budget; it never goes back.
    fn now(&self) -> Duration;

    /// Completes once `wait` is over; never earlier. Never asked for a wait of zero.
    fn sleep(&self, wait: Duration) -> Self::Sleep;

    /// 64 evenly spread bits, for jitter. They need not be secret, but should differ between processes.
    fn random(&self) -> u64;
}

/// Tokio's timer and clock (so tokio's paused time works), and a random source per thread.
///
/// Needs the feature `tokio`, and a tokio runtime with its time driver enabled wherever a wait begins.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioRuntime;

#[cfg(feature = "tokio")]
mod tokio_runtime {
    use std::{sync::LazyLock, time::Duration};

    use tokio::time::{Instant, Sleep};

    use super::{Runtime, TokioRuntime};

    /// The origin of [`TokioRuntime::now`]. It lies in the past, because a paused clock stands at the
    /// moment it was paused, which may be before the first call of `now` in this process.
    static ORIGIN: LazyLock<Instant> = LazyLock::new(|| {
        let now = Instant::now();
        [365, 1].iter().find_map(|days| now.checked_sub(Duration::from_secs(days * 86_400))).unwrap_or(now)
    });

    impl Runtime for TokioRuntime {
        type Sleep = Sleep;

        fn now(&self) -> Duration {
            Instant::now().saturating_duration_since(*ORIGIN)
        }

        fn sleep(&self, wait: Duration) -> Sleep {
            tokio::time::sleep(wait)
        }

        fn random(&self) -> u64 {
            fastrand::u64(..)
        }
    }
}

#[cfg(all(test, feature = "tokio", target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_time_lies_well_before_any_paused_clock() {
        assert!(TokioRuntime.now() > Duration::from_secs(364 * 86_400));
    }

    #[test]
    fn random_numbers_differ() {
        let [first, second, third] = [(); 3].map(|()| TokioRuntime.random());
        assert!(first != second || second != third);
    }
}

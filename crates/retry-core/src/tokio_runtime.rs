//! [`TokioRuntime`]: tokio's clock and timers.

use std::{sync::LazyLock, time::Duration};

use tokio::time::{Instant, Sleep};

use crate::runtime::Runtime;

/// Tokio's clock and timers (paused time works, too), and a random number generator per thread.
///
/// Waits must start inside a tokio runtime whose time driver is enabled.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioRuntime;

/// The origin of [`TokioRuntime::now`]. In the past, because a paused clock may stand at a moment before the first call
/// of `now`.
static ORIGIN: LazyLock<Instant> = LazyLock::new(|| {
    let now = Instant::now();
    [365, 1].iter().find_map(|days| now.checked_sub(Duration::from_secs(days * 86_400))).unwrap_or(now)
});

impl Runtime for TokioRuntime {
    type Sleep = Sleep;

    fn now(&self) -> Duration {
        ORIGIN.elapsed()
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        tokio::time::sleep(wait)
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_earlier_than_any_paused_clock() {
        assert!(TokioRuntime.now() > Duration::from_secs(364 * 86_400));
    }

    #[test]
    fn random_numbers_differ() {
        let [first, second, third] = [(); 3].map(|()| TokioRuntime.random());
        assert!(first != second || second != third);
    }
}

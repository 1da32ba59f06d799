//! [`TokioRuntime`]: tokio's clock and timers.

use std::time::Duration;

use tokio::time::{Instant, Sleep};

use crate::{clock, runtime::Runtime};

/// Tokio's clock and timers (paused time works, too), and a random number generator per thread.
///
/// Waits must start inside a tokio runtime whose time driver is enabled.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioRuntime;

impl Runtime for TokioRuntime {
    type Sleep = Sleep;

    fn now(&self) -> Duration {
        clock::since_origin(|| Instant::now().into_std())
    }

    fn sleep(&self, wait: Duration) -> Sleep {
        tokio::time::sleep(wait)
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_differ() {
        let [first, second, third] = [(); 3].map(|()| TokioRuntime.random());
        assert!(first != second || second != third);
    }
}

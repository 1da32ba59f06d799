//! The clock of the standard library.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// The origin of times, the same for async and blocking calls, so that they can share a budget. In the past, because
/// tokio's clock may be paused at a moment before the first call.
static ORIGIN: LazyLock<Instant> = LazyLock::new(|| {
    let now = instant();
    [365, 1].iter().find_map(|days| now.checked_sub(Duration::from_secs(days * 86_400))).unwrap_or(now)
});

/// Returns the time from the origin to what `clock` returns.
pub(crate) fn since_origin(clock: impl Fn() -> Instant) -> Duration {
    // First, so that the times of one second do not become those of two.
    let origin = *ORIGIN;
    clock().saturating_duration_since(origin)
}

/// Returns the time since the origin.
pub(crate) fn now() -> Duration {
    since_origin(instant)
}

#[expect(clippy::disallowed_methods, reason = "a clock")]
fn instant() -> Instant {
    Instant::now()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_earlier_than_any_paused_clock() {
        assert!(now() > Duration::from_secs(364 * 86_400));
    }
}

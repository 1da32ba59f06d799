//! What the backend does with each request, as pure data.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// What is done with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Answer at once.
    Ok,
    /// Answer after a while.
    Delay(Duration),
}

/// A cycle of behaviours, one per request.
///
/// The default is the sample: three requests are delayed by five seconds, the fourth is answered
/// at once, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    healthy_every: NonZeroU32,
    delay: Duration,
}

impl Script {
    /// Delays every request but each `n`-th, which is answered at once.
    #[must_use]
    pub const fn healthy_every(n: NonZeroU32, delay: Duration) -> Self {
        Self { healthy_every: n, delay }
    }

    /// What is done with the request of this number; the first is number 1.
    #[must_use]
    pub fn behaviour(&self, number: NonZeroU64) -> Behaviour {
        if number.get().is_multiple_of(u64::from(self.healthy_every.get())) {
            Behaviour::Ok
        } else {
            Behaviour::Delay(self.delay)
        }
    }
}

impl Default for Script {
    fn default() -> Self {
        const FOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);
        Self::healthy_every(FOUR, Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behaviours(script: &Script) -> Vec<Behaviour> {
        (1..=8).filter_map(NonZeroU64::new).map(|number| script.behaviour(number)).collect()
    }

    #[test]
    fn parity_every_fourth_request_is_healthy() {
        let late = Behaviour::Delay(Duration::from_secs(5));
        let cycle = [late, late, late, Behaviour::Ok];
        assert_eq!(behaviours(&Script::default()), [cycle, cycle].concat());
    }

    #[test]
    fn healthy_every_request_never_delays() {
        let script = Script::healthy_every(NonZeroU32::MIN, Duration::from_secs(5));
        assert_eq!(behaviours(&script), [Behaviour::Ok; 8]);
    }
}

//! The health of one endpoint, as a function of events and time. `now` is the time since an origin that all share.

use std::time::Duration;

use crate::endpoint::window::Window;

/// Whether an endpoint gets requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Health {
    /// It gets its share; a growing one during the slow start.
    Up(Option<SlowStart>),
    /// It cannot be connected to.
    Unreachable(Outage),
    /// It is up, but its responses were failures.
    Ejected(Outage),
}

/// The time from when an endpoint went down until it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    pub(crate) since: Duration,
    /// How many probes have begun.
    pub(crate) probes: u32,
    next_probe: Duration,
    /// Whether a probe is in flight.
    is_probed: bool,
    /// How often the wait before a probe has doubled.
    doublings: u32,
}

/// The first wait before a probe, and the longest one.
const PROBE_WAIT: Duration = Duration::from_millis(50);
const MAX_PROBE_WAIT: Duration = Duration::from_secs(1);

impl Outage {
    pub(crate) fn new(now: Duration, random: u64) -> Self {
        Self::with_doublings(0, now, random)
    }

    /// Begins an outage after a slow start, if that was not over. The backoff continues: the endpoint was back for a moment
    /// only.
    pub(crate) fn again(slow_start: Option<&SlowStart>, now: Duration, random: u64) -> Self {
        Self::with_doublings(slow_start.map_or(0, |slow_start| slow_start.doublings), now, random)
    }

    fn with_doublings(doublings: u32, now: Duration, random: u64) -> Self {
        let mut outage = Self { since: now, probes: 0, next_probe: now, is_probed: false, doublings };
        outage.schedule_probe(now, random);
        outage
    }

    /// Returns when the next probe may begin; `None` while one is in flight.
    pub(crate) fn next_probe(&self) -> Option<Duration> {
        (!self.is_probed).then_some(self.next_probe)
    }

    pub(crate) fn begin_probe(&mut self) {
        self.is_probed = true;
        self.probes = self.probes.saturating_add(1);
        self.doublings = self.doublings.saturating_add(1);
    }

    /// Schedules the next probe after one has failed.
    pub(crate) fn end_probe(&mut self, now: Duration, random: u64) {
        self.is_probed = false;
        self.schedule_probe(now, random);
    }

    /// The wait doubles with each probe. Half of it is random, so that the probes of several clients spread out.
    fn schedule_probe(&mut self, now: Duration, random: u64) {
        let wait = PROBE_WAIT.saturating_mul(1 << self.doublings.min(16)).min(MAX_PROBE_WAIT);
        self.next_probe = now + wait / 2 + (wait / 2).mul_f64(fraction(random));
    }
}

/// The time after an endpoint has come back, in which a server that is still slow gets few requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlowStart {
    since: Duration,
    length: Duration,
    in_flight: u32,
    pub(crate) window: Window,
    /// Those of the outage before it.
    doublings: u32,
}

/// How many times as long as a request may be parked the slow start of an overloaded endpoint may last in addition. In the
/// simulation of retry-core, all that were parked have been sent by then; and a server that fails for another reason must not
/// be limited forever.
const EXTENSION: u32 = 3;

/// The share at the beginning.
const INITIAL_SHARE: f64 = 0.1;

impl SlowStart {
    /// `None` if the length is zero.
    pub(crate) fn new(now: Duration, length: Duration) -> Option<Self> {
        (!length.is_zero()).then_some(Self { since: now, length, in_flight: 0, window: Window::new(), doublings: 0 })
    }

    /// The same after an outage in which the endpoint was ejected.
    pub(crate) fn after(outage: &Outage, now: Duration, length: Duration) -> Option<Self> {
        Some(Self { doublings: outage.doublings, ..Self::new(now, length)? })
    }

    /// Whether it is over, even without a response: the first requests may be such that wait for something, and must not
    /// hold up all others. If the server has rejected requests, those that are parked are too many for it at once:
    /// then it lasts until none are, but not forever.
    ///
    /// `parked_for` is how long requests may wait, if any do.
    pub(crate) fn has_ended(&self, now: Duration, parked_for: Option<Duration>) -> bool {
        let extension =
            parked_for.filter(|_| self.window.was_too_large()).unwrap_or_default().saturating_mul(EXTENSION);
        self.since.saturating_add(self.length).saturating_add(extension) <= now
    }

    /// Returns the part of its full share that the endpoint gets, from 0 to 1.
    pub(crate) fn share(&self, now: Duration) -> f64 {
        now.saturating_sub(self.since).div_duration_f64(self.length).clamp(INITIAL_SHARE, 1.0)
    }

    /// Whether another request may be in flight, of at most `limit`.
    pub(crate) fn has_capacity(&self, limit: usize) -> bool {
        self.in_flight < self.window.size() && (self.in_flight as usize) < limit
    }

    pub(crate) fn begin_request(&mut self) {
        self.in_flight += 1;
    }

    pub(crate) fn record_response(&mut self) {
        self.window.record_response();
    }

    pub(crate) fn record_failure(&mut self) {
        self.window.record_failure();
    }

    pub(crate) fn end_request(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }
}

/// Returns a number from 0 to 1.
pub(crate) fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn probes_back_off() {
        for (random, expected) in
            [(0, [25, 50, 100, 200, 400, 500, 500]), (u64::MAX, [50, 100, 200, 400, 800, 1000, 1000])]
        {
            let mut outage = Outage::new(millis(7), random);
            let mut now = millis(7);
            for wait in expected {
                let due = outage.next_probe().unwrap();
                assert!(due.abs_diff(now + millis(wait)) < Duration::from_micros(1), "{due:?} {now:?} {wait}");
                outage.begin_probe();
                assert_eq!(outage.next_probe(), None, "one at a time");
                now = due;
                outage.end_probe(now, random);
            }
        }
    }

    #[test]
    fn the_backoff_continues_if_an_endpoint_was_not_really_back() {
        let mut outage = Outage::new(millis(0), 0);
        (0..3).for_each(|_| outage.begin_probe());
        let slow_start = SlowStart::after(&outage, millis(0), millis(5000));
        let next = |slow_start: Option<SlowStart>| Outage::again(slow_start.as_ref(), millis(0), 0).next_probe();
        assert_eq!(next(slow_start), Some(millis(200)));
        assert_eq!(next(SlowStart::new(millis(0), millis(5000))), Some(millis(25)));
        assert_eq!(next(None), Some(millis(25)));
    }

    #[test]
    fn the_share_grows_over_the_slow_start() {
        let slow_start = SlowStart::new(millis(1000), millis(5000)).unwrap();
        for (now, share) in [(0, 0.1), (1000, 0.1), (1500, 0.1), (3500, 0.5), (6000, 1.0), (9000, 1.0)] {
            assert_eq!(slow_start.share(millis(now)), share, "{now}");
        }
        assert_eq!(SlowStart::new(millis(0), millis(0)), None);
    }

    #[test]
    fn the_slow_start_ends_after_its_time() {
        let slow_start = SlowStart::new(millis(1000), millis(5000)).unwrap();
        assert!(!slow_start.has_ended(millis(5999), None));
        assert!(slow_start.has_ended(millis(6000), None));
        assert!(slow_start.has_ended(millis(6000), Some(millis(10_000))));
    }

    #[test]
    fn the_slow_start_of_a_server_that_rejects_requests_lasts_until_none_are_parked_but_not_forever() {
        let mut slow_start = SlowStart::new(millis(1000), millis(5000)).unwrap();
        (0..10).for_each(|_| slow_start.record_failure());
        assert!(!slow_start.has_ended(millis(35_999), Some(millis(10_000))));
        assert!(slow_start.has_ended(millis(6_000), None));
        assert!(slow_start.has_ended(millis(36_000), Some(millis(10_000))), "not forever");
    }

    proptest! {
        #[test]
        fn requests_in_flight_are_within_the_window_and_the_limit(events in prop::collection::vec(0..3, 0..200)) {
            const LIMIT: usize = 15;
            let mut slow_start = SlowStart::new(millis(0), millis(1)).unwrap();
            let mut in_flight = 0;
            for event in events {
                match event {
                    0 if slow_start.has_capacity(LIMIT) => {
                        slow_start.begin_request();
                        in_flight += 1;
                        prop_assert!(in_flight <= slow_start.window.size().min(LIMIT as u32));
                    }
                    1 if in_flight > 0 => {
                        slow_start.record_response();
                        slow_start.end_request();
                        in_flight -= 1;
                    }
                    2 if in_flight > 0 => {
                        slow_start.record_failure();
                        slow_start.end_request();
                        in_flight -= 1;
                    }
                    _ => {}
                }
                prop_assert_eq!(slow_start.has_capacity(LIMIT), in_flight < slow_start.window.size().min(LIMIT as u32));
            }
        }
    }
}

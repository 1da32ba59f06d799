//! The server: its capacity, what it does with too many attempts, and its outage.

use std::ops::Range;

use fastrand::Rng;

use crate::event_queue::Millis;

pub(crate) const OUTAGE: Range<Millis> = 60_000..120_000;
/// The part of the outage in which attempts hang.
pub(crate) const FREEZE: Range<Millis> = 60_000..70_000;
/// Attempts per second that the server can serve.
pub(crate) const CAPACITY: u32 = 5_000;
/// The cost of rejecting an attempt, in per cent of serving it. The second is the usual one.
pub(crate) const REJECTION_PERCENT: [u64; 3] = [1, 10, 25];

/// The time to the server and back.
const ROUND_TRIP: Millis = 20;
/// One in this many attempts fails at random.
const CHANCE: u32 = 100;

/// What becomes of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Served,
    /// There was an error, or too much to do.
    Failed,
    /// The server was killed.
    CutOff,
    /// The server is not there.
    Refused,
}

pub(crate) struct Server {
    rng: Rng,
    /// The time to reject an attempt, in microseconds.
    rejection: u64,
    /// When all accepted work will be done, in microseconds.
    busy_until: u64,
}

impl Server {
    /// The time to serve an attempt, in microseconds.
    const SERVE: u64 = 1_000_000 / CAPACITY as u64;
    /// The most work that can be queued. Further attempts are rejected.
    const QUEUE: u64 = 100_000;
    /// The most work, including rejections. The network drops further attempts before they reach the server.
    const BACKLOG: u64 = 1_000_000;

    pub(crate) fn new(rejection_percent: u64, rng: Rng) -> Self {
        Self { rng, rejection: Self::SERVE * rejection_percent / 100, busy_until: 0 }
    }

    /// Returns the outcome of an attempt that starts now, and when it is known.
    pub(crate) fn attempt(&mut self, now: Millis) -> (Outcome, Millis) {
        if FREEZE.contains(&now) {
            return (Outcome::CutOff, FREEZE.end);
        }
        if !self.is_reachable(now) {
            return (Outcome::Refused, now + ROUND_TRIP);
        }
        let arrival = u64::from(now) * 1000;
        let waiting = self.busy_until.saturating_sub(arrival);
        if waiting > Self::QUEUE {
            self.busy_until = arrival + (waiting + self.rejection).min(Self::BACKLOG);
            return (Outcome::Failed, now + ROUND_TRIP);
        }
        self.busy_until = arrival + waiting + Self::SERVE;
        let outcome = if self.rng.u32(..CHANCE) == 0 { Outcome::Failed } else { Outcome::Served };
        (outcome, (self.busy_until / 1000) as Millis + ROUND_TRIP)
    }

    /// Whether a connection is accepted.
    pub(crate) fn is_reachable(&self, now: Millis) -> bool {
        !OUTAGE.contains(&now) || FREEZE.contains(&now)
    }
}

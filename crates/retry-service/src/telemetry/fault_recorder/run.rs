//! Runs of healthy responses, which share a line.

use std::time::Duration;

use super::exchange::{IMMEDIATE, Item};

/// Delays that differ by less, or by less than a fifth, are about the same.
const TOLERANCE: Duration = Duration::from_millis(10);

/// Healthy responses that took about as long.
#[derive(Debug)]
pub(super) struct Run {
    item: Item,
    count: u32,
    /// The sum of their delays.
    delays: Duration,
    /// When the first was sent.
    pub(super) first: Duration,
    /// When the last was sent.
    pub(super) last: Duration,
}

impl Run {
    /// Starts a run with a response to a request that was sent at `start`; `None` if the response is not healthy.
    pub(super) fn start(item: &Item, start: Duration) -> Option<Self> {
        let run = || Self { item: item.clone(), count: 1, delays: item.delay, first: start, last: start };
        item.is_healthy().then(run)
    }

    /// Adds a response. Returns `false` if it does not belong to the run.
    pub(super) fn add(&mut self, item: &Item, start: Duration) -> bool {
        let is_alike = self.item.delay.abs_diff(item.delay) < TOLERANCE.max(self.item.delay / 5);
        let is_added = item.is_healthy() && is_alike && self.count < u32::MAX;
        if is_added {
            self.count += 1;
            self.delays += item.delay;
            self.last = start;
        }
        is_added
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Returns the script for all of its responses, with the mean of their delays.
    pub(super) fn script(mut self) -> String {
        let mean = self.delays / self.count;
        self.item.delay = if mean < IMMEDIATE { Duration::ZERO } else { mean };
        match self.count {
            1 => self.item.to_string(),
            count => format!("{}*{count}", self.item),
        }
    }
}

//! A queue of numbered events in the order of their time.
#![expect(clippy::indexing_slicing, reason = "an event's number is below the number of events")]

use std::num::NonZeroU32;

/// Simulated time in milliseconds.
pub(crate) type Millis = u32;

/// Has a linked list of events for each millisecond, so that adding and removing take constant time; a heap would slow down
/// as more calls wait. An event is in the queue at most once, so all lists share a single array. Within a millisecond, the
/// order is last in, first out.
pub(crate) struct EventQueue {
    now: Millis,
    /// The first event of each millisecond.
    first: Vec<Link>,
    /// For each event, the next one in the same millisecond.
    next: Vec<Link>,
}

/// The number of an event plus one, so that `None` needs no space.
type Link = Option<NonZeroU32>;

impl EventQueue {
    /// Creates an empty queue for events with numbers below `events`.
    pub(crate) fn new(events: u32) -> Self {
        Self { now: 0, first: Vec::new(), next: vec![None; events as usize] }
    }

    /// Adds an event at `time`, or now if that has passed.
    pub(crate) fn add(&mut self, time: Millis, event: u32) {
        let time = time.max(self.now) as usize;
        if time >= self.first.len() {
            self.first.resize(time + 1, None);
        }
        self.next[event as usize] = self.first[time].replace(NonZeroU32::MIN.saturating_add(event));
    }

    /// Removes the next event and returns it with its time, or `None` if there are no more.
    pub(crate) fn next(&mut self) -> Option<(Millis, u32)> {
        loop {
            let first = self.first.get_mut(self.now as usize)?;
            if let Some(link) = *first {
                let event = link.get() - 1;
                *first = self.next[event as usize];
                return Some((self.now, event));
            }
            self.now += 1;
        }
    }
}

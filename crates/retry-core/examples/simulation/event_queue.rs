//! A queue of calls in the order of their next event.
#![expect(clippy::indexing_slicing, reason = "a call's number is below the number of calls")]

use std::num::NonZeroU32;

/// Simulated time in milliseconds.
pub(crate) type Millis = u32;

/// Has a linked list of calls for each millisecond, so that adding and removing take constant time; a heap would slow down
/// as more calls wait. A call has at most one event at a time, so all lists share a single array. Within a millisecond, the
/// order is last in, first out.
pub(crate) struct EventQueue {
    now: Millis,
    /// The first call of each millisecond.
    first: Vec<Link>,
    /// For each call, the next one in the same millisecond.
    next: Vec<Link>,
}

/// The number of a call plus one, so that `None` needs no space.
type Link = Option<NonZeroU32>;

impl EventQueue {
    /// Creates a queue in which call *n* is due at `starts[n]`.
    pub(crate) fn new(starts: &[Millis]) -> Self {
        let mut queue = Self { now: 0, first: Vec::new(), next: vec![None; starts.len()] };
        (0..).zip(starts).for_each(|(call, &start)| queue.add(start, call));
        queue
    }

    /// Adds a call that is due at `time`, or now if that has passed.
    pub(crate) fn add(&mut self, time: Millis, call: u32) {
        let time = time.max(self.now) as usize;
        if time >= self.first.len() {
            self.first.resize(time + 1, None);
        }
        self.next[call as usize] = self.first[time].replace(NonZeroU32::MIN.saturating_add(call));
    }

    /// Removes the next call and returns it with its time, or `None` if there are no more.
    pub(crate) fn next(&mut self) -> Option<(Millis, u32)> {
        loop {
            let first = self.first.get_mut(self.now as usize)?;
            if let Some(link) = *first {
                let call = link.get() - 1;
                *first = self.next[call as usize];
                return Some((self.now, call));
            }
            self.now += 1;
        }
    }
}

//! What happens next: calls in the order of time.
#![expect(clippy::indexing_slicing, reason = "a call's number is below the number of calls")]

use std::num::NonZeroU32;

use crate::model::Millis;

/// One list of calls for each millisecond, so that adding and taking cost the same however many wait,
/// where a heap would slow down as the storm grows. A call is due for one thing at a time, so that the
/// lists can be threaded through a single array. Within a millisecond the last to come is the first to go.
pub(crate) struct Agenda {
    now: Millis,
    /// By millisecond, the first call due in it.
    first: Vec<Link>,
    /// By call, the next one due in the same millisecond.
    next: Vec<Link>,
}

/// A call's number plus one, as a `None` then takes no room.
type Link = Option<NonZeroU32>;

impl Agenda {
    /// Call *n* is due at `starts[n]`.
    pub(crate) fn new(starts: &[Millis]) -> Self {
        let mut agenda = Self { now: 0, first: Vec::new(), next: vec![None; starts.len()] };
        (0..).zip(starts).for_each(|(call, &start)| agenda.add(start, call));
        agenda
    }

    /// The call is due at `time`; at once if that has passed.
    pub(crate) fn add(&mut self, time: Millis, call: u32) {
        let time = time.max(self.now) as usize;
        if time >= self.first.len() {
            self.first.resize(time + 1, None);
        }
        self.next[call as usize] = self.first[time].replace(NonZeroU32::MIN.saturating_add(call));
    }

    /// The next call that is due, and when; none when all is over.
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

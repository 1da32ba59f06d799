//! Room for so many requests, or tunnels, at a time, of all configurations together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// How many places are taken. Clones are of the same.
///
/// A semaphore could do it; but every request takes a place, nobody waits for one, how many there are may change, and this
/// is one addition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Room(Arc<AtomicUsize>);

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Room);

impl Room {
    /// A place, if fewer than so many are taken.
    pub(crate) fn enter(&self, places: usize) -> Option<Place> {
        let entered = self.0.fetch_update(Relaxed, Relaxed, |taken| (taken < places).then_some(taken + 1));
        entered.is_ok().then(|| Place(self.clone()))
    }

    pub(crate) fn taken(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_it_is_left() {
        let room = Room::default();
        let (one, other) = (room.enter(2), room.enter(2));
        assert!(one.is_some() && other.is_some() && room.enter(2).is_none());
        assert_eq!(room.taken(), 2);
        drop(one);
        assert!(room.enter(1).is_none());
        assert!(room.enter(2).is_some());
        assert_eq!(room.taken(), 1);
        assert!(Room::default().enter(0).is_none());
    }
}

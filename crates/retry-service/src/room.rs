//! Room for so many requests at a time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// So many places, and how many are taken. Clones are of the same.
///
/// A semaphore could do it; but every request takes a place, nobody waits for one, and this is one addition.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Places>);

#[derive(Debug)]
struct Places {
    all: usize,
    taken: AtomicUsize,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Room);

impl Room {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Places { all: places, taken: AtomicUsize::new(0) }))
    }

    /// A place, unless all are taken.
    pub(crate) fn enter(&self) -> Option<Place> {
        let Places { all, taken } = &*self.0;
        let entered = taken.fetch_update(Relaxed, Relaxed, |taken| (taken < *all).then_some(taken + 1));
        entered.is_ok().then(|| Place(self.clone()))
    }

    pub(crate) fn taken(&self) -> usize {
        self.0.taken.load(Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_it_is_left() {
        let room = Room::new(2);
        let (one, other) = (room.enter(), room.enter());
        assert!(one.is_some() && other.is_some() && room.enter().is_none());
        assert_eq!(room.taken(), 2);
        drop(one);
        assert!(room.enter().is_some());
        assert_eq!(room.taken(), 1);
        assert!(Room::new(0).enter().is_none());
    }
}

//! The memory that all replay buffers hold together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes that buffers may still take; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<AtomicUsize>);

impl Memory {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Nothing taken yet.
    pub(crate) fn hold(&self) -> Held {
        Held { memory: self.clone(), bytes: 0 }
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// What one buffer has taken; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    memory: Memory,
    bytes: usize,
}

impl Held {
    /// Takes more, if there is as much.
    #[must_use]
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let taken = self.memory.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok();
        self.bytes += if taken { bytes } else { 0 };
        taken
    }

    pub(crate) fn give_back(&mut self) {
        self.memory.0.fetch_add(std::mem::take(&mut self.bytes), Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

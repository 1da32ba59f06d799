//! The limit on the bytes that all buffered bodies hold together.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The number of bytes that may still be buffered. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct BufferQuota(Arc<Available>);

/// All threads write to it, so that nothing else is on its cache lines. Processors fetch those in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Available {
    bytes: AtomicUsize,
}

impl BufferQuota {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Available { bytes: AtomicUsize::new(bytes) }))
    }

    /// Returns a reservation of zero bytes.
    pub(crate) fn reserve_none(&self) -> Reservation {
        Reservation { quota: self.clone(), bytes: 0 }
    }

    #[cfg(test)]
    pub(crate) fn available(&self) -> usize {
        self.0.bytes.load(Relaxed)
    }
}

/// The bytes that one buffer has reserved, released when this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    quota: BufferQuota,
    bytes: usize,
}

impl Reservation {
    /// Reserves more bytes. Returns whether as many were available.
    #[must_use]
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let reserved =
            self.quota.0.bytes.fetch_update(Relaxed, Relaxed, |available| available.checked_sub(bytes)).is_ok();
        if reserved {
            self.bytes += bytes;
        }
        reserved
    }

    /// Reserves as many bytes as are missing to this number. Returns whether they were available.
    #[must_use]
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        bytes <= self.bytes || self.grow(bytes - self.bytes)
    }

    pub(crate) fn release(&mut self) {
        self.quota.0.bytes.fetch_add(mem::take(&mut self.bytes), Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

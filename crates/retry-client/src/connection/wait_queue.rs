//! The requests that wait for a connection.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use tokio::sync::{Notify, futures::Notified};

use crate::connection::idle_connections::Reuse;

/// Wakes requests in the order in which they came.
#[derive(Default)]
pub(crate) struct WaitQueue {
    available: Notify,
    waiters: AtomicUsize,
    /// How many of the waiters may reuse any connection.
    any_reuse: AtomicUsize,
}

impl WaitQueue {
    /// Counts a waiter, and returns the number of those before it.
    pub(crate) fn enter(&self, reuse: Reuse) -> usize {
        self.any_reuse.fetch_add((reuse == Reuse::Any).into(), SeqCst);
        self.waiters.fetch_add(1, SeqCst)
    }

    pub(crate) fn leave(&self, reuse: Reuse) {
        self.waiters.fetch_sub(1, SeqCst);
        self.any_reuse.fetch_sub((reuse == Reuse::Any).into(), SeqCst);
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.load(SeqCst)
    }

    /// Whether one of the waiters may reuse any connection.
    pub(crate) fn has_any_reuse(&self) -> bool {
        self.any_reuse.load(SeqCst) > 0
    }

    /// Completes when this waiter is woken.
    pub(crate) fn woken(&self) -> Notified<'_> {
        self.available.notified()
    }

    /// Wakes a waiter, if there is one.
    pub(crate) fn wake_one(&self) {
        if self.len() > 0 {
            self.available.notify_one();
        }
    }

    pub(crate) fn wake_all(&self) {
        self.available.notify_waiters();
    }
}

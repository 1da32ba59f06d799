//! What happens to the records, as it happens.

use std::num::NonZeroU64;
use std::sync::Arc;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, broadcast};

/// The number of events that a subscriber can be behind before it misses the oldest.
const CAPACITY: usize = 1024;

/// A change of what is recorded or played.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    /// The request with this number has arrived, or more of it is known.
    ///
    /// The request itself is left to the recorder: events that wait for a slow subscriber keep no requests in memory, and
    /// a request is never copied to be changed.
    Request(NonZeroU64),
    /// The records are empty.
    Cleared,
    /// The script, the stubs or the seed has been replaced.
    Changed,
}

/// Sends events to their subscribers.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
    arrival: Arc<Notify>,
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(CAPACITY), arrival: Arc::default() }
    }
}

impl Events {
    /// Sends an event.
    pub(crate) fn send(&self, event: Event) {
        if self.sender.receiver_count() > 0 {
            // Fails only if the last subscriber has just left.
            let _ = self.sender.send(event);
        }
    }

    /// Wakes whoever waits for the next arrival.
    pub(crate) fn arrived(&self) {
        self.arrival.notify_waiters();
    }

    /// Completes when another request has arrived since this call.
    pub(crate) fn next_arrival(&self) -> Notified<'_> {
        self.arrival.notified()
    }

    /// Returns the number of current subscribers.
    pub(crate) fn subscribers(&self) -> usize {
        self.sender.receiver_count()
    }

    /// Subscribes to all events from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }
}

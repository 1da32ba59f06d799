//! What happens to the records, as it happens.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::recorder::recorded_request::RecordedRequest;

/// The number of events that a subscriber can be behind before it misses the oldest.
const CAPACITY: usize = 1024;

/// A change of what is recorded or played.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// A request has arrived, or more of it is known.
    Request(Arc<RecordedRequest>),
    /// The records are empty.
    Cleared,
    /// The script, the stubs or the seed has been replaced.
    Changed,
}

/// Sends events to their subscribers.
#[derive(Debug, Clone)]
pub(crate) struct Events(broadcast::Sender<Event>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }
}

impl Events {
    /// Sends an event, which is created only if somebody has subscribed.
    pub(crate) fn send(&self, event: impl FnOnce() -> Event) {
        if self.0.receiver_count() > 0 {
            // Fails only if the last subscriber has just left.
            let _ = self.0.send(event());
        }
    }

    /// Returns the number of current subscribers.
    pub(crate) fn subscribers(&self) -> usize {
        self.0.receiver_count()
    }

    /// Subscribes to all events from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.0.subscribe()
    }
}

//! The state that the requests of one connection share.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::fault::connection_faults::FaultSlot;
use crate::fault::outage::{Outage, OutageStarter, Outages};

/// What the backend knows about a connection.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    /// Its number; the first is number 1.
    pub(crate) number: u64,
    /// The fault of its output, if there is one.
    pub(crate) fault: FaultSlot,
    outages: OutageStarter,
    requests: AtomicU32,
    ignores_requests: AtomicBool,
}

impl ConnectionState {
    /// Returns the state of a new connection.
    pub(crate) fn new(number: u64, outages: OutageStarter) -> Self {
        Self {
            number,
            fault: FaultSlot::default(),
            outages,
            requests: AtomicU32::new(0),
            ignores_requests: AtomicBool::new(false),
        }
    }

    /// Counts a request, and returns its number on this connection; the first is number 1.
    pub(crate) fn count_request(&self) -> u32 {
        self.requests.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Makes the connection ignore all later requests.
    pub(crate) fn ignore_requests(&self) {
        self.ignores_requests.store(true, Ordering::Relaxed);
    }

    /// Whether requests are ignored, also because the connection is about to be closed by an outage.
    pub(crate) fn ignores_requests(&self) -> bool {
        self.ignores_requests.load(Ordering::Relaxed) || self.outages.is_down()
    }

    /// Starts an outage of this length.
    pub(crate) fn start_outage(&self, outage: Outage, length: Duration) {
        self.outages.start(outage, length);
    }

    /// Returns the outages from now on.
    pub(crate) fn outages(&self) -> Outages {
        self.outages.subscribe()
    }
}

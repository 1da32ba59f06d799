//! What the requests of one connection share.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::fault::io::Wire;

/// One connection, as the script sees it.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The first is number 1.
    pub(crate) number: u64,
    pub(crate) wire: Wire,
    outages: mpsc::Sender<Duration>,
    requests: AtomicU32,
    leaving: AtomicBool,
}

impl Connection {
    pub(crate) fn new(number: u64, outages: mpsc::Sender<Duration>) -> Self {
        Self { number, wire: Wire::default(), outages, requests: AtomicU32::new(0), leaving: AtomicBool::new(false) }
    }

    /// Takes note of a request and says what the highest stream before it was, were this HTTP/2.
    ///
    /// That holds for clients that use every stream in turn, as they do: 1, 3, 5 and so on.
    pub(crate) fn request_arrived(&self) -> u32 {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        before.saturating_mul(2).saturating_sub(1)
    }

    /// From now on nothing that arrives is looked at.
    pub(crate) fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Takes the whole backend down for a while; it ends this connection, too.
    pub(crate) fn take_down(&self, length: Duration) {
        // Where this fails, the backend is going down already.
        let _ = self.outages.try_send(length);
    }
}

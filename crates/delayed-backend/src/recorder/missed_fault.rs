//! Faults that have no effect, because the response ends before.

use std::num::NonZeroU64;
use std::sync::Arc;

use crate::recorder::Recorder;

/// Reports that the response to a request has ended before its fault.
#[derive(Debug)]
pub(crate) struct MissedFault {
    recorder: Arc<Recorder>,
    number: NonZeroU64,
    /// The request and its behavior, as in the log.
    request: String,
}

impl MissedFault {
    /// Returns what reports this about the request with this number.
    pub(crate) fn new(recorder: &Arc<Recorder>, number: NonZeroU64, request: String) -> Self {
        Self { recorder: Arc::clone(recorder), number, request }
    }

    /// Marks the record of the request, and logs why the fault was not reached.
    pub(crate) fn report(self, reason: &str) {
        self.recorder.set_fault_missed(self.number);
        log::info!("{}: not reached, {reason}", self.request);
    }
}

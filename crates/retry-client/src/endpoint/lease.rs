//! The use of an endpoint by a request, and what its response says about the endpoint.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use crate::endpoint::{local::LocalEndpoint, set::SlotGuard};

/// The use of an endpoint by a request, until its response is complete.
pub(crate) struct Lease {
    pub(crate) local: Arc<LocalEndpoint>,
    slot: Option<SlotGuard>,
    /// Whether the response is a failure.
    has_failed: bool,
    /// Whether the response has yet to be noted.
    counts_at_end: bool,
}

impl Lease {
    pub(crate) fn new(local: Arc<LocalEndpoint>, slot: Option<SlotGuard>) -> Self {
        local.in_flight.begin();
        Self { local, slot, has_failed: false, counts_at_end: false }
    }

    /// Whether the response decides whether the endpoint is up again.
    pub(crate) fn is_probe(&self) -> bool {
        self.slot.as_ref().is_some_and(SlotGuard::is_probe)
    }

    /// Notes the head of a response. If more shows soon what it is worth, it counts at its end, unless that is early: an
    /// endpoint whose responses are incomplete stays ejected. Others may take long.
    pub(crate) fn head_received(mut self, is_failure: bool, more_follows: bool) -> Self {
        self.local.endpoint.counts.overtaken.reset();
        if is_failure {
            self.failed();
        } else if more_follows {
            self.counts_at_end = true;
        } else {
            self.responded();
        }
        self
    }

    /// Notes a message of a gRPC call. If it is a stream, its end may take long: the first message counts as a response.
    pub(crate) fn message_received(&mut self) {
        if std::mem::take(&mut self.counts_at_end) {
            self.responded();
        }
    }

    fn responded(&self) {
        if let Some(slot) = &self.slot {
            slot.responded(&self.local.endpoint);
        }
    }

    /// Notes the end of a response.
    pub(crate) fn complete(&self) {
        let failures = &self.local.endpoint.counts.failures_in_row;
        if !self.has_failed && failures.load(Relaxed) > 0 {
            failures.store(0, Relaxed);
        }
    }

    /// Notes that the response is a failure, or incomplete.
    pub(crate) fn failed(&mut self) {
        self.counts_at_end = false;
        // A response with a failure may be incomplete as well.
        if !std::mem::replace(&mut self.has_failed, true) {
            self.local.failed();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("endpoint", &self.local.endpoint.name).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.counts_at_end {
            self.responded();
        }
        self.local.in_flight.end();
    }
}

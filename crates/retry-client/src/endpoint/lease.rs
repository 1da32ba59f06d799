//! The use of an endpoint by a request, and what its response says about the endpoint.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use http_body::Frame;

use crate::{
    endpoint::{local::LocalEndpoint, set::SlotGuard},
    grpc::{code::GrpcCode, code_set::GrpcCodes},
};

/// The use of an endpoint by a request, until its response is complete.
pub(crate) struct Lease {
    pub(crate) local: Arc<LocalEndpoint>,
    slot: Option<SlotGuard>,
    /// Whether the response is a failure.
    has_failed: bool,
    /// Whether the response has yet to be noted.
    counts_at_end: bool,
    /// Which codes in the trailers are failures; none if the head has shown what the response is.
    grpc_failures: GrpcCodes,
}

impl Lease {
    pub(crate) fn new(local: Arc<LocalEndpoint>, slot: Option<SlotGuard>) -> Self {
        local.in_flight.begin();
        Self { local, slot, has_failed: false, counts_at_end: false, grpc_failures: GrpcCodes::default() }
    }

    /// Whether the response decides whether the endpoint is up again.
    pub(crate) fn is_probe(&self) -> bool {
        self.slot.as_ref().is_some_and(SlotGuard::is_probe)
    }

    /// Notes the head of a response. A short one counts at its end, unless that is early: an endpoint whose responses are
    /// incomplete stays ejected. Others may take long.
    pub(crate) fn head_received(mut self, is_failure: bool, is_short: bool) -> Self {
        self.local.endpoint.counts.overtaken.reset();
        if is_failure {
            self.failed();
        } else if is_short {
            self.counts_at_end = true;
        } else {
            self.responded();
        }
        self
    }

    /// Notes the head of a response to a gRPC call, which is a failure if its trailers have one of these codes. Those of a
    /// stream may take long: its first message counts as a response.
    pub(crate) fn expect_grpc_status(mut self, failures: GrpcCodes) -> Self {
        self.local.endpoint.counts.overtaken.reset();
        (self.grpc_failures, self.counts_at_end) = (failures, true);
        self
    }

    /// Notes a part of the body.
    pub(crate) fn frame_received(&mut self, frame: &Frame<Bytes>) {
        if self.grpc_failures.is_empty() {
            return;
        }
        match frame.trailers_ref().map(GrpcCode::of) {
            Some(Some(code)) if self.grpc_failures.contains(code) => self.failed(),
            Some(_) => {}
            None if std::mem::take(&mut self.counts_at_end) => self.responded(),
            None => {}
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

//! What is over when an answer has been sent, or is given up.

use std::{fmt, net::IpAddr, sync::Arc};

use http::{HeaderValue, Response};
use http_body::Body;
use retry_client::Error;
use tokio::time::Instant;

use crate::{
    server::{connection_state::Busy, room::Place},
    telemetry::access_log::Record,
};

/// Goes along with the answer. Once it is dropped the request's place is free, and its record complete.
#[derive(Debug)]
pub(crate) struct Finish {
    record: Box<Record>,
    busy: Busy,
    /// Among the requests in flight; none where those are too many.
    place: Option<Place>,
    /// What the request is served by, to its end.
    served_by: Option<Arc<dyn fmt::Debug + Send + Sync>>,
}

impl Finish {
    pub(crate) fn new(record: Box<Record>, busy: Busy, place: Option<Place>) -> Self {
        Self { record, busy, place, served_by: None }
    }

    /// Whether the request may be answered: there is room for it.
    pub(crate) fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// Keeps what the request is served by until it is over.
    pub(crate) fn keep(&mut self, served_by: Arc<dyn fmt::Debug + Send + Sync>) {
        self.served_by = Some(served_by);
    }

    /// Notes by what the request is known in other logs, and whom it came from in the end.
    pub(crate) fn identified(&mut self, id: &HeaderValue, client: IpAddr) {
        self.record.identified(id, client);
    }

    /// When the request's head was there.
    pub(crate) fn begin(&self) -> Instant {
        self.record.begin()
    }

    pub(crate) fn answered<B: Body>(&mut self, response: &Response<B>) {
        self.record.answered(response);
    }

    /// Notes a part of the response's body of so many bytes, and whether it was the last.
    pub(crate) fn sent(&mut self, bytes: usize, is_last: bool) {
        self.record.sent(bytes, is_last);
    }

    /// Notes that the response's body is whole.
    pub(crate) fn ended(&mut self) {
        self.record.ended();
    }

    /// Notes that the response's body came no further: its caller must not take it for whole.
    pub(crate) fn broke_off(&mut self, error: &Error) {
        self.busy.line().ask_for_reset();
        self.record.broke_off(error);
    }
}

//! What is over when an answer has been sent, or is given up.

use std::net::IpAddr;

use http::{HeaderValue, Response};

use crate::{line::Busy, record::Record, room::Place};

/// Goes along with the answer. Once it is dropped the request's place is free, and its record complete.
#[derive(Debug)]
pub(crate) struct Finish {
    record: Option<Box<Record>>,
    busy: Busy,
    /// Among the requests in flight; none where those are too many.
    place: Option<Place>,
}

impl Finish {
    pub(crate) fn new(record: Option<Box<Record>>, busy: Busy, place: Option<Place>) -> Self {
        Self { record, busy, place }
    }

    /// Whether the request may be answered: there is room for it.
    pub(crate) fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// Notes by what the request is known in other logs, and whom it came from in the end.
    pub(crate) fn identified(&mut self, id: &HeaderValue, client: IpAddr) {
        if let Some(record) = &mut self.record {
            record.identified(id, client);
        }
    }

    pub(crate) fn answered<B>(&mut self, response: &Response<B>) {
        if let Some(record) = &mut self.record {
            record.answered(response);
        }
    }

    /// Notes a part of the body of so many bytes; none where it broke off.
    pub(crate) fn note(&mut self, part: Option<usize>) {
        if part.is_none() {
            self.busy.line().ask_for_reset();
        }
        if let Some(record) = &mut self.record {
            record.sent(part);
        }
    }
}

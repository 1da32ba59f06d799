//! Records the requests that the script applies to.

pub(crate) mod body;
pub(crate) mod report;

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::recorder::report::{RecordedBody, RecordedRequest, Report};

/// The default limit: enough for a soak test, in about ten megabytes.
pub(crate) const DEFAULT_LIMIT: usize = 50_000;

/// Holds the latest requests.
#[derive(Debug)]
pub(crate) struct Recorder {
    limit: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    received: u64,
    requests: VecDeque<RecordedRequest>,
}

impl Recorder {
    /// Returns a recorder that holds this many requests.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, entries: Mutex::default() }
    }

    /// Records the next request, and returns its number; the first is number 1.
    pub(crate) fn record(&self, request: impl FnOnce(NonZeroU64) -> RecordedRequest) -> NonZeroU64 {
        let mut entries = self.entries();
        let number = NonZeroU64::MIN.saturating_add(entries.received);
        entries.requests.push_back(request(number));
        entries.received = number.get();
        if entries.requests.len() > self.limit {
            entries.requests.pop_front();
        }
        number
    }

    /// Adds the body to a request, if that is still recorded.
    pub(crate) fn add_body(&self, number: NonZeroU64, body: RecordedBody) {
        let mut entries = self.entries();
        let index = entries.requests.binary_search_by_key(&number, |request| request.number);
        if let Some(request) = index.ok().and_then(|index| entries.requests.get_mut(index)) {
            request.body = Some(body);
        }
    }

    /// Returns how many requests there have been.
    pub(crate) fn received(&self) -> u64 {
        self.entries().received
    }

    /// Returns all that is recorded.
    pub(crate) fn report(&self) -> Report {
        let entries = self.entries();
        Report {
            received: entries.received,
            dropped: entries.received - entries.requests.len() as u64,
            requests: entries.requests.iter().cloned().collect(),
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // A panic while the lock was held left no request half written.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn request(number: NonZeroU64) -> RecordedRequest {
        let (head, ()) = Request::get("/hello").body(()).unwrap().into_parts();
        RecordedRequest::new(number, &head, 1, "ok".into())
    }

    #[test]
    fn only_the_latest_are_recorded_and_the_others_counted() {
        let recorder = Recorder::new(2);
        for _ in 0..5 {
            recorder.record(request);
        }
        let report = recorder.report();
        assert_eq!((report.received, report.dropped), (5, 3));
        let numbers: Vec<u64> = report.requests.iter().map(|request| request.number.get()).collect();
        assert_eq!(numbers, [4, 5]);
    }

    #[test]
    fn a_body_is_added_to_its_request_if_that_is_recorded() {
        let recorder = Recorder::new(2);
        let numbers: Vec<_> = (0..3).map(|_| recorder.record(request)).collect();
        let body = RecordedBody { length: 1, sha256: "00".into(), trailers: Vec::new() };
        for number in numbers.iter().take(2) {
            recorder.add_body(*number, body.clone());
        }
        let bodies: Vec<_> = recorder.report().requests.into_iter().map(|request| request.body).collect();
        assert_eq!(bodies, [Some(body), None]);
    }
}

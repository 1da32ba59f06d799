//! Records the requests that the script is applied to.

pub(crate) mod body;
pub(crate) mod recorded_request;

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::recorder::recorded_request::{RecordedBody, RecordedRequest};

/// The default limit: enough for a soak test, in about ten megabytes.
pub(crate) const DEFAULT_LIMIT: usize = 50_000;

/// Records the latest requests.
#[derive(Debug)]
pub(crate) struct Recorder {
    limit: usize,
    report: Mutex<Report>,
}

/// The content of `/requests`.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    /// The number of requests that have arrived.
    pub(crate) received: u64,
    /// The number of requests that are no longer recorded. These are the oldest.
    pub(crate) dropped: u64,
    pub(crate) requests: VecDeque<RecordedRequest>,
}

impl Recorder {
    /// Returns a recorder that keeps this many requests.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, report: Mutex::default() }
    }

    /// Records the next request, and returns its number; the first is number 1.
    pub(crate) fn record(&self, request: impl FnOnce(NonZeroU64) -> RecordedRequest) -> NonZeroU64 {
        let mut report = self.lock();
        let number = NonZeroU64::MIN.saturating_add(report.received);
        report.requests.push_back(request(number));
        report.received = number.get();
        if report.requests.len() > self.limit {
            report.requests.pop_front();
            report.dropped += 1;
        }
        number
    }

    /// Adds the body to a request, if the request is still recorded.
    pub(crate) fn add_body(&self, number: NonZeroU64, body: RecordedBody) {
        let requests = &mut self.lock().requests;
        let index = requests.binary_search_by_key(&number, |request| request.number);
        if let Some(request) = index.ok().and_then(|index| requests.get_mut(index)) {
            request.body = Some(body);
        }
    }

    /// Returns the number of requests that have arrived.
    pub(crate) fn received(&self) -> u64 {
        self.lock().received
    }

    /// Returns everything that is recorded.
    pub(crate) fn report(&self) -> Report {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Report> {
        // A panic while the lock was held left no request half written.
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use jiff::Timestamp;

    use super::*;

    fn request(number: NonZeroU64) -> RecordedRequest {
        let (head, ()) = Request::get("/hello").body(()).unwrap().into_parts();
        RecordedRequest::new(number, &head, 1, "ok".into())
    }

    #[test]
    fn only_the_latest_requests_are_recorded_and_dropped_ones_are_counted() {
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
    fn the_report_is_json() {
        let request = RecordedRequest { time: Timestamp::UNIX_EPOCH, ..request(NonZeroU64::MIN) };
        let report = Report { received: 1, dropped: 0, requests: [request].into() };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"received":1,"dropped":0,"requests":[{"number":1,"time":"1970-01-01T00:00:00Z","method":"GET","target":"/hello","version":"HTTP/1.1","connection":1,"idempotency_key":null,"body":null,"behaviour":"ok"}]}"#
        );
    }

    #[test]
    fn a_body_is_added_to_its_request_if_it_is_still_recorded() {
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

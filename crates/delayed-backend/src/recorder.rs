//! Records the requests that arrive.

pub(crate) mod body;
pub(crate) mod events;
pub(crate) mod missed_fault;
pub(crate) mod observed_body;
pub(crate) mod passing_body;
pub(crate) mod recorded_request;

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Serialize, Serializer};

use crate::recorder::events::{Event, Events};
use crate::recorder::recorded_request::{RecordedBody, RecordedRequest, RecordedResponse};

/// The limits of a recorder. The oldest requests are dropped so that neither is exceeded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The maximum number of requests.
    pub(crate) requests: usize,
    /// The maximum size of all requests, in bytes of memory.
    pub(crate) bytes: usize,
}

impl Limits {
    /// Enough for a soak test.
    pub(crate) const DEFAULT: Self = Self { requests: 50_000, bytes: 128 << 20 };
}

/// Records the latest requests.
#[derive(Debug)]
pub(crate) struct Recorder {
    limits: Limits,
    events: Events,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    report: Report,
    /// The size of all recorded requests.
    bytes: usize,
}

/// The content of `/requests`.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Report {
    /// The number of requests that have arrived.
    pub(crate) received: u64,
    /// The number of requests that are no longer recorded. These are the oldest.
    pub(crate) dropped: u64,
    #[serde(serialize_with = "requests")]
    pub(crate) requests: VecDeque<Arc<RecordedRequest>>,
}

fn requests<S: Serializer>(requests: &VecDeque<Arc<RecordedRequest>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(requests.iter().map(Arc::as_ref))
}

impl Recorder {
    /// Returns an empty recorder, which reports every change to `events`.
    pub(crate) fn new(limits: Limits, events: Events) -> Self {
        Self { limits, events, records: Mutex::default() }
    }

    /// Returns an empty recorder with the same limits and events.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.limits, self.events.clone())
    }

    /// Records the next request, and returns its number; the first is number 1.
    pub(crate) fn record(&self, request: impl FnOnce(NonZeroU64) -> RecordedRequest) -> NonZeroU64 {
        let mut records = self.lock();
        let number = NonZeroU64::MIN.saturating_add(records.report.received);
        let request = Arc::new(request(number));
        records.report.received = number.get();
        records.bytes += request.size();
        records.report.requests.push_back(request);
        records.enforce(self.limits);
        drop(records);
        self.events.send(Event::Request(number));
        self.events.arrived();
        number
    }

    /// Adds the body to a request, if the request is still recorded.
    pub(crate) fn add_body(&self, number: NonZeroU64, body: RecordedBody) {
        self.change(number, |request| request.body = Some(body));
    }

    /// Adds the response to a request, or replaces it, if the request is still recorded.
    pub(crate) fn set_response(&self, number: NonZeroU64, response: RecordedResponse) {
        self.change(number, |request| request.response = Some(response));
    }

    /// Marks a request whose response has ended before its fault, if the request is still recorded.
    pub(crate) fn set_fault_missed(&self, number: NonZeroU64) {
        self.change(number, |request| request.fault_missed = true);
    }

    fn change(&self, number: NonZeroU64, change: impl FnOnce(&mut RecordedRequest)) {
        let mut records = self.lock();
        let Some(request) = records.position(number).and_then(|index| records.report.requests.get_mut(index)) else {
            return;
        };
        let before = request.size();
        // Copies the request only while somebody reads it.
        change(Arc::make_mut(request));
        let after = request.size();
        records.bytes = records.bytes + after - before;
        records.enforce(self.limits);
        drop(records);
        self.events.send(Event::Request(number));
    }

    /// Returns the request with this number, if it is still recorded.
    pub(crate) fn get(&self, number: NonZeroU64) -> Option<Arc<RecordedRequest>> {
        let records = self.lock();
        records.position(number).and_then(|index| records.report.requests.get(index)).map(Arc::clone)
    }

    /// Returns the number of requests that have arrived.
    pub(crate) fn received(&self) -> u64 {
        self.lock().report.received
    }

    /// Returns everything that is recorded.
    pub(crate) fn report(&self) -> Report {
        self.latest(usize::MAX)
    }

    /// Returns at most `count` of the latest recorded requests.
    pub(crate) fn latest(&self, count: usize) -> Report {
        let records = self.lock();
        let Report { received, dropped, requests } = &records.report;
        let first = requests.len().saturating_sub(count);
        Report { received: *received, dropped: *dropped, requests: requests.range(first..).cloned().collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        // A panic while the lock was held left no request half written.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    fn position(&self, number: NonZeroU64) -> Option<usize> {
        self.report.requests.binary_search_by_key(&number, |request| request.number).ok()
    }

    fn enforce(&mut self, limits: Limits) {
        while self.report.requests.len() > limits.requests || self.bytes > limits.bytes {
            let Some(oldest) = self.report.requests.pop_front() else {
                return;
            };
            self.bytes -= oldest.size();
            self.report.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;
    use jiff::Timestamp;

    use super::*;

    fn recorder(requests: usize, bytes: usize) -> Recorder {
        Recorder::new(Limits { requests, bytes }, Events::default())
    }

    fn request(number: NonZeroU64) -> RecordedRequest {
        let (head, ()) = Request::get("/hello").header("accept", "*/*").body(()).unwrap().into_parts();
        RecordedRequest::new(number, &head, 1, None, "ok".into())
    }

    fn body(content: &'static [u8]) -> RecordedBody {
        RecordedBody {
            length: content.len() as u64,
            sha256: "00".into(),
            trailers: Vec::new(),
            content: Bytes::from_static(content),
        }
    }

    fn numbers(report: &Report) -> Vec<u64> {
        report.requests.iter().map(|request| request.number.get()).collect()
    }

    #[test]
    fn only_the_latest_requests_are_recorded_and_dropped_ones_are_counted() {
        let recorder = recorder(2, usize::MAX);
        for _ in 0..5 {
            recorder.record(request);
        }
        let report = recorder.report();
        assert_eq!((report.received, report.dropped), (5, 3));
        assert_eq!(numbers(&report), [4, 5]);
    }

    #[test]
    fn the_memory_is_limited() {
        let size = request(NonZeroU64::MIN).size();
        let recorder = recorder(10, 3 * size + 500);
        for _ in 0..3 {
            recorder.record(request);
        }
        assert_eq!(numbers(&recorder.report()), [1, 2, 3]);
        recorder.add_body(NonZeroU64::new(3).unwrap(), body(&[0; 500]));
        assert_eq!(numbers(&recorder.report()), [2, 3], "the body needs the room of a request");
        recorder.record(request);
        recorder.record(request);
        assert_eq!(numbers(&recorder.report()), [4, 5]);
        recorder.add_body(NonZeroU64::new(5).unwrap(), body(&[0; 5_000]));
        assert_eq!((recorder.report().requests.len(), recorder.report().dropped), (0, 5));
        assert_eq!(recorder.lock().bytes, 0);
    }

    #[test]
    fn events_keep_no_requests_in_memory() {
        let events = Events::default();
        let _slow = events.subscribe();
        let recorder = Recorder::new(Limits::DEFAULT, events);
        let number = recorder.record(request);
        let before = Arc::as_ptr(&recorder.get(number).unwrap());
        recorder.add_body(number, body(b"a"));
        assert_eq!(Arc::as_ptr(&recorder.get(number).unwrap()), before, "the request is not copied");
        assert_eq!(Arc::strong_count(&recorder.get(number).unwrap()), 2);
        assert!(recorder.emptied().get(number).is_none());
    }

    #[test]
    fn the_report_is_json() {
        let mut request = RecordedRequest { time: Timestamp::UNIX_EPOCH, ..request(NonZeroU64::MIN) };
        let report = |request: &RecordedRequest| Report {
            received: 1,
            dropped: 0,
            requests: [Arc::new(request.clone())].into(),
        };
        assert_eq!(
            serde_json::to_string(&report(&request)).unwrap(),
            r#"{"received":1,"dropped":0,"requests":[{"number":1,"time":"1970-01-01T00:00:00Z","method":"GET","target":"/hello","version":"HTTP/1.1","headers":{"accept":"*/*"},"connection":1,"body":null,"stub":null,"behavior":"ok","fault_missed":false,"response":null}]}"#
        );
        request.body = Some(body(b"abc"));
        request.stub = Some("items".into());
        request.response = Some(RecordedResponse { status: 200, length: 3, complete: true, milliseconds: 7 });
        let json = serde_json::to_value(report(&request)).unwrap();
        let json = &json["requests"][0];
        assert_eq!(json["body"].to_string(), r#"{"length":3,"sha256":"00","text":"abc","trailers":[]}"#);
        assert_eq!(json["stub"], "items");
        assert_eq!(json["response"].to_string(), r#"{"complete":true,"length":3,"milliseconds":7,"status":200}"#);
    }

    #[test]
    fn a_body_is_added_to_its_request_if_it_is_still_recorded() {
        let recorder = recorder(2, usize::MAX);
        let numbers: Vec<_> = (0..3).map(|_| recorder.record(request)).collect();
        for number in numbers.iter().take(2) {
            recorder.add_body(*number, body(b"a"));
        }
        let bodies: Vec<_> = recorder.report().requests.iter().map(|request| request.body.clone()).collect();
        assert_eq!(bodies, [Some(body(b"a")), None]);
    }
}

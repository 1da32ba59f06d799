//! What arrived: the requests the backend remembers.

pub(crate) mod body;

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::Serialize;

/// How many requests are remembered: enough for a soak, and still only some ten megabytes.
pub(crate) const KEPT: usize = 50_000;

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Record {
    /// Its number; the first is number 1.
    pub number: NonZeroU64,
    /// When its head was read.
    pub time: Timestamp,
    /// Its method.
    pub method: String,
    /// Its target: path and query. The end of a very long one is cut off.
    pub target: String,
    /// Its protocol: `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The number of the connection it came by; the first is number 1.
    pub connection: u64,
    /// Its `Idempotency-Key`, if it had one.
    pub idempotency_key: Option<String>,
    /// Its body, once it has arrived whole.
    pub body: Option<BodySeen>,
    /// What the script had in store for it.
    pub behaviour: String,
}

/// A body that arrived whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BodySeen {
    /// How many bytes it had.
    pub length: u64,
    /// Their SHA-256 digest, in hexadecimal.
    pub sha256: String,
    /// The fields that followed them, as `name: value`.
    pub trailers: Vec<String>,
}

/// The latest requests, up to a limit.
#[derive(Debug)]
pub(crate) struct Journal {
    limit: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    received: u64,
    records: VecDeque<Record>,
}

/// The journal as `/requests` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// How many requests arrived in all.
    received: u64,
    /// How many of them are no longer remembered; always the oldest.
    dropped: u64,
    requests: Vec<Record>,
}

impl Journal {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, entries: Mutex::default() }
    }

    /// Gives the next request its number, and remembers what `record` makes of it.
    pub(crate) fn arrival<T>(&self, record: impl FnOnce(NonZeroU64) -> (Record, T)) -> T {
        let mut entries = self.entries();
        let number = NonZeroU64::MIN.saturating_add(entries.received);
        let (record, rest) = record(number);
        entries.received = number.get();
        entries.records.push_back(record);
        if entries.records.len() > self.limit {
            entries.records.pop_front();
        }
        rest
    }

    /// Adds the body to a request, if it is still remembered.
    pub(crate) fn body_arrived(&self, number: NonZeroU64, body: BodySeen) {
        let mut entries = self.entries();
        let place = entries.records.binary_search_by_key(&number, |record| record.number);
        if let Some(record) = place.ok().and_then(|place| entries.records.get_mut(place)) {
            record.body = Some(body);
        }
    }

    pub(crate) fn report(&self) -> Report {
        let entries = self.entries();
        Report {
            received: entries.received,
            dropped: entries.received - entries.records.len() as u64,
            requests: entries.records.iter().cloned().collect(),
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.entries().received
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.entries().records.iter().cloned().collect()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Whoever panicked with the lock held left whole records behind.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: NonZeroU64) -> Record {
        Record {
            number,
            time: Timestamp::UNIX_EPOCH,
            method: "GET".into(),
            target: "/hello".into(),
            version: "HTTP/1.1".into(),
            connection: 1,
            idempotency_key: None,
            body: None,
            behaviour: "ok".into(),
        }
    }

    #[test]
    fn only_the_latest_are_kept_and_the_rest_is_counted() {
        let journal = Journal::new(2);
        for _ in 0..5 {
            journal.arrival(|number| (record(number), ()));
        }
        let report = journal.report();
        assert_eq!((report.received, report.dropped), (5, 3));
        let numbers: Vec<u64> = report.requests.iter().map(|record| record.number.get()).collect();
        assert_eq!(numbers, [4, 5]);
    }

    #[test]
    fn a_body_finds_its_request_or_nothing() {
        let journal = Journal::new(2);
        let numbers: Vec<_> = (0..3).map(|_| journal.arrival(|number| (record(number), number))).collect();
        let body = BodySeen { length: 1, sha256: "00".into(), trailers: Vec::new() };
        for number in numbers.iter().take(2) {
            journal.body_arrived(*number, body.clone());
        }
        let bodies: Vec<_> = journal.records().into_iter().map(|record| record.body).collect();
        assert_eq!(bodies, [Some(body), None]);
    }

    #[test]
    fn the_report_is_json() {
        let journal = Journal::new(2);
        journal.arrival(|number| (record(number), ()));
        assert_eq!(
            serde_json::to_string(&journal.report()).unwrap(),
            r#"{"received":1,"dropped":0,"requests":[{"number":1,"time":"1970-01-01T00:00:00Z","method":"GET","target":"/hello","version":"HTTP/1.1","connection":1,"idempotency_key":null,"body":null,"behaviour":"ok"}]}"#
        );
    }
}

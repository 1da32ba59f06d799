//! One request on record: what the access log and the metrics are told once it is over.

use std::{net::IpAddr, sync::Arc};

use http::{HeaderValue, Method, Response, StatusCode, Uri};
use retry_client::Journal;
use tokio::time::Instant;

use crate::metrics::Metrics;

/// Who is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) access_log: bool,
    pub(crate) metrics: Option<Arc<Metrics>>,
}

/// A request under way. When this is dropped, it is over.
#[derive(Debug)]
pub(crate) struct Record {
    listeners: Listeners,
    caller: IpAddr,
    method: Method,
    /// Shown without its query: people put secrets there.
    uri: Uri,
    begin: Instant,
    /// None until it is answered, and so for a caller that hung up before.
    status: Option<StatusCode>,
    attempts: u32,
    id: Option<HeaderValue>,
    bytes: u64,
    broken: bool,
}

impl Listeners {
    /// A new record, where anybody listens.
    pub(crate) fn record(&self, caller: IpAddr, method: &Method, uri: &Uri) -> Option<Box<Record>> {
        (self.access_log || self.metrics.is_some()).then(|| {
            Box::new(Record {
                listeners: self.clone(),
                caller,
                method: method.clone(),
                uri: uri.clone(),
                begin: Instant::now(),
                status: None,
                attempts: 0,
                id: None,
                bytes: 0,
                broken: false,
            })
        })
    }
}

impl Record {
    pub(crate) fn answered<B>(&mut self, response: &Response<B>) {
        self.status = Some(response.status());
        self.attempts = response.extensions().get().map_or(0, Journal::attempts);
    }

    /// Notes the id by which other logs know the request, and the client's address, if trusted proxies tell another
    /// than the peer's.
    pub(crate) fn identified(&mut self, id: &HeaderValue, client: IpAddr) {
        self.id = Some(id.clone());
        self.caller = client;
    }

    /// Notes a part of the answer's body of so many bytes; none where it broke off.
    pub(crate) fn sent(&mut self, part: Option<usize>) {
        match part {
            Some(bytes) => self.bytes += bytes as u64,
            None => self.broken = true,
        }
    }

    fn log(&self) {
        let Self { caller, method, uri, attempts, bytes, .. } = self;
        let path = uri.path();
        let id = self.id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or("-");
        let ms = (self.begin.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
        let status = self.status.map_or(499, |status| status.as_u16());
        let end = match self.status {
            None => ", caller hung up",
            Some(_) if self.broken => ", broken off",
            Some(_) => "",
        };
        log::info!(
            target: "access",
            caller:%, method:%, path, status, bytes, ms, attempts, request_id = id, broken = self.broken;
            "{caller} {method} {path} {status} {bytes} bytes in {ms:.1} ms, {attempts} attempts, id {id}{end}"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(metrics) = &self.listeners.metrics {
            metrics.request(&self.method, self.status, self.begin.elapsed());
        }
        if self.listeners.access_log {
            self.log();
        }
    }
}

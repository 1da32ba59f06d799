//! Observers of single exchanges: a request that is sent over a connection, and its response to the last byte.

use std::{fmt, sync::Arc};

use http::{HeaderMap, Method, StatusCode};

use crate::error::Error;

/// Observes what each server does with each request that is sent to it; see
/// [`ClientBuilder::exchange_observer`](crate::ClientBuilder::exchange_observer).
///
/// An attempt has one exchange, another one if it is hedged, and one more for each idle connection that turned out to be
/// closed ([`ExchangeEnd::NotSent`]). It has none if no endpoint could be connected to. The methods are called on the
/// threads that send the requests, and should return quickly.
pub trait ExchangeObserver: Send + Sync {
    /// Called when a request is about to be sent. What is returned observes the exchange.
    fn started(&self, exchange: &ExchangeStart<'_>) -> Box<dyn ObservedExchange>;

    /// Called when an endpoint could not be connected to, by a request or by a probe. `why` is the root cause.
    ///
    /// Not called for what says nothing about whether the endpoint is up: this machine lacks files or ports, or a
    /// certificate or a proxy rejects the connection for good.
    fn connect_failed(&self, endpoint: &str, why: &str) {
        let _ = (endpoint, why);
    }

    /// Called when a probe has connected to an endpoint again.
    fn reconnected(&self, endpoint: &str) {
        let _ = endpoint;
    }
}

/// Observes one exchange. It is dropped after its end.
pub trait ObservedExchange: Send {
    /// Called when the head of the response has arrived.
    fn head_received(&mut self, status: StatusCode, headers: &HeaderMap);

    /// Called once, at the end, with how many bytes of the response's body have arrived.
    fn ended(&mut self, body_bytes: u64, end: ExchangeEnd<'_>);
}

/// A request that is about to be sent.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ExchangeStart<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The endpoint, named as in [`EndpointStatus`](crate::EndpointStatus).
    pub endpoint: &'a str,
    /// Whether the connection carried a request before.
    pub reused: bool,
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ExchangeEnd<'a> {
    /// The response has arrived completely.
    Complete,
    /// There was no response, an invalid one, or an incomplete one.
    Failed(&'a Error),
    /// The server said that it did not process the request: over HTTP/2, by `REFUSED_STREAM` or `GOAWAY`.
    Refused(&'a Error),
    /// The client canceled it: a timeout of the attempt or the deadline elapsed, the response of another request was
    /// faster, or whoever waited for the response, or read it, did not do so to the end.
    Canceled,
    /// A connection that carried a request before turned out to be closed before anything was sent. The request goes to
    /// another one.
    NotSent,
}

/// The observer of a client, if it has one.
#[derive(Clone, Default)]
pub(crate) struct Observing(pub(crate) Option<Arc<dyn ExchangeObserver>>);

impl Observing {
    /// Starts to observe an exchange.
    pub(crate) fn start(&self, method: &Method, endpoint: &str, reused: bool) -> ExchangeWatch {
        ExchangeWatch(self.0.as_ref().map(|observer| {
            let observed = observer.started(&ExchangeStart { method, endpoint, reused });
            Box::new(Watched { observed, body_bytes: 0 })
        }))
    }

    pub(crate) fn connect_failed(&self, endpoint: &str, why: &str) {
        if let Some(observer) = &self.0 {
            observer.connect_failed(endpoint, why);
        }
    }

    pub(crate) fn reconnected(&self, endpoint: &str) {
        if let Some(observer) = &self.0 {
            observer.reconnected(endpoint);
        }
    }
}

impl fmt::Debug for Observing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Observing" } else { "None" })
    }
}

/// An exchange that may be observed. Dropped before its end, it was canceled.
///
/// Boxed, as every response has it and few are observed.
pub(crate) struct ExchangeWatch(Option<Box<Watched>>);

struct Watched {
    observed: Box<dyn ObservedExchange>,
    body_bytes: u64,
}

impl ExchangeWatch {
    pub(crate) fn head_received(&mut self, status: StatusCode, headers: &HeaderMap) {
        if let Some(watched) = &mut self.0 {
            watched.observed.head_received(status, headers);
        }
    }

    pub(crate) fn data_received(&mut self, bytes: usize) {
        if let Some(watched) = &mut self.0 {
            watched.body_bytes += bytes as u64;
        }
    }

    /// Ends the exchange. Has no effect if it has ended.
    pub(crate) fn end(&mut self, end: ExchangeEnd<'_>) {
        if let Some(mut watched) = self.0.take() {
            watched.observed.ended(watched.body_bytes, end);
        }
    }
}

impl Drop for ExchangeWatch {
    fn drop(&mut self) {
        self.end(ExchangeEnd::Canceled);
    }
}

impl fmt::Debug for ExchangeWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeWatch").finish_non_exhaustive()
    }
}

//! What every request passes, whoever answers it: the configuration in force, the limit on requests in flight, and its
//! record.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock, Weak,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use http::{Method, Request, Response};
use hyper::body::Incoming;
use jiff::Timestamp;
use retry_client::Client;

use crate::{
    exchange::{error::Problem, finish::Finish, response_body::Outgoing},
    gateway::downstream::Downstream,
    generation::{Generation, Routes},
    server::room::Room,
    telemetry::access_log::Record,
};

/// The service. What serves a request can be replaced while it runs.
#[derive(Debug)]
pub struct Front {
    current: RwLock<Arc<Generation>>,
    /// Those before it, of which some may have requests in flight.
    earlier: Mutex<Vec<Weak<Generation>>>,
    /// Whether the last reload was refused.
    refused: AtomicBool,
    room: Room,
    /// Tunnels outlast the configuration that they began with.
    tunnels: Room,
}

impl Front {
    /// A service that answers so many requests at a time; more are answered 503 at once.
    #[must_use]
    pub fn new(routes: Routes, max_in_flight: usize) -> Self {
        Self::of(Generation::new(routes, max_in_flight))
    }

    /// A service that begins with this configuration.
    #[must_use]
    pub fn of(mut generation: Generation) -> Self {
        let tunnels = Room::default();
        generation.routes.count_tunnels_in(&tunnels);
        Self {
            current: RwLock::new(Arc::new(generation)),
            earlier: Mutex::default(),
            refused: AtomicBool::new(false),
            room: Room::default(),
            tunnels,
        }
    }

    /// Serves new requests by another configuration; those in flight keep theirs. Returns its number.
    pub fn replace(&self, mut with: Generation) -> u64 {
        with.routes.count_tunnels_in(&self.tunnels);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        with.number = current.number + 1;
        with.since = Timestamp::now();
        let number = with.number;
        let before = std::mem::replace(&mut *current, Arc::new(with));
        drop(current);
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.retain(|generation| generation.strong_count() > 0);
        earlier.push(Arc::downgrade(&before));
        self.refused.store(false, Relaxed);
        number
    }

    /// Notes that another configuration was refused, and this one stays.
    pub fn keep(&self) {
        self.refused.store(true, Relaxed);
    }

    /// Whether the last reload was refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Relaxed)
    }

    /// What serves a request that begins now.
    pub(crate) fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sum of something over all clients with requests: that of the current configuration, and those before it.
    pub(crate) fn sum(&self, of: impl Fn(&Client) -> usize) -> usize {
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = earlier.iter().filter_map(Weak::upgrade).map(|generation| of(generation.routes.client()));
        earlier.sum::<usize>() + of(self.current().routes.client())
    }

    /// How many tunnels are open, or being opened, whatever configuration they began with.
    #[must_use]
    pub fn tunnels(&self) -> usize {
        self.tunnels.taken()
    }

    /// How many requests are being answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.room.taken()
    }

    /// Answers one request. Dropping the future, as when the caller hangs up, ends its retries.
    pub async fn answer(&self, downstream: &Downstream, mut request: Box<Request<Incoming>>) -> Response<Outgoing> {
        let generation = self.current();
        let Generation { routes, max_in_flight, listeners, .. } = &*generation;
        let record = Record::new(listeners, downstream.ip(), request.method(), request.uri());
        let mut finish = Finish::new(record, downstream.line().enter(), self.room.enter(*max_in_flight));
        let is_head = request.method() == Method::HEAD;
        let mut response = match routes {
            Routes::Sample(_) if !finish.has_place() => {
                Problem::too_busy().into_response(request.method(), request.uri())
            }
            Routes::Sample(app) => Box::pin(app.answer(*request)).await.map(Into::into),
            Routes::Gateway(gateway) => {
                let mut context = gateway.receive(downstream, &mut request, finish.begin());
                finish.identified(context.id(), context.client());
                if finish.has_place() {
                    gateway.respond(&mut context, request).await
                } else {
                    gateway.reject(&mut context, request, Problem::too_busy())
                }
            }
        };
        if is_head {
            Outgoing::leave_out_content(&mut response);
        }
        finish.answered(&response);
        finish.keep(generation);
        response.body_mut().finish_with(finish);
        response
    }
}

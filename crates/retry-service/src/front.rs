//! What every request passes, whoever answers it: the limit on requests in flight, and its record.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::{
    app::App,
    finish::Finish,
    gateway::{Caller, Gateway},
    metrics::Metrics,
    outgoing::Outgoing,
    problem::Problem,
    record::{Listeners, Record},
    room::Room,
    tasks::Tasks,
};

/// Who answers.
#[derive(Debug)]
pub enum Routes {
    /// The sample.
    Sample(App),
    /// The upstream.
    Gateway(Box<Gateway>),
}

/// The service: its routes, and what guards them.
#[derive(Debug)]
pub struct Front {
    routes: Routes,
    room: Room,
    listeners: Arc<Listeners>,
}

impl Front {
    /// A service that answers so many requests at a time; more are answered 503 at once.
    #[must_use]
    pub fn new(routes: Routes, max_in_flight: usize) -> Self {
        Self { routes, room: Room::new(max_in_flight), listeners: Arc::default() }
    }

    /// Logs each request when its answer has been sent.
    #[must_use]
    pub fn access_log(self, on: bool) -> Self {
        self.listeners(|listeners| listeners.access_log = on)
    }

    /// Counts requests.
    #[must_use]
    pub fn metrics(self, metrics: Option<Arc<Metrics>>) -> Self {
        self.listeners(|listeners| listeners.metrics = metrics)
    }

    /// Tells requests that end because these tasks are cut off from those whose callers hung up.
    #[must_use]
    pub fn tasks(self, tasks: Tasks) -> Self {
        self.listeners(|listeners| listeners.tasks = tasks)
    }

    fn listeners(mut self, change: impl FnOnce(&mut Listeners)) -> Self {
        // Nobody shares them yet.
        if let Some(listeners) = Arc::get_mut(&mut self.listeners) {
            change(listeners);
        }
        self
    }

    /// How many requests are being answered.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.room.taken()
    }

    /// Answers one request. Dropping the future, as when the caller hangs up, ends its retries.
    pub async fn answer(&self, caller: &Caller, request: Box<Request<Incoming>>) -> Response<Outgoing> {
        let record = Record::new(&self.listeners, caller.ip(), request.method(), request.uri());
        let mut finish = Finish::new(record, caller.line().enter(), self.room.enter());
        let mut response = match &self.routes {
            _ if !finish.has_place() => self.turn_away(caller, request, &mut finish),
            Routes::Sample(app) => Box::pin(app.answer(*request)).await.map(Into::into),
            Routes::Gateway(gateway) => gateway.answer(caller, request, &mut finish).await,
        };
        finish.answered(&response);
        response.body_mut().finish_with(finish);
        response
    }

    fn turn_away(&self, caller: &Caller, request: Box<Request<Incoming>>, finish: &mut Finish) -> Response<Outgoing> {
        match &self.routes {
            Routes::Sample(_) => Problem::too_busy().into_response(request.method(), request.uri()),
            Routes::Gateway(gateway) => gateway.turn_away(caller, request, Problem::too_busy(), finish),
        }
    }
}

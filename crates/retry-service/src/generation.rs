//! Everything that one configuration makes, and nothing that outlasts it.

use std::sync::Arc;

use jiff::Timestamp;
use retry_client::Client;

use crate::{
    gateway::Gateway,
    sample::App,
    server::{room::Room, shutdown::Tasks},
    settings::Dump,
    telemetry::{access_log::Listeners, metrics::Metrics},
};

/// Who answers.
#[derive(Debug)]
pub enum Routes {
    /// The sample.
    Sample(App),
    /// The upstream.
    Gateway(Box<Gateway>),
}

impl Routes {
    /// What they call the upstream with.
    pub(crate) fn client(&self) -> &Client {
        match self {
            Self::Sample(app) => app.client(),
            Self::Gateway(gateway) => gateway.client(),
        }
    }

    /// Counts the tunnels that they make, if they make any, among those of other configurations.
    pub(crate) fn count_tunnels_in(&mut self, room: &Room) {
        if let Self::Gateway(gateway) = self {
            gateway.count_tunnels_in(room);
        }
    }
}

/// One configuration at work. A request is served by one and the same from head to end, whatever is loaded meanwhile.
#[derive(Debug)]
pub struct Generation {
    pub(crate) routes: Routes,
    pub(crate) max_in_flight: usize,
    pub(crate) listeners: Arc<Listeners>,
    /// The settings that it was made of.
    pub(crate) dump: Dump,
    /// Counts configurations, from 1.
    pub(crate) number: u64,
    /// When it came into force.
    pub(crate) since: Timestamp,
}

impl Generation {
    /// Answers so many requests at a time; more are answered 503 at once.
    #[must_use]
    pub fn new(routes: Routes, max_in_flight: usize) -> Self {
        Self {
            routes,
            max_in_flight,
            listeners: Arc::default(),
            dump: Dump::default(),
            number: 1,
            since: Timestamp::now(),
        }
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

    /// Sets what `/config` shows.
    #[must_use]
    pub fn dump(mut self, dump: Dump) -> Self {
        self.dump = dump;
        self
    }
}

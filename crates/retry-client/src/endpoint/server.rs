//! One endpoint: what all clients of a set share of it.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{sync, time::Instant};

use crate::{
    base_url::BaseUrl,
    connection::pool::Pool,
    endpoint::{balancer::EndpointId, overtaken::Overtaken},
    lock::lock,
};

/// A server that requests are sent to.
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    /// The server, its address if that is fixed, and its proxy; for messages.
    pub(crate) name: Arc<str>,
    pub(crate) base_url: BaseUrl,
    /// The address of the name that this endpoint is for. `None` if it is for all of them.
    pub(crate) address: Option<IpAddr>,
    /// Each client has a sibling of it.
    pub(crate) pool: Arc<Pool>,
    pub(crate) counts: Counts,
    /// When the last check ended, and whether it found the endpoint reachable. Locked during a check, so that others wait
    /// for its result.
    pub(crate) last_check: sync::Mutex<Option<(Instant, bool)>>,
    /// Locked by the task that probes it. Each client has such a task: if that of one ends with its runtime, another
    /// continues.
    pub(crate) probing: sync::Mutex<()>,
    in_flight: Mutex<Vec<Arc<InFlight>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Failures since the last response that was none.
    pub(crate) failures_in_row: AtomicU32,
    pub(crate) overtaken: Overtaken,
    pub(crate) failures: AtomicU64,
    pub(crate) ejections: AtomicU64,
    pub(crate) probes: AtomicU64,
}

/// The requests in flight of one client, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct InFlight(AtomicUsize);

impl InFlight {
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Endpoint {
    pub(crate) fn new(
        id: EndpointId,
        name: Arc<str>,
        base_url: BaseUrl,
        address: Option<IpAddr>,
        pool: Arc<Pool>,
    ) -> Self {
        let (counts, last_check, probing, in_flight) = Default::default();
        Self { id, name, base_url, address, pool, counts, last_check, probing, in_flight }
    }

    /// Adds a client, and returns the count of its requests.
    pub(crate) fn add_client(&self) -> Arc<InFlight> {
        let count = Arc::<InFlight>::default();
        let mut clients = lock(&self.in_flight);
        // Without those of clients that are gone.
        clients.retain(|client| Arc::strong_count(client) > 1);
        clients.push(Arc::clone(&count));
        count
    }

    /// Returns the requests in flight of all clients.
    pub(crate) fn in_flight(&self) -> usize {
        lock(&self.in_flight).iter().map(|client| client.get()).sum()
    }
}

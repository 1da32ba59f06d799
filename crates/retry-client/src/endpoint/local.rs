//! An endpoint as one client uses it: with connections of its own.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use http::Method;
use tokio::{runtime::Handle, time::Instant};

use crate::{
    base_url::BaseUrl,
    connection::{
        pool::{EndpointDown, Pool},
        tls,
    },
    endpoint::{
        balancer::EndpointId,
        probe,
        reachability::is_unreachable,
        server::{Endpoint, InFlight},
        set::EndpointSet,
    },
    error_chain::{BoxError, find, root},
    exchange_observer::ExchangeWatch,
};

/// An endpoint, and the connections of one client to it.
pub(crate) struct LocalEndpoint {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) pool: Arc<Pool>,
    /// A copy for this client, whose requests write to its reference counts.
    pub(crate) base_url: BaseUrl,
    pub(crate) in_flight: Arc<InFlight>,
    set: Arc<EndpointSet>,
    /// The outage for which this client has a task that probes the endpoint. Zero if there is none.
    probed_outage: AtomicU64,
}

impl LocalEndpoint {
    pub(crate) fn new(endpoint: Arc<Endpoint>, set: &Arc<EndpointSet>) -> Self {
        let (pool, base_url, in_flight) =
            (endpoint.pool.sibling(), endpoint.base_url.unshared(), endpoint.add_client());
        Self { endpoint, pool, base_url, in_flight, set: Arc::clone(set), probed_outage: AtomicU64::new(0) }
    }

    /// Starts probing the endpoint if it is unreachable.
    pub(crate) fn ensure_probed(self: &Arc<Self>) {
        let Some(outage) = self.set.outage(self.endpoint.id) else { return };
        if self.probed_outage.swap(outage, Relaxed) == outage {
            return;
        }
        let (local, set) = (Arc::downgrade(self), Arc::downgrade(&self.set));
        let canceled = move || {
            if let Some(local) = local.upgrade() {
                local.probed_outage.store(0, Relaxed);
            }
        };
        probe::spawn(set, Arc::clone(&self.endpoint), Arc::downgrade(&self.pool), canceled);
    }

    /// Whether the health of this endpoint matters: it is not the only one, or requests can wait until it is up.
    pub(crate) fn is_managed(&self) -> bool {
        self.set.is_managed()
    }

    /// Whether there are other endpoints.
    pub(crate) fn has_others(&self) -> bool {
        self.set.has_several()
    }

    /// Whether another endpoint is up that is not among these.
    pub(crate) fn has_alternative(&self, tried: &[EndpointId]) -> bool {
        self.set.has_alternative(tried)
    }

    /// Starts to observe a request that is about to be sent.
    pub(crate) fn observe(&self, method: &Method, reused: bool) -> ExchangeWatch {
        self.set.config.observing.start(method, &self.endpoint.name, reused)
    }

    /// Notes that another endpoint was the first to respond to a request.
    pub(crate) fn overtaken(&self) {
        self.set.overtaken(&self.endpoint);
    }

    /// Notes that there was no response, an incomplete one, or one that is a failure.
    pub(crate) fn failed(&self) {
        self.set.failed(&self.endpoint);
    }

    /// Notes that connecting, which `began` before, failed. Returns whether the endpoint was down.
    pub(crate) fn connect_failed(self: &Arc<Self>, error: &BoxError, began: Instant) -> bool {
        if find::<EndpointDown>(&**error).is_some() {
            return true;
        }
        let is_down = is_unreachable(&**error);
        if is_down {
            let why = tls::explain(&**error).map_or_else(|| root(&**error).to_string(), |(_, why)| why);
            self.set.connect_failed(&self.endpoint, began, &why);
            self.ensure_probed();
        }
        is_down
    }

    /// Returns whether the endpoint can be connected to, `since` a time.
    pub(crate) async fn is_reachable(self: Arc<Self>, since: Instant) -> bool {
        // A task, as others wait for the result even if this request is canceled or not polled.
        tokio::spawn(self.check(since)).await.unwrap_or(true)
    }

    /// Waits for a connection. If the request is canceled meanwhile, whether the endpoint can be connected to is checked
    /// without it. Otherwise, one that loses packets would stay up if no request waits for as long as the connect timeout.
    pub(crate) async fn check_if_canceled<T>(self: &Arc<Self>, connecting: impl Future<Output = T>) -> T {
        let mut guard = ConnectGuard(Some(self));
        let connected = connecting.await;
        guard.0 = None;
        connected
    }

    /// Connects to the endpoint, for all requests that failed before.
    async fn check(self: Arc<Self>, since: Instant) -> bool {
        let mut last_check = self.endpoint.last_check.lock().await;
        if self.set.is_unreachable(self.endpoint.id) {
            return false;
        }
        if let Some((ended, is_reachable)) = *last_check
            && ended >= since
        {
            return is_reachable;
        }
        let began = Instant::now();
        // With `None`, the limit allows no connection now.
        let is_reachable = match self.pool.probe().await {
            Some(Err(error)) => !self.connect_failed(&error, began),
            Some(Ok(())) | None => true,
        };
        *last_check = Some((Instant::now(), is_reachable));
        is_reachable
    }
}

/// Checks the endpoint when it is dropped.
struct ConnectGuard<'a>(Option<&'a Arc<LocalEndpoint>>);

impl Drop for ConnectGuard<'_> {
    fn drop(&mut self) {
        if let Some(local) = self.0
            && local.is_managed()
            // Nor if it is being checked already.
            && local.endpoint.last_check.try_lock().is_ok()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(Arc::clone(local).check(Instant::now()));
        }
    }
}

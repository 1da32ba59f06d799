//! The endpoints as one client uses them: with connections of its own.

use std::{
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{runtime::Handle, time::Instant};

use crate::{
    base_url::BaseUrl,
    connection::{
        pool::{EndpointDown, Pool},
        tls,
    },
    endpoint::{
        balancer::{EndpointId, Needs, two_of},
        probe,
        reachability::is_unreachable,
        refresh::Refresh,
        server::{Endpoint, InFlight},
        set::{EndpointSet, Parked, Pick, SlotGuard},
    },
    error_chain::{BoxError, find, root},
};

/// The endpoints of one client.
pub(crate) struct Endpoints {
    pub(crate) set: Arc<EndpointSet>,
    /// `None` if names are not resolved again.
    refresh: Option<Arc<Refresh>>,
    members: RwLock<Members>,
}

/// The endpoints of one version of the set.
#[derive(Default)]
struct Members {
    version: u64,
    list: Vec<Arc<LocalEndpoint>>,
}

/// An endpoint, and the connections of one client to it.
pub(crate) struct LocalEndpoint {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) pool: Arc<Pool>,
    /// A copy for this client, whose requests write to its reference counts.
    pub(crate) base_url: BaseUrl,
    in_flight: Arc<InFlight>,
    set: Arc<EndpointSet>,
    /// The outage for which this client has a task that probes the endpoint. Zero if there is none.
    probed_outage: AtomicU64,
}

/// The use of an endpoint by a request, until its response is complete.
pub(crate) struct Lease {
    pub(crate) local: Arc<LocalEndpoint>,
    slot: Option<SlotGuard>,
    /// Whether the response is a failure.
    has_failed: bool,
    /// Whether the response has yet to be noted.
    counts_at_end: bool,
}

impl Members {
    /// Returns the endpoints of a set; those of `before` keep their connections.
    fn of(set: &Arc<EndpointSet>, before: &Self) -> Self {
        let (version, endpoints) = set.endpoints();
        let list = endpoints.into_iter().map(|endpoint| {
            let known = before.find(endpoint.id);
            known.cloned().unwrap_or_else(|| Arc::new(LocalEndpoint::new(endpoint, set)))
        });
        Self { version, list: list.collect() }
    }

    fn find(&self, id: EndpointId) -> Option<&Arc<LocalEndpoint>> {
        self.list.iter().find(|local| local.endpoint.id == id)
    }

    /// Returns the endpoint with fewer requests in flight of two that are chosen at random. All are up.
    fn choose(&self, needs: impl FnOnce() -> Needs) -> Option<&Arc<LocalEndpoint>> {
        match &*self.list {
            [only] => Some(only),
            all => self.choose_other(&needs().tried).or_else(|| all.get(fastrand::usize(..all.len().max(1)))),
        }
    }

    /// As [`choose`](Self::choose), but only among those that the call has not tried.
    fn choose_other(&self, tried: &[EndpointId]) -> Option<&Arc<LocalEndpoint>> {
        let untried = || self.list.iter().filter(|local| !tried.contains(&local.endpoint.id));
        let [first, second] = two_of(untried().count(), fastrand::u64(..))?.map(|index| untried().nth(index));
        let (first, second) = first.zip(second)?;
        Some(if second.in_flight.get() < first.in_flight.get() { second } else { first })
    }
}

impl Endpoints {
    pub(crate) fn new(set: Arc<EndpointSet>, refresh: Option<Arc<Refresh>>) -> Self {
        let members = RwLock::new(Members::of(&set, &Members::default()));
        Self { set, refresh, members }
    }

    /// Returns the same endpoints with other connections.
    pub(crate) fn sibling(&self) -> Self {
        Self::new(Arc::clone(&self.set), self.refresh.clone())
    }

    /// Chooses an endpoint for a request, or lets it wait.
    pub(crate) fn pick(&self, needs: impl Fn() -> Needs) -> Result<Lease, Parked> {
        if let Some(refresh) = &self.refresh {
            refresh.ensure_running(&self.set);
        }
        if self.set.is_steady()
            && let Some(local) = self.with_members(|members| members.choose(&needs).cloned())
        {
            return Ok(Lease::new(local, None));
        }
        if self.set.has_unreachable() {
            self.with_members(|members| members.list.iter().for_each(LocalEndpoint::ensure_probed));
        }
        loop {
            let slot = match self.set.pick(needs()) {
                Pick::Slot(slot) => slot,
                Pick::Parked(parked) => return Err(parked),
            };
            // `None` if the endpoint was removed meanwhile.
            if let Some(lease) = self.lease(slot) {
                return Ok(lease);
            }
        }
    }

    /// Chooses an endpoint for a request beside one in flight: one that is up and that the call has not tried.
    pub(crate) fn pick_other(&self, tried: &[EndpointId]) -> Option<Lease> {
        if self.set.is_steady() {
            let other = self.with_members(|members| members.choose_other(tried).cloned())?;
            return Some(Lease::new(other, None));
        }
        self.lease(self.set.pick_other(tried)?)
    }

    /// Returns the lease of a slot; `None` if its endpoint was removed meanwhile.
    pub(crate) fn lease(&self, slot: SlotGuard) -> Option<Lease> {
        let local = self.with_members(|members| members.find(slot.endpoint()).cloned())?;
        Some(Lease::new(local, Some(slot)))
    }

    /// Returns the number of connections of all clients.
    pub(crate) fn connections(&self) -> usize {
        self.with_members(|members| members.list.iter().map(|local| local.pool.connections()).sum())
    }

    fn with_members<T>(&self, use_members: impl FnOnce(&Members) -> T) -> T {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        if members.version == self.set.version() {
            return use_members(&members);
        }
        drop(members);
        let mut members = self.members.write().unwrap_or_else(PoisonError::into_inner);
        *members = Members::of(&self.set, &members);
        use_members(&members)
    }
}

impl LocalEndpoint {
    fn new(endpoint: Arc<Endpoint>, set: &Arc<EndpointSet>) -> Self {
        let (pool, base_url, in_flight) =
            (endpoint.pool.sibling(), endpoint.base_url.unshared(), endpoint.add_client());
        Self { endpoint, pool, base_url, in_flight, set: Arc::clone(set), probed_outage: AtomicU64::new(0) }
    }

    /// Starts probing the endpoint if it is unreachable.
    fn ensure_probed(self: &Arc<Self>) {
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

impl Lease {
    fn new(local: Arc<LocalEndpoint>, slot: Option<SlotGuard>) -> Self {
        local.in_flight.begin();
        Self { local, slot, has_failed: false, counts_at_end: false }
    }

    /// Whether the response decides whether the endpoint is up again.
    pub(crate) fn is_probe(&self) -> bool {
        self.slot.as_ref().is_some_and(SlotGuard::is_probe)
    }

    /// Notes the head of a response. A short one counts at its end, unless that is early: an endpoint whose responses are
    /// incomplete stays ejected. Others may take long.
    pub(crate) fn head_received(mut self, is_failure: bool, is_short: bool) -> Self {
        self.local.endpoint.counts.overtaken.reset();
        if is_failure {
            self.failed();
        } else if is_short {
            self.counts_at_end = true;
        } else {
            self.responded();
        }
        self
    }

    fn responded(&self) {
        if let Some(slot) = &self.slot {
            slot.responded(&self.local.endpoint);
        }
    }

    /// Notes the end of a response.
    pub(crate) fn complete(&self) {
        let failures = &self.local.endpoint.counts.failures_in_row;
        if !self.has_failed && failures.load(Relaxed) > 0 {
            failures.store(0, Relaxed);
        }
    }

    /// Notes that the response is a failure, or incomplete.
    pub(crate) fn failed(&mut self) {
        self.counts_at_end = false;
        // A response with a failure may be incomplete as well.
        if !std::mem::replace(&mut self.has_failed, true) {
            self.local.failed();
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("endpoint", &self.local.endpoint.name).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.counts_at_end {
            self.responded();
        }
        self.local.in_flight.end();
    }
}

//! The endpoints of one client, and the choice among them while all are up. Otherwise the set decides.

use std::sync::{Arc, PoisonError, RwLock};

use crate::endpoint::{
    balancer::{EndpointId, Needs, two_of},
    lease::Lease,
    local::LocalEndpoint,
    refresh::Refresh,
    set::{EndpointSet, Parked, Pick, SlotGuard},
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

//! The endpoints that several clients share, one for each thread of a server: their state, and the requests that wait.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

use crate::{
    endpoint::{
        LOG_TARGET,
        balancer::{Balancer, Change, Conditions, EndpointId, Needs, Rules, Slot, Ticket},
        config::EndpointConfig,
        health::Health,
        server::Endpoint,
        status::{EndpointState, EndpointStatus},
    },
    lock::lock,
};

/// The endpoints and their health.
pub(crate) struct EndpointSet {
    pub(crate) config: EndpointConfig,
    /// Whether the health of endpoints matters. Otherwise there is one, and every request is sent to it.
    is_managed: bool,
    /// Whether a request may choose without asking the state.
    is_steady: AtomicBool,
    has_unreachable: AtomicBool,
    /// Whether there are several endpoints.
    has_several: AtomicBool,
    /// Changes with the list of endpoints.
    version: AtomicU64,
    /// Notified when an endpoint becomes unreachable.
    pub(crate) outages: Arc<Notify>,
    origin: Instant,
    state: Mutex<State>,
}

struct State {
    endpoints: Vec<Arc<Endpoint>>,
    balancer: Balancer<oneshot::Sender<SlotGuard>>,
    /// Why the last endpoint went down.
    last_outage: Option<Arc<str>>,
}

/// What a request gets.
pub(crate) enum Pick {
    Slot(SlotGuard),
    Parked(Parked),
}

/// A slot that is given back when it is dropped.
pub(crate) struct SlotGuard {
    set: Arc<EndpointSet>,
    slot: Slot,
}

/// A request in the queue, which it leaves when this is dropped.
pub(crate) struct Parked {
    set: Arc<EndpointSet>,
    ticket: Ticket,
    slot: oneshot::Receiver<SlotGuard>,
    /// Whether it has left. By now, its place may be that of the same call, parked again.
    is_released: bool,
}

impl State {
    /// Passes the load of the endpoints, and randomness, to a decision of the balancer.
    fn decide<T>(
        &mut self,
        now: Duration,
        decide: impl FnOnce(&mut Balancer<oneshot::Sender<SlotGuard>>, &Conditions<'_>) -> T,
    ) -> T {
        let Self { endpoints, balancer, .. } = self;
        let find = |id| endpoints.iter().find(|endpoint| endpoint.id == id);
        let in_flight = |id| find(id).map_or(0, |endpoint| endpoint.in_flight());
        let max_in_flight = |id| find(id).map_or(0, |endpoint| endpoint.pool.max_in_flight());
        let (in_flight, max_in_flight) = (&in_flight, &max_in_flight);
        decide(balancer, &Conditions { now, in_flight, max_in_flight, random: &random })
    }

    /// Returns the guard of a slot, and counts a request that probes an endpoint.
    fn guard(&self, slot: Slot, set: &Arc<EndpointSet>) -> SlotGuard {
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.id == slot.endpoint);
        if let Some(endpoint) = endpoint.filter(|_| slot.is_probe()) {
            endpoint.counts.probes.fetch_add(1, Relaxed);
        }
        SlotGuard { set: Arc::clone(set), slot }
    }
}

impl SlotGuard {
    pub(crate) fn endpoint(&self) -> EndpointId {
        self.slot.endpoint
    }

    /// Whether the response decides whether the endpoint is up again.
    pub(crate) fn is_probe(&self) -> bool {
        self.slot.is_probe()
    }

    /// Notes a response that was not a failure.
    pub(crate) fn responded(&self, endpoint: &Endpoint) {
        let change = self.set.update(|state, now| state.balancer.responded(self.slot, now));
        self.set.came_up(endpoint, change);
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.set.update(|state, now| state.balancer.end(self.slot, now, random()));
    }
}

impl Parked {
    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Waits until the request can be sent.
    pub(crate) async fn released(&mut self) -> Option<SlotGuard> {
        let slot = (&mut self.slot).await.ok();
        self.is_released = true;
        slot
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if !self.is_released {
            // Dropped after the lock, as it wakes a task.
            drop(self.set.update(|state, _| state.balancer.leave(self.ticket)));
        }
    }
}

/// A probe of an unreachable endpoint. If it does not connect, the next one is due later.
pub(crate) struct Probe {
    set: Arc<EndpointSet>,
    endpoint: EndpointId,
}

impl Drop for Probe {
    fn drop(&mut self) {
        let now = self.set.now();
        lock(&self.set.state).balancer.probe_failed(self.endpoint, now, random());
    }
}

fn random() -> u64 {
    fastrand::u64(..)
}

impl EndpointSet {
    pub(crate) fn new(config: EndpointConfig, endpoints: Vec<Arc<Endpoint>>) -> Arc<Self> {
        let parks = config.outage_wait.is_some();
        let EndpointConfig { max_ejected, slow_start, outage_wait, .. } = config;
        let rules = Rules { max_ejected, slow_start, outage_wait };
        let mut balancer = Balancer::new(rules);
        endpoints.iter().for_each(|endpoint| balancer.insert(endpoint.id, None));
        Arc::new(Self {
            is_managed: parks || endpoints.len() > 1 || config.dns_refresh.is_some(),
            config,
            is_steady: AtomicBool::new(true),
            has_unreachable: AtomicBool::new(false),
            has_several: AtomicBool::new(endpoints.len() > 1),
            version: AtomicU64::new(0),
            outages: Arc::default(),
            origin: Instant::now(),
            state: Mutex::new(State { endpoints, balancer, last_outage: None }),
        })
    }

    pub(crate) fn is_managed(&self) -> bool {
        self.is_managed
    }

    pub(crate) fn is_steady(&self) -> bool {
        self.is_steady.load(Relaxed)
    }

    pub(crate) fn has_several(&self) -> bool {
        self.has_several.load(Relaxed)
    }

    /// Whether an endpoint is unreachable, and so has to be probed.
    pub(crate) fn has_unreachable(&self) -> bool {
        self.has_unreachable.load(Relaxed)
    }

    pub(crate) fn parks(&self) -> bool {
        self.config.outage_wait.is_some()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    /// Returns the endpoints, with the version of this list.
    pub(crate) fn endpoints(&self) -> (u64, Vec<Arc<Endpoint>>) {
        let state = lock(&self.state);
        (self.version(), state.endpoints.clone())
    }

    pub(crate) fn parked(&self) -> usize {
        lock(&self.state).balancer.parked()
    }

    pub(crate) fn last_outage(&self) -> Option<Arc<str>> {
        lock(&self.state).last_outage.clone()
    }

    pub(crate) fn status(&self) -> Vec<EndpointStatus> {
        let state = lock(&self.state);
        let status = |endpoint: &Arc<Endpoint>| EndpointStatus {
            name: endpoint.name.to_string(),
            state: match state.balancer.health(endpoint.id) {
                Some(Health::Unreachable(_)) => EndpointState::Unreachable,
                Some(Health::Ejected(_)) => EndpointState::Ejected,
                Some(Health::Up(_)) | None => EndpointState::Up,
            },
            in_flight: endpoint.in_flight(),
            failures: endpoint.counts.failures.load(Relaxed),
            ejections: endpoint.counts.ejections.load(Relaxed),
            probes: endpoint.counts.probes.load(Relaxed),
        };
        state.endpoints.iter().map(status).collect()
    }

    /// Replaces endpoints. The requests in flight to those that are removed may finish.
    pub(crate) fn replace(self: &Arc<Self>, remove: &[EndpointId], add: Vec<Arc<Endpoint>>) {
        self.update(|state, now| {
            for id in remove {
                state.balancer.remove(*id);
            }
            state.endpoints.retain(|endpoint| !remove.contains(&endpoint.id));
            // What is new starts slowly, unless there is nothing else, and no request that waited.
            let slow_start_at = (!state.endpoints.is_empty() || state.balancer.parked() > 0).then_some(now);
            for endpoint in add {
                state.balancer.insert(endpoint.id, slow_start_at);
                state.endpoints.push(endpoint);
            }
            self.version.fetch_add(1, Relaxed);
        });
        self.end_slow_start_later();
    }

    /// Chooses an endpoint for a request, or lets it wait.
    pub(crate) fn pick(self: &Arc<Self>, request: Needs) -> Pick {
        self.update(|state, now| match state.decide(now, |balancer, conditions| balancer.pick(&request, conditions)) {
            Some(slot) => Pick::Slot(state.guard(slot, self)),
            None => {
                let (sender, slot) = oneshot::channel();
                let ticket = state.balancer.park(request, sender);
                Pick::Parked(Parked { set: Arc::clone(self), ticket, slot, is_released: false })
            }
        })
    }

    /// Chooses an endpoint for a request beside one in flight: one that the call has not tried.
    pub(crate) fn pick_other(self: &Arc<Self>, tried: &[EndpointId]) -> Option<SlotGuard> {
        let decide = |balancer: &mut Balancer<_>, conditions: &Conditions<'_>| balancer.pick_other(tried, conditions);
        self.update(|state, now| state.decide(now, decide).map(|slot| state.guard(slot, self)))
    }

    /// Whether an endpoint is up that a call has not tried.
    pub(crate) fn has_alternative(&self, tried: &[EndpointId]) -> bool {
        lock(&self.state).balancer.has_alternative(tried)
    }

    /// Notes that connecting to an endpoint, which `began` before, failed.
    pub(crate) fn connect_failed(self: &Arc<Self>, endpoint: &Endpoint, began: Instant, why: &str) {
        self.config.observing.connect_failed(&endpoint.name, why);
        if !self.is_managed {
            return;
        }
        let change = self.update(|state, now| {
            let began = began.saturating_duration_since(self.origin);
            let change = state.balancer.connect_failed(endpoint.id, began, now, random());
            if change.is_some() {
                // Within the lock, so that it agrees with the state.
                endpoint.pool.set_reachable(!self.parks());
                state.last_outage = Some(format!("cannot connect to {}: {why}", endpoint.name).into());
            }
            change
        });
        if change.is_some() {
            self.outages.notify_waiters();
            log::warn!(target: LOG_TARGET, "endpoint {} is down: {why}", endpoint.name);
        }
    }

    /// Notes that an endpoint was connected to.
    pub(crate) fn connected(self: &Arc<Self>, endpoint: &Endpoint) {
        let change = self.update(|state, now| {
            endpoint.pool.set_reachable(true);
            // Those were of the outage.
            endpoint.counts.failures_in_row.store(0, Relaxed);
            state.balancer.connected(endpoint.id, now)
        });
        self.came_up(endpoint, change);
    }

    fn came_up(self: &Arc<Self>, endpoint: &Endpoint, change: Option<Change>) {
        if let Some(Change::CameUp(outage)) = change {
            let duration = self.now().saturating_sub(outage.since);
            let seconds = duration.as_secs_f64();
            log::warn!(target: LOG_TARGET, "endpoint {} is up again after {seconds:.1}s ({} probes)", endpoint.name, outage.probes);
            self.end_slow_start_later();
        }
    }

    /// Lets requests pass that wait for the end of a slow start, even if nothing else happens.
    fn end_slow_start_later(self: &Arc<Self>) {
        let Some(end) = Instant::now().checked_add(self.config.slow_start) else { return };
        let set = Arc::downgrade(self);
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            sleep_until(end).await;
            if let Some(set) = set.upgrade() {
                set.update(|_, _| ());
            }
        });
    }

    /// Notes that a request got no response, or one that is a failure.
    pub(crate) fn failed(self: &Arc<Self>, endpoint: &Endpoint) {
        let counts = &endpoint.counts;
        counts.failures.fetch_add(1, Relaxed);
        let in_row = counts.failures_in_row.fetch_add(1, Relaxed) + 1;
        if !self.is_managed {
            return;
        }
        // Only a slow start depends on it. Otherwise, all threads would wait for the state while a server fails everything.
        if !self.is_steady() {
            self.update(|state, _| state.balancer.failed(endpoint.id));
        }
        if in_row >= self.config.eject_after {
            self.eject(endpoint, format_args!("{in_row} failures in a row"));
        }
    }

    /// Notes that another endpoint was the first to respond to a request.
    pub(crate) fn overtaken(self: &Arc<Self>, endpoint: &Endpoint) {
        if let Some(count) = endpoint.counts.overtaken.add()
            && count >= self.config.eject_after
        {
            self.eject(endpoint, format_args!("no response to {count} requests that others responded to"));
        }
    }

    fn eject(self: &Arc<Self>, endpoint: &Endpoint, why: fmt::Arguments<'_>) {
        // A single one is ejected only if all may be: without a look at the state, for the reason above.
        if !self.has_several() && self.config.max_ejected < 1.0 {
            return;
        }
        let change = self.update(|state, now| state.balancer.eject(endpoint.id, now, random()));
        if change.is_some() {
            endpoint.counts.ejections.fetch_add(1, Relaxed);
            log::warn!(target: LOG_TARGET, "endpoint {} is down: {why}", endpoint.name);
        }
    }

    pub(crate) fn is_unreachable(&self, id: EndpointId) -> bool {
        matches!(lock(&self.state).balancer.health(id), Some(Health::Unreachable(_)))
    }

    /// Returns when an unreachable endpoint may be probed next. `None` if it is not to be probed.
    pub(crate) fn next_probe(&self, id: EndpointId) -> Option<Instant> {
        let due = lock(&self.state).balancer.next_probe(id)?;
        self.origin.checked_add(due)
    }

    /// Returns a number for the time since an endpoint became unreachable, above zero. `None` if it is not.
    pub(crate) fn outage(&self, id: EndpointId) -> Option<u64> {
        lock(&self.state).balancer.outage(id)
    }

    /// Begins a probe of an unreachable endpoint, which ends when the result is dropped. `None` if it is not due.
    pub(crate) fn begin_probe(self: &Arc<Self>, endpoint: &Endpoint) -> Option<Probe> {
        let begins = lock(&self.state).balancer.begin_probe(endpoint.id, self.now());
        begins.then(|| {
            endpoint.counts.probes.fetch_add(1, Relaxed);
            Probe { set: Arc::clone(self), endpoint: endpoint.id }
        })
    }

    /// Changes the state, and sends the requests that no longer have to wait.
    fn update<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, Duration) -> T) -> T {
        let now = self.now();
        let mut released = Vec::new();
        let mut state = lock(&self.state);
        let result = change(&mut state, now);
        while let Some((waiter, slot)) = state.decide(now, Balancer::release) {
            released.push((waiter, state.guard(slot, self)));
        }
        self.is_steady.store(state.balancer.is_steady(), Relaxed);
        self.has_unreachable.store(state.balancer.has_unreachable(), Relaxed);
        self.has_several.store(state.endpoints.len() > 1, Relaxed);
        drop(state);
        for (waiter, slot) in released {
            // If the request has left meanwhile, dropping the slot gives it back.
            let _ = waiter.send(slot);
        }
        result
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Client;

    #[tokio::test]
    async fn a_request_that_was_released_does_not_remove_its_call_when_that_is_parked_again() {
        let client = Client::builder("http://127.0.0.1:9").outage_wait(Duration::from_secs(10)).build().unwrap();
        let set = &client.0.transport.endpoints.set;
        let (_, endpoints) = set.endpoints();
        let park = |ticket| {
            set.connect_failed(&endpoints[0], Instant::now(), "refused");
            match set.pick(Needs { ticket, ..Needs::default() }) {
                Pick::Parked(parked) => parked,
                Pick::Slot(_) => panic!("the endpoint is down"),
            }
        };
        let mut parked = park(None);
        set.connected(&endpoints[0]);
        drop(parked.released().await.expect("a slot"));
        let mut again = park(Some(parked.ticket()));
        drop(parked);
        set.connected(&endpoints[0]);
        assert!(again.released().await.is_some());
    }
}

//! Where the attempts of one call have gone, and how long it was parked.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    endpoint::{
        balancer::{EndpointId, Needs},
        local::LocalEndpoint,
    },
    error::Error,
    history::Hedge,
    lock::lock,
};

/// The endpoints of a call.
#[derive(Default)]
pub(crate) struct Route {
    /// Whether an attempt has failed, or was parked or hedged. Most calls end before that, without another look at the state.
    is_eventful: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tried: Vec<EndpointId>,
    /// The endpoint of the current attempt, if its health matters.
    current: Option<Arc<LocalEndpoint>>,
    next: NextEndpoint,
    /// The second request beside the current attempt.
    hedge: Option<Hedge>,
    /// Whether the current attempt has no endpoint yet.
    is_parked: bool,
    /// Why the last endpoint went down.
    outage: Option<Arc<str>>,
    /// How long the call was parked, before this attempt and in it.
    parked_before: Duration,
    parked_now: Duration,
}

/// Where another attempt would go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum NextEndpoint {
    /// To one that the call has tried.
    #[default]
    Tried,
    /// To another one that is up.
    Other,
    /// As [`Other`](Self::Other), and the call has tried only one so far.
    FirstOther,
}

impl Route {
    /// Returns what matters for the choice of the next endpoint.
    pub(crate) fn needs(&self, is_repeatable: bool) -> Needs {
        let tried = self.eventful().map(|state| state.tried.clone()).unwrap_or_default();
        Needs { tried, is_repeatable }
    }

    /// Returns the state if there is more to know than the endpoint of the first attempt.
    fn eventful(&self) -> Option<MutexGuard<'_, State>> {
        self.is_eventful.load(Relaxed).then(|| lock(&self.state))
    }

    /// Notes that the current attempt goes to an endpoint.
    pub(crate) fn begin(&self, local: &Arc<LocalEndpoint>) {
        if local.is_managed() {
            let mut state = lock(&self.state);
            state.is_parked = false;
            state.next = NextEndpoint::Tried;
            state.current = Some(Arc::clone(local));
        }
    }

    /// Whether the current attempt has an endpoint whose health matters.
    pub(crate) fn has_endpoint(&self) -> bool {
        lock(&self.state).current.is_some()
    }

    /// Returns the endpoints that the call has tried, with that of the current attempt.
    pub(crate) fn used(&self) -> Vec<EndpointId> {
        let state = lock(&self.state);
        let current = state.current.iter().map(|local| local.endpoint.id);
        state.tried.iter().copied().chain(current).collect()
    }

    /// Notes that a second request goes to another endpoint.
    pub(crate) fn hedge(&self, endpoint: EndpointId, after: Duration) {
        self.is_eventful.store(true, Relaxed);
        let mut state = lock(&self.state);
        state.tried.push(endpoint);
        state.hedge = Some(Hedge { after, won: false });
    }

    /// Whether a second request was sent beside the current attempt.
    pub(crate) fn is_hedged(&self) -> bool {
        self.eventful().is_some_and(|state| state.hedge.is_some())
    }

    /// Notes that the response of the current attempt is that of the second request.
    pub(crate) fn hedge_won(&self) {
        if let Some(hedge) = &mut lock(&self.state).hedge {
            hedge.won = true;
        }
        if let Some(local) = self.current() {
            local.overtaken();
        }
    }

    /// Notes that the current attempt has failed.
    pub(crate) fn failed(&self) {
        let mut state = lock(&self.state);
        let Some(local) = state.current.take() else { return };
        self.is_eventful.store(true, Relaxed);
        let id = local.endpoint.id;
        if !state.tried.contains(&id) {
            state.tried.push(id);
        }
        state.next = match (local.has_alternative(&state.tried), &*state.tried) {
            (false, _) => NextEndpoint::Tried,
            (true, [_]) => NextEndpoint::FirstOther,
            (true, _) => NextEndpoint::Other,
        };
    }

    /// Notes that the current attempt has taken too long, if its endpoint is to blame.
    pub(crate) fn timed_out(&self) {
        if let Some(local) = self.current() {
            local.failed();
            self.failed();
        }
    }

    /// Returns the endpoint of the current attempt, if its health matters.
    pub(crate) fn current(&self) -> Option<Arc<LocalEndpoint>> {
        lock(&self.state).current.clone()
    }

    /// Returns where the next attempt would go.
    pub(crate) fn next_endpoint(&self) -> NextEndpoint {
        self.eventful().map(|state| state.next).unwrap_or_default()
    }

    /// Notes that the call waits for an endpoint. Its time is counted until the guard is dropped.
    pub(crate) fn park(&self, outage: Option<Arc<str>>) -> ParkGuard<'_> {
        self.is_eventful.store(true, Relaxed);
        let mut state = lock(&self.state);
        (state.is_parked, state.outage) = (true, outage);
        drop(state);
        ParkGuard { route: self, since: Instant::now() }
    }

    /// Whether the current attempt has no endpoint yet, or has ended without one.
    pub(crate) fn is_parked(&self) -> bool {
        self.eventful().is_some_and(|state| state.is_parked)
    }

    /// Returns the error of a call that has waited for too long.
    pub(crate) fn outage_error(&self) -> Error {
        Error::outage(lock(&self.state).outage.as_deref())
    }

    /// Returns how long the call was parked in all its attempts.
    pub(crate) fn parked(&self) -> Duration {
        self.eventful().map(|state| state.parked_before + state.parked_now).unwrap_or_default()
    }

    /// Ends an attempt. Returns how long it was parked, and the second request beside it.
    pub(crate) fn end_attempt(&self) -> (Duration, Option<Hedge>) {
        let Some(mut state) = self.eventful() else { return (Duration::ZERO, None) };
        let parked = std::mem::take(&mut state.parked_now);
        state.parked_before += parked;
        (parked, state.hedge.take())
    }
}

/// Counts the time for which a call is parked.
pub(crate) struct ParkGuard<'a> {
    route: &'a Route,
    since: Instant,
}

impl Drop for ParkGuard<'_> {
    fn drop(&mut self) {
        lock(&self.route.state).parked_now += self.since.elapsed();
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}

//! Where the attempts of one call have gone, and how long it was parked.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    endpoint::{
        balancer::{EndpointId, Needs, Ticket},
        local::LocalEndpoint,
    },
    error::Error,
    history::Hedge,
    lock::lock,
};

/// The endpoints of a call.
#[derive(Default)]
pub(crate) struct Route {
    /// The endpoint of the current attempt, if its health matters.
    current: Mutex<Option<Arc<LocalEndpoint>>>,
    /// What few calls need: set when an attempt fails, or is parked or hedged.
    events: OnceLock<Box<Mutex<Events>>>,
}

#[derive(Default)]
struct Events {
    tried: Vec<EndpointId>,
    next: NextEndpoint,
    /// The name of the endpoint that the current attempt has ended at, if there are others.
    endpoint: Option<Arc<str>>,
    /// The second request beside the current attempt, and its endpoint.
    hedge: Option<(Hedge, Arc<str>)>,
    /// Whether the current attempt has no endpoint yet.
    is_parked: bool,
    /// The place in the queue that the call keeps if it is parked again.
    ticket: Option<Ticket>,
    /// Why the last endpoint went down.
    outage: Option<Arc<str>>,
    /// When the current attempt found an endpoint unreachable for the first time.
    unreachable_since: Option<Instant>,
    /// How long the call was parked, before this attempt and in it.
    parked_before: Duration,
    parked_now: Duration,
}

/// Where an attempt went.
#[derive(Default)]
pub(crate) struct AttemptRoute {
    /// The name of its endpoint. `None` if there is only one.
    pub(crate) endpoint: Option<Arc<str>>,
    /// How long it was parked.
    pub(crate) parked: Duration,
    /// The second request beside it.
    pub(crate) hedge: Option<Hedge>,
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
        let (tried, ticket) = self.events().map(|events| (events.tried.clone(), events.ticket)).unwrap_or_default();
        Needs { tried, is_repeatable, ticket }
    }

    fn tried(&self) -> Vec<EndpointId> {
        self.events().map(|events| events.tried.clone()).unwrap_or_default()
    }

    /// Returns the events, if there were any.
    fn events(&self) -> Option<MutexGuard<'_, Events>> {
        self.events.get().map(|events| lock(events))
    }

    fn events_mut(&self) -> MutexGuard<'_, Events> {
        lock(self.events.get_or_init(Box::default))
    }

    /// Notes that the current attempt goes to an endpoint.
    pub(crate) fn begin(&self, local: &Arc<LocalEndpoint>) {
        if local.is_managed() {
            *lock(&self.current) = Some(Arc::clone(local));
            if let Some(mut events) = self.events() {
                events.next = NextEndpoint::Tried;
            }
        }
    }

    /// Whether the current attempt has an endpoint whose health matters.
    pub(crate) fn has_endpoint(&self) -> bool {
        lock(&self.current).is_some()
    }

    /// Returns the endpoints that the call has tried, with that of the current attempt.
    pub(crate) fn used(&self) -> Vec<EndpointId> {
        let mut used = self.tried();
        used.extend(self.current().map(|local| local.endpoint.id));
        used
    }

    /// Notes that a second request goes to another endpoint.
    pub(crate) fn hedge(&self, local: &LocalEndpoint, after: Duration) {
        let mut events = self.events_mut();
        events.tried.push(local.endpoint.id);
        events.hedge = Some((Hedge { after, won: false }, Arc::clone(&local.endpoint.name)));
    }

    /// Whether a second request was sent beside the current attempt.
    pub(crate) fn is_hedged(&self) -> bool {
        self.events().is_some_and(|events| events.hedge.is_some())
    }

    /// Notes that the response of the current attempt is that of the second request.
    pub(crate) fn hedge_won(&self) {
        let mut events = self.events_mut();
        if let Some((hedge, endpoint)) = &mut events.hedge {
            hedge.won = true;
            let endpoint = Arc::clone(endpoint);
            events.endpoint = Some(endpoint);
        }
        drop(events);
        if let Some(local) = self.current() {
            local.overtaken();
        }
    }

    /// Notes that the current attempt has failed.
    pub(crate) fn failed(&self) {
        // With one endpoint, all attempts go there.
        let Some(local) = lock(&self.current).take().filter(|local| local.has_others()) else { return };
        let mut events = self.events_mut();
        events.endpoint = Some(Arc::clone(&local.endpoint.name));
        let id = local.endpoint.id;
        if !events.tried.contains(&id) {
            events.tried.push(id);
        }
        events.next = match (local.has_alternative(&events.tried), &*events.tried) {
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
        lock(&self.current).clone()
    }

    /// Returns where the next attempt would go.
    pub(crate) fn next_endpoint(&self) -> NextEndpoint {
        self.events().map(|events| events.next).unwrap_or_default()
    }

    /// Notes that the call waits for an endpoint. Its time is counted until the guard is dropped.
    pub(crate) fn park(&self, ticket: Ticket, outage: Option<Arc<str>>) -> ParkGuard<'_> {
        let mut events = self.events_mut();
        (events.is_parked, events.ticket, events.outage) = (true, Some(ticket), outage);
        drop(events);
        ParkGuard { route: self, since: Instant::now() }
    }

    /// Notes that a parked call may be sent.
    pub(crate) fn released(&self) {
        self.events_mut().is_parked = false;
    }

    /// Returns since when the current attempt has found endpoints unreachable, now for the first time if it has not.
    pub(crate) fn unreachable_since(&self) -> Instant {
        *self.events_mut().unreachable_since.get_or_insert_with(Instant::now)
    }

    /// Whether the current attempt has no endpoint yet, or has ended without one.
    pub(crate) fn is_parked(&self) -> bool {
        self.events().is_some_and(|events| events.is_parked)
    }

    /// Returns the error of a call that has waited for too long.
    pub(crate) fn outage_error(&self) -> Error {
        Error::outage(self.events().and_then(|events| events.outage.clone()).as_deref())
    }

    /// Returns how long the current attempt was parked.
    pub(crate) fn parked_in_attempt(&self) -> Duration {
        self.events().map(|events| events.parked_now).unwrap_or_default()
    }

    /// Returns how long the call was parked in all its attempts.
    pub(crate) fn parked(&self) -> Duration {
        self.events().map(|events| events.parked_before + events.parked_now).unwrap_or_default()
    }

    /// Ends an attempt, and returns what it was like.
    pub(crate) fn end_attempt(&self) -> AttemptRoute {
        let current =
            lock(&self.current).as_ref().filter(|local| local.has_others()).map(|local| &local.endpoint.name).cloned();
        let Some(mut events) = self.events() else {
            return AttemptRoute { endpoint: current, ..AttemptRoute::default() };
        };
        events.unreachable_since = None;
        let parked = std::mem::take(&mut events.parked_now);
        events.parked_before += parked;
        let endpoint = events.endpoint.take().or(current);
        AttemptRoute { endpoint, parked, hedge: events.hedge.take().map(|(hedge, _)| hedge) }
    }
}

/// Counts the time for which a call is parked.
pub(crate) struct ParkGuard<'a> {
    route: &'a Route,
    since: Instant,
}

impl Drop for ParkGuard<'_> {
    fn drop(&mut self) {
        self.route.events_mut().parked_now += self.since.elapsed();
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}

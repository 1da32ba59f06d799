//! Which endpoint a request goes to, and which requests wait for one. Performs no IO: time, randomness and the load of
//! each endpoint are arguments.

use std::{collections::BTreeMap, time::Duration};

use crate::endpoint::health::{Health, Outage, SlowStart, fraction};

/// Identifies an endpoint of a client.
pub(crate) type EndpointId = u32;

/// Identifies a parked request. Later ones have greater tickets.
pub(crate) type Ticket = u64;

/// What is fixed for a balancer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// The share of the endpoints that may be ejected.
    pub(crate) max_ejected: f64,
    pub(crate) slow_start: Duration,
    /// Whether requests wait for an endpoint. Otherwise, they are sent even if none is up.
    pub(crate) parks: bool,
}

/// What matters of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// The endpoints that its call has tried.
    pub(crate) tried: Vec<EndpointId>,
    /// Whether it may be sent again if it gets no response.
    pub(crate) is_repeatable: bool,
}

/// Permission to send a request to an endpoint. [`Balancer::end`] must follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) endpoint: EndpointId,
    kind: SlotKind,
    /// The state of the endpoint for which it was given.
    epoch: u64,
}

impl Slot {
    /// Whether its response decides whether an endpoint is up again.
    pub(crate) fn is_probe(&self) -> bool {
        self.kind == SlotKind::Probe
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SlotKind {
    Plain,
    /// It counts towards the limit of a slow start.
    SlowStart,
    /// Its response decides whether an ejected endpoint is up.
    Probe,
}

/// How an endpoint has changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    WentDown,
    CameUp(Outage),
}

/// The time from which any request may probe an ejected endpoint, if none came that can be repeated.
const PATIENCE: Duration = Duration::from_secs(10);

/// The endpoints, their health, and the queue of requests that wait for one; `W` is what wakes a request.
#[derive(Debug)]
pub(crate) struct Balancer<W> {
    rules: Rules,
    members: Vec<Member>,
    queue: BTreeMap<Ticket, (Needs, W)>,
    next_ticket: Ticket,
    next_epoch: u64,
}

#[derive(Debug)]
struct Member {
    id: EndpointId,
    health: Health,
    /// Changes with the state, so that what began before does not count afterwards.
    epoch: u64,
}

/// What a decision depends on beside the state.
pub(crate) struct Conditions<'a> {
    pub(crate) now: Duration,
    /// Returns the number of requests in flight.
    pub(crate) in_flight: &'a dyn Fn(EndpointId) -> usize,
    /// Returns 64 random bits.
    pub(crate) random: &'a dyn Fn() -> u64,
}

impl Member {
    fn set(&mut self, health: Health, epoch: &mut u64) {
        *epoch += 1;
        (self.health, self.epoch) = (health, *epoch);
    }

    fn is_up(&self) -> bool {
        matches!(self.health, Health::Up(_))
    }

    fn is_ejected(&self) -> bool {
        matches!(self.health, Health::Ejected(_))
    }

    fn has_capacity(&self) -> bool {
        match &self.health {
            Health::Up(slow_start) => slow_start.as_ref().is_none_or(SlowStart::has_capacity),
            _ => false,
        }
    }

    fn share(&self, now: Duration) -> f64 {
        match &self.health {
            Health::Up(Some(slow_start)) => slow_start.share(now),
            _ => 1.0,
        }
    }

    /// Whether a request may probe it, if it is ejected.
    fn is_probe_due(&self, request: &Needs, now: Duration) -> bool {
        let Health::Ejected(outage) = &self.health else { return false };
        let due = outage.next_probe().map(|due| if request.is_repeatable { due } else { due + PATIENCE });
        due.is_some_and(|due| due <= now)
    }

    fn slot(&mut self, kind: SlotKind) -> Slot {
        let kind = match (&mut self.health, kind) {
            (Health::Up(Some(slow_start)), SlotKind::Plain) => {
                slow_start.begin_request();
                SlotKind::SlowStart
            }
            (Health::Ejected(outage), SlotKind::Probe) => {
                outage.begin_probe();
                SlotKind::Probe
            }
            _ => SlotKind::Plain,
        };
        Slot { endpoint: self.id, kind, epoch: self.epoch }
    }
}

impl<W> Balancer<W> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, members: Vec::new(), queue: BTreeMap::new(), next_ticket: 0, next_epoch: 0 }
    }

    /// Adds an endpoint; with a slow start, unless it is one of the first.
    pub(crate) fn insert(&mut self, id: EndpointId, slow_start_at: Option<Duration>) {
        let slow_start = slow_start_at.and_then(|now| SlowStart::new(now, self.rules.slow_start));
        self.next_epoch += 1;
        self.members.push(Member { id, health: Health::Up(slow_start), epoch: self.next_epoch });
    }

    pub(crate) fn remove(&mut self, id: EndpointId) {
        self.members.retain(|member| member.id != id);
    }

    /// Whether every endpoint gets its full share, and no request waits.
    pub(crate) fn is_steady(&self) -> bool {
        self.queue.is_empty() && self.members.iter().all(|member| member.health == Health::Up(None))
    }

    pub(crate) fn health(&self, id: EndpointId) -> Option<Health> {
        self.members.iter().find(|member| member.id == id).map(|member| member.health)
    }

    /// Returns the number of parked requests.
    pub(crate) fn parked(&self) -> usize {
        self.queue.len()
    }

    /// Whether an endpoint is up that the call has not tried.
    pub(crate) fn has_alternative(&self, tried: &[EndpointId]) -> bool {
        self.members.iter().any(|member| member.is_up() && !tried.contains(&member.id))
    }

    /// Chooses the endpoint for a request. `None` if it has to wait, behind those that wait already.
    pub(crate) fn pick(&mut self, request: &Needs, conditions: &Conditions<'_>) -> Option<Slot> {
        self.end_slow_starts(conditions.now);
        if self.queue.is_empty() { self.select(request, conditions) } else { None }
    }

    /// Lets a request wait until [`release`](Self::release) returns it.
    pub(crate) fn park(&mut self, request: Needs, waiter: W) -> Ticket {
        self.next_ticket += 1;
        self.queue.insert(self.next_ticket, (request, waiter));
        self.next_ticket
    }

    /// Removes a request that no longer waits.
    pub(crate) fn leave(&mut self, ticket: Ticket) {
        self.queue.remove(&ticket);
    }

    /// Takes out the next request that can be sent now, the oldest first, with its endpoint.
    pub(crate) fn release(&mut self, conditions: &Conditions<'_>) -> Option<(W, Slot)> {
        self.end_slow_starts(conditions.now);
        let (ticket, (request, waiter)) = self.queue.pop_first()?;
        match self.select(&request, conditions) {
            Some(slot) => Some((waiter, slot)),
            None => {
                self.queue.insert(ticket, (request, waiter));
                None
            }
        }
    }

    fn end_slow_starts(&mut self, now: Duration) {
        for member in &mut self.members {
            if matches!(&member.health, Health::Up(Some(slow_start)) if slow_start.end() <= now) {
                member.set(Health::Up(None), &mut self.next_epoch);
            }
        }
    }

    fn select(&mut self, request: &Needs, conditions: &Conditions<'_>) -> Option<Slot> {
        let untried = |member: &Member| !request.tried.contains(&member.id);
        let parks = self.rules.parks;
        let available = |member: &Member| member.is_up() && (member.has_capacity() || !parks);
        let probed =
            self.members.iter().position(|member| untried(member) && member.is_probe_due(request, conditions.now));
        if let Some(member) = probed.and_then(|index| self.members.get_mut(index)) {
            return Some(member.slot(SlotKind::Probe));
        }
        let choose = |eligible: &dyn Fn(&Member) -> bool| {
            let untried = self.choose(conditions, |member| eligible(member) && untried(member));
            untried.or_else(|| self.choose(conditions, eligible))
        };
        let chosen = choose(&available).or_else(|| {
            if self.members.iter().any(Member::is_up) {
                // They have as many requests as their slow start allows.
                return None;
            }
            // What responds with failures is still better than nothing.
            choose(&Member::is_ejected).or_else(|| if parks { None } else { choose(&|_| true) })
        })?;
        self.members.get_mut(chosen).map(|member| member.slot(SlotKind::Plain))
    }

    /// Returns the index of the one with fewer requests in flight of two that are chosen at random (Mitzenmacher, "The
    /// Power of Two Choices in Randomized Load Balancing"). One in its slow start takes part as often as its share says.
    fn choose(&self, conditions: &Conditions<'_>, eligible: impl Fn(&Member) -> bool) -> Option<usize> {
        let Conditions { now, in_flight, random } = *conditions;
        let eligible = || self.members.iter().enumerate().filter(|(_, member)| eligible(member));
        let mut candidates: Vec<_> = eligible().filter(|(_, member)| fraction(random()) < member.share(now)).collect();
        if candidates.is_empty() {
            candidates = eligible().collect();
        }
        let [first, second] = two_of(candidates.len(), random())?;
        let (first, second) = (candidates.get(first)?, candidates.get(second)?);
        Some(if in_flight(second.1.id) < in_flight(first.1.id) { second.0 } else { first.0 })
    }

    /// Notes that connecting to an endpoint failed.
    pub(crate) fn connect_failed(&mut self, id: EndpointId, now: Duration, random: u64) -> Option<Change> {
        let Self { members, next_epoch, .. } = self;
        let member = members.iter_mut().find(|member| member.id == id)?;
        match member.health {
            Health::Unreachable(_) => None,
            Health::Up(_) | Health::Ejected(_) => {
                member.set(Health::Unreachable(Outage::new(now, random)), next_epoch);
                Some(Change::WentDown)
            }
        }
    }

    /// Returns a number for the time since an endpoint became unreachable, above zero. `None` if it is not.
    pub(crate) fn outage(&self, id: EndpointId) -> Option<u64> {
        let member = self.members.iter().find(|member| member.id == id)?;
        matches!(member.health, Health::Unreachable(_)).then_some(member.epoch)
    }

    pub(crate) fn has_unreachable(&self) -> bool {
        self.members.iter().any(|member| matches!(member.health, Health::Unreachable(_)))
    }

    /// Returns when an unreachable endpoint may be probed next. `None` while it is, and if it is not unreachable.
    pub(crate) fn next_probe(&self, id: EndpointId) -> Option<Duration> {
        match self.health(id)? {
            Health::Unreachable(outage) => outage.next_probe(),
            _ => None,
        }
    }

    /// Begins a probe of an unreachable endpoint. Returns `false` if it is not due.
    pub(crate) fn begin_probe(&mut self, id: EndpointId, now: Duration) -> bool {
        let due = self.next_probe(id).is_some_and(|due| due <= now);
        if due && let Some(outage) = self.unreachable(id) {
            outage.begin_probe();
        }
        due
    }

    /// Notes that a probe of an unreachable endpoint did not connect.
    pub(crate) fn probe_failed(&mut self, id: EndpointId, now: Duration, random: u64) {
        if let Some(outage) = self.unreachable(id) {
            outage.end_probe(now, random);
        }
    }

    fn unreachable(&mut self, id: EndpointId) -> Option<&mut Outage> {
        let member = self.members.iter_mut().find(|member| member.id == id)?;
        match &mut member.health {
            Health::Unreachable(outage) => Some(outage),
            _ => None,
        }
    }

    /// Notes that an unreachable endpoint was connected to.
    pub(crate) fn connected(&mut self, id: EndpointId, now: Duration) -> Option<Change> {
        let Self { members, next_epoch, rules, .. } = self;
        let member = members.iter_mut().find(|member| member.id == id)?;
        let Health::Unreachable(outage) = member.health else { return None };
        member.set(Health::Up(SlowStart::new(now, rules.slow_start)), next_epoch);
        Some(Change::CameUp(outage))
    }

    /// Notes a response that was not a failure.
    pub(crate) fn responded(&mut self, slot: Slot, now: Duration) -> Option<Change> {
        let Self { members, next_epoch, rules, .. } = self;
        let member = members.iter_mut().find(|member| member.id == slot.endpoint && member.epoch == slot.epoch)?;
        match (&mut member.health, slot.kind) {
            (Health::Up(Some(slow_start)), SlotKind::SlowStart) => {
                slow_start.record_response();
                None
            }
            (Health::Ejected(outage), SlotKind::Probe) => {
                let outage = *outage;
                member.set(Health::Up(SlowStart::new(now, rules.slow_start)), next_epoch);
                Some(Change::CameUp(outage))
            }
            _ => None,
        }
    }

    /// Ejects an endpoint that is up, unless too many are ejected.
    pub(crate) fn eject(&mut self, id: EndpointId, now: Duration, random: u64) -> Option<Change> {
        let Self { members, next_epoch, rules, .. } = self;
        let maximum = members.len() as f64 * rules.max_ejected;
        let ejected = members.iter().filter(|member| member.is_ejected()).count();
        if ejected as f64 + 1.0 > maximum {
            return None;
        }
        let member = members.iter_mut().find(|member| member.id == id && member.is_up())?;
        member.set(Health::Ejected(Outage::new(now, random)), next_epoch);
        Some(Change::WentDown)
    }

    /// Takes a slot back. A probe that has not brought its endpoint up has failed.
    pub(crate) fn end(&mut self, slot: Slot, now: Duration, random: u64) {
        let current = |member: &&mut Member| member.id == slot.endpoint && member.epoch == slot.epoch;
        let Some(member) = self.members.iter_mut().find(current) else { return };
        match (&mut member.health, slot.kind) {
            (Health::Up(Some(slow_start)), SlotKind::SlowStart) => slow_start.end_request(),
            (Health::Ejected(outage), SlotKind::Probe) => outage.end_probe(now, random),
            _ => {}
        }
    }
}

/// Returns two different indices below `len`, chosen at random; the same twice if there is only one. `None` if there is
/// none.
pub(crate) fn two_of(len: usize, random: u64) -> Option<[usize; 2]> {
    let (high, low) = ((random >> 32) as usize, random as u32 as usize);
    let first = high.checked_rem(len)?;
    let second = match low.checked_rem(len - 1) {
        Some(distance) => (first + 1 + distance) % len,
        None => first,
    };
    Some([first, second])
}

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
    /// How long a request may wait for an endpoint. With `None`, requests are sent even if none is up.
    pub(crate) outage_wait: Option<Duration>,
}

/// What matters of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// The endpoints that its call has tried.
    pub(crate) tried: Vec<EndpointId>,
    /// Whether it may be sent again if it gets no response.
    pub(crate) is_repeatable: bool,
    /// Its ticket, if its call was parked before: it keeps its place.
    pub(crate) ticket: Option<Ticket>,
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

/// How much later any request may probe an ejected endpoint, if none came that can be repeated.
const UNREPEATABLE_PROBE_DELAY: Duration = Duration::from_secs(10);

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
    /// When it came back last.
    came_up: Duration,
}

/// What a decision depends on beside the state.
pub(crate) struct Conditions<'a> {
    pub(crate) now: Duration,
    /// Returns the number of requests in flight.
    pub(crate) in_flight: &'a dyn Fn(EndpointId) -> usize,
    /// Returns how many requests can be in flight at a time, for lack of connections.
    pub(crate) max_in_flight: &'a dyn Fn(EndpointId) -> usize,
    /// Returns 64 random bits.
    pub(crate) random: &'a dyn Fn() -> u64,
}

impl Member {
    fn set(&mut self, health: Health, epoch: &mut u64) {
        *epoch += 1;
        (self.health, self.epoch) = (health, *epoch);
    }

    fn come_up(&mut self, slow_start: Option<SlowStart>, now: Duration, epoch: &mut u64) {
        self.set(Health::Up(slow_start), epoch);
        self.came_up = now;
    }

    fn is_up(&self) -> bool {
        matches!(self.health, Health::Up(_))
    }

    fn is_ejected(&self) -> bool {
        matches!(self.health, Health::Ejected(_))
    }

    fn has_capacity(&self, conditions: &Conditions<'_>) -> bool {
        match &self.health {
            Health::Up(None) => true,
            // What it gets beyond its limit would wait for connections, in another order.
            Health::Up(Some(slow_start)) => slow_start.has_capacity((conditions.max_in_flight)(self.id)),
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
        let due =
            outage.next_probe().map(|due| if request.is_repeatable { due } else { due + UNREPEATABLE_PROBE_DELAY });
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
        self.members.push(Member {
            id,
            health: Health::Up(slow_start),
            epoch: self.next_epoch,
            came_up: Duration::ZERO,
        });
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
        let first = self.queue.first_key_value().map(|(ticket, _)| *ticket);
        let is_next = first.is_none_or(|first| request.ticket.is_some_and(|ticket| ticket < first));
        if is_next { self.select(request, conditions) } else { None }
    }

    /// Chooses an endpoint for a request beside one in flight: one that is up and that the call has not tried. `None` if
    /// there is none that has capacity, or if other requests wait for it.
    pub(crate) fn pick_other(&mut self, tried: &[EndpointId], conditions: &Conditions<'_>) -> Option<Slot> {
        self.end_slow_starts(conditions.now);
        let is_other = |member: &Member| member.has_capacity(conditions) && !tried.contains(&member.id);
        let chosen = if self.queue.is_empty() { self.choose(conditions, is_other) } else { None };
        self.members.get_mut(chosen?).map(|member| member.slot(SlotKind::Plain))
    }

    /// Lets a request wait until [`release`](Self::release) returns it.
    pub(crate) fn park(&mut self, request: Needs, waiter: W) -> Ticket {
        let ticket = request.ticket.unwrap_or_else(|| {
            self.next_ticket += 1;
            self.next_ticket
        });
        self.queue.insert(ticket, (request, waiter));
        ticket
    }

    /// Removes a request that no longer waits. Returns what would have woken it.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        self.queue.remove(&ticket).map(|(_, waiter)| waiter)
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
        let parked_for = if self.queue.is_empty() { None } else { self.rules.outage_wait };
        for member in &mut self.members {
            if matches!(&member.health, Health::Up(Some(slow_start)) if slow_start.has_ended(now, parked_for)) {
                member.set(Health::Up(None), &mut self.next_epoch);
            }
        }
    }

    fn select(&mut self, request: &Needs, conditions: &Conditions<'_>) -> Option<Slot> {
        let untried = |member: &Member| !request.tried.contains(&member.id);
        let parks = self.rules.outage_wait.is_some();
        let available = |member: &Member| member.is_up() && (member.has_capacity(conditions) || !parks);
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
        let Conditions { now, in_flight, random, .. } = *conditions;
        let eligible = || self.members.iter().enumerate().filter(|(_, member)| eligible(member));
        let mut candidates: Vec<_> = eligible().filter(|(_, member)| fraction(random()) < member.share(now)).collect();
        if candidates.is_empty() {
            candidates = eligible().collect();
        }
        let [first, second] = two_of(candidates.len(), random())?;
        let (first, second) = (candidates.get(first)?, candidates.get(second)?);
        Some(if in_flight(second.1.id) < in_flight(first.1.id) { second.0 } else { first.0 })
    }

    /// Notes that connecting to an endpoint failed. That says nothing about an endpoint that came back since it `began`.
    pub(crate) fn connect_failed(
        &mut self,
        id: EndpointId,
        began: Duration,
        now: Duration,
        random: u64,
    ) -> Option<Change> {
        let Self { members, next_epoch, .. } = self;
        let member = members.iter_mut().find(|member| member.id == id)?;
        match member.health {
            Health::Unreachable(_) => None,
            Health::Up(_) if began < member.came_up => None,
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
        member.come_up(SlowStart::new(now, rules.slow_start), now, next_epoch);
        Some(Change::CameUp(outage))
    }

    /// Notes a response that is not a failure.
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
                member.come_up(SlowStart::after(&outage, now, rules.slow_start), now, next_epoch);
                Some(Change::CameUp(outage))
            }
            _ => None,
        }
    }

    /// Notes that a request got no response, or one that is a failure.
    pub(crate) fn failed(&mut self, id: EndpointId) {
        let member = self.members.iter_mut().find(|member| member.id == id);
        if let Some(Member { health: Health::Up(Some(slow_start)), .. }) = member {
            slow_start.record_failure();
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
        let member = members.iter_mut().find(|member| member.id == id)?;
        let Health::Up(slow_start) = &member.health else { return None };
        member.set(Health::Ejected(Outage::again(slow_start.as_ref(), now, random)), next_epoch);
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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::HashMap};

    use proptest::{prelude::*, sample::Index};

    use super::*;
    use crate::endpoint::window::INITIAL_WINDOW;

    const SLOW_START: Duration = Duration::from_secs(5);
    const OUTAGE_WAIT: Duration = Duration::from_secs(10);
    const RULES: Rules = Rules { max_ejected: 0.5, slow_start: SLOW_START, outage_wait: Some(OUTAGE_WAIT) };
    /// A limit that tests reach.
    const MAX_IN_FLIGHT: usize = 13;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn request(tried: &[EndpointId]) -> Needs {
        Needs { tried: tried.to_vec(), is_repeatable: true, ticket: None }
    }

    /// A balancer of requests that are numbered, with the random numbers of a seed.
    struct Simulation {
        balancer: Balancer<u32>,
        now: Duration,
        random: RefCell<fastrand::Rng>,
        in_flight: HashMap<EndpointId, usize>,
    }

    impl Simulation {
        fn new(endpoints: u32, rules: Rules) -> Self {
            let mut balancer = Balancer::new(rules);
            (0..endpoints).for_each(|id| balancer.insert(id, None));
            let (now, random) = (Duration::ZERO, RefCell::new(fastrand::Rng::with_seed(1)));
            Self { balancer, now, random, in_flight: HashMap::new() }
        }

        fn decide<T>(&mut self, decide: impl FnOnce(&mut Balancer<u32>, &Conditions<'_>) -> T) -> T {
            let Self { balancer, now, random, in_flight } = self;
            let in_flight = |id| in_flight.get(&id).copied().unwrap_or_default();
            let random = || random.borrow_mut().u64(..);
            let (now, max_in_flight) = (*now, &|_| MAX_IN_FLIGHT);
            decide(balancer, &Conditions { now, in_flight: &in_flight, max_in_flight, random: &random })
        }

        fn pick(&mut self, tried: &[EndpointId]) -> Option<EndpointId> {
            self.slot(&request(tried)).map(|slot| slot.endpoint)
        }

        fn slot(&mut self, request: &Needs) -> Option<Slot> {
            self.decide(|balancer, conditions| balancer.pick(request, conditions))
        }

        fn release(&mut self) -> Option<(u32, Slot)> {
            self.decide(Balancer::release)
        }

        fn park(&mut self, number: u32) -> Ticket {
            self.balancer.park(request(&[]), number)
        }

        fn connect_failed(&mut self, id: EndpointId) -> Option<Change> {
            self.balancer.connect_failed(id, self.now, self.now, 0)
        }

        fn eject(&mut self, id: EndpointId) -> Option<Change> {
            self.balancer.eject(id, self.now, 0)
        }

        fn respond(&mut self, slot: Slot) -> Option<Change> {
            let change = self.balancer.responded(slot, self.now);
            self.balancer.end(slot, self.now, 0);
            change
        }

        /// Brings an endpoint down, and up again.
        fn restart(&mut self, id: EndpointId) {
            self.connect_failed(id);
            assert!(matches!(self.balancer.connected(id, self.now), Some(Change::CameUp(_))));
        }
    }

    #[test]
    fn a_retry_goes_to_an_endpoint_that_its_call_has_not_tried() {
        let mut simulation = Simulation::new(3, RULES);
        for tried in [[0, 1], [1, 2], [2, 0]] {
            let [first, second] = tried;
            for _ in 0..20 {
                assert_eq!(simulation.pick(&tried), Some(3 - first - second));
            }
        }
        assert!(simulation.pick(&[0, 1, 2]).is_some(), "if all were tried, any of them");
        simulation.connect_failed(2);
        for _ in 0..20 {
            assert_ne!(simulation.pick(&[0, 1]), Some(2), "what was tried is better than what is down");
        }
    }

    #[test]
    fn of_two_endpoints_the_one_with_fewer_requests_in_flight_is_chosen() {
        let mut simulation = Simulation::new(2, RULES);
        for (loads, chosen) in [([3, 2], 1), ([0, 9], 0), ([7, 8], 0)] {
            simulation.in_flight = (0..).zip(loads).collect();
            assert_eq!(Vec::from_iter((0..20).map(|_| simulation.pick(&[]))), [Some(chosen); 20], "{loads:?}");
        }
        let mut simulation = Simulation::new(9, RULES);
        simulation.in_flight = (0..9).map(|id| (id, usize::from(id == 4))).collect();
        for _ in 0..1000 {
            assert_ne!(simulation.pick(&[]), Some(4), "one of two different ones");
        }
    }

    #[test]
    fn two_different_ones_are_chosen_if_there_are_two() {
        let mut random = fastrand::Rng::with_seed(1);
        for len in 2..9 {
            for _ in 0..100 {
                let [first, second] = two_of(len, random.u64(..)).unwrap();
                assert!(first != second && first < len && second < len, "{first} {second} of {len}");
            }
        }
        assert_eq!((two_of(1, random.u64(..)), two_of(0, 7)), (Some([0, 0]), None));
    }

    #[test]
    fn requests_wait_in_their_order_while_no_endpoint_is_up() {
        let mut simulation = Simulation::new(1, RULES);
        assert!(simulation.balancer.is_steady());
        assert_eq!(simulation.connect_failed(0), Some(Change::WentDown));
        assert_eq!(simulation.connect_failed(0), None, "it is down already");
        assert_eq!(simulation.pick(&[]), None);
        let tickets = Vec::from_iter((0..4).map(|number| simulation.park(number)));
        simulation.balancer.leave(tickets[1]);
        assert_eq!(simulation.release(), None);
        assert!(matches!(simulation.balancer.connected(0, simulation.now), Some(Change::CameUp(_))));
        assert_eq!(simulation.pick(&[]), None, "others came before");
        let released = std::iter::from_fn(|| simulation.release()).map(|(number, _)| number);
        assert_eq!(Vec::from_iter(released), [0, 2, 3]);
        assert_eq!((simulation.balancer.parked(), simulation.pick(&[])), (0, Some(0)));
    }

    #[test]
    fn a_second_request_goes_only_to_another_endpoint_that_is_up_and_has_capacity() {
        let mut simulation = Simulation::new(3, RULES);
        let pick_other = |simulation: &mut Simulation, tried: &[EndpointId]| {
            let slot = simulation.decide(|balancer, conditions| balancer.pick_other(tried, conditions));
            slot.map(|slot| slot.endpoint)
        };
        for tried in 0..3 {
            let others = Vec::from_iter((0..20).map(|_| pick_other(&mut simulation, &[tried]).unwrap()));
            assert!(!others.contains(&tried), "{others:?}");
        }
        assert_eq!(pick_other(&mut simulation, &[0, 1, 2]), None);
        simulation.connect_failed(1);
        assert_eq!(pick_other(&mut simulation, &[0, 2]), None);
        simulation.eject(2);
        simulation.now = millis(1000);
        assert_eq!(pick_other(&mut simulation, &[0]), None, "it probes no endpoint");
        simulation.balancer.connected(1, simulation.now);
        let slots = (0..20).map_while(|_| pick_other(&mut simulation, &[0])).count();
        assert_eq!(slots, INITIAL_WINDOW as usize, "the slow start counts it");
        simulation.park(0);
        assert_eq!(pick_other(&mut simulation, &[1]), None, "others wait");
    }

    #[test]
    fn a_connect_that_began_before_the_endpoint_came_back_does_not_count() {
        let mut simulation = Simulation::new(1, RULES);
        let began = millis(1);
        simulation.now = millis(2);
        simulation.restart(0);
        assert_eq!(simulation.balancer.connect_failed(0, began, millis(3), 0), None);
        assert_eq!(simulation.balancer.connect_failed(0, millis(2), millis(3), 0), Some(Change::WentDown));
    }

    #[test]
    fn a_request_that_is_parked_again_keeps_its_place() {
        let mut simulation = Simulation::new(1, RULES);
        simulation.connect_failed(0);
        let first = simulation.park(1);
        simulation.park(2);
        simulation.balancer.connected(0, simulation.now);
        let (released, slot) = simulation.release().unwrap();
        assert_eq!(released, 1);
        simulation.balancer.end(slot, simulation.now, 0);
        simulation.connect_failed(0);
        let again = Needs { ticket: Some(first), ..request(&[]) };
        assert_eq!(simulation.slot(&again), None, "the endpoint is down");
        assert_eq!(simulation.balancer.park(again.clone(), 1), first);
        simulation.balancer.connected(0, simulation.now);
        assert_eq!(simulation.release().map(|(number, _)| number), Some(1));
        assert!(simulation.slot(&again).is_some(), "only later ones wait");
        assert_eq!(simulation.slot(&request(&[])), None);
        assert_eq!(simulation.release().map(|(number, _)| number), Some(2));
    }

    #[test]
    fn without_parking_a_request_is_sent_even_if_no_endpoint_is_up() {
        let mut simulation = Simulation::new(2, Rules { outage_wait: None, ..RULES });
        simulation.connect_failed(0);
        assert_eq!(Vec::from_iter((0..20).map(|_| simulation.pick(&[1]))), [Some(1); 20], "the only one that is up");
        simulation.connect_failed(1);
        let picked = Vec::from_iter((0..20).map(|_| simulation.pick(&[]).unwrap()));
        assert!(picked.contains(&0) && picked.contains(&1), "{picked:?}");
        assert_eq!(simulation.pick(&[0]), Some(1));
    }

    #[test]
    fn a_share_of_the_endpoints_may_be_ejected() {
        for (endpoints, max_ejected, expected) in
            [(1, 0.5, 0), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (3, 0.0, 0), (3, 1.0, 3), (10, 0.3, 3)]
        {
            let mut simulation = Simulation::new(endpoints, Rules { max_ejected, ..RULES });
            let ejected = (0..endpoints).filter(|id| simulation.eject(*id).is_some()).count();
            assert_eq!(ejected, expected, "{max_ejected} of {endpoints}");
        }
    }

    #[test]
    fn if_all_that_can_be_reached_are_ejected_they_are_used() {
        let mut simulation = Simulation::new(2, RULES);
        simulation.eject(0);
        assert_eq!(simulation.pick(&[0]), Some(1));
        simulation.connect_failed(1);
        assert_eq!(simulation.pick(&[0]), Some(0));
        assert_eq!(simulation.eject(1), None, "it is unreachable");
    }

    #[test]
    fn one_request_at_a_time_probes_an_ejected_endpoint() {
        let mut simulation = Simulation::new(2, RULES);
        simulation.eject(0);
        assert_eq!(simulation.pick(&[]), Some(1), "not due yet");
        simulation.now = millis(50);
        assert_eq!(simulation.pick(&[0]), Some(1), "the retry of a call that has tried it");
        let unrepeatable = Needs { tried: vec![], is_repeatable: false, ticket: None };
        assert_eq!(simulation.slot(&unrepeatable).unwrap().endpoint, 1, "it could be lost");
        let probe = simulation.slot(&request(&[])).unwrap();
        assert_eq!(probe.endpoint, 0);
        assert_eq!(Vec::from_iter((0..20).map(|_| simulation.pick(&[]))), [Some(1); 20], "one at a time");
        // It fails.
        simulation.balancer.end(probe, simulation.now, 0);
        assert_eq!(simulation.pick(&[]), Some(1), "not due again");
        simulation.now = millis(1000);
        let probe = simulation.slot(&request(&[])).unwrap();
        assert_eq!(probe.endpoint, 0);
        let Some(Change::CameUp(outage)) = simulation.respond(probe) else { unreachable!("it responded") };
        assert_eq!((outage.since, outage.probes), (Duration::ZERO, 2));
        assert!(matches!(simulation.balancer.health(0), Some(Health::Up(Some(_)))));
    }

    #[test]
    fn a_request_that_cannot_be_repeated_probes_only_if_no_other_comes() {
        let mut simulation = Simulation::new(2, RULES);
        simulation.eject(0);
        simulation.now = UNREPEATABLE_PROBE_DELAY + millis(50);
        let request = Needs { tried: vec![], is_repeatable: false, ticket: None };
        assert_eq!(simulation.slot(&request).unwrap().endpoint, 0);
    }

    #[test]
    fn an_unreachable_endpoint_has_one_probe_at_a_time() {
        let mut simulation = Simulation::new(1, RULES);
        assert_eq!(simulation.balancer.next_probe(0), None, "it is up");
        assert!(!simulation.balancer.begin_probe(0, millis(9999)));
        simulation.connect_failed(0);
        let due = simulation.balancer.next_probe(0).unwrap();
        assert!(!simulation.balancer.begin_probe(0, due - millis(1)));
        assert!(simulation.balancer.begin_probe(0, due));
        assert_eq!(simulation.balancer.next_probe(0), None);
        assert!(!simulation.balancer.begin_probe(0, due));
        simulation.balancer.probe_failed(0, due, 0);
        assert!(simulation.balancer.next_probe(0).unwrap() > due);
    }

    #[test]
    fn a_slow_start_ends() {
        let mut simulation = Simulation::new(1, RULES);
        simulation.restart(0);
        let slots = Vec::from_iter((0..INITIAL_WINDOW).map(|_| simulation.slot(&request(&[])).unwrap()));
        assert_eq!(simulation.pick(&[]), None);
        for number in 0..3 {
            simulation.park(number);
        }
        assert_eq!(simulation.release(), None);
        simulation.respond(slots[0]);
        let released = Vec::from_iter(std::iter::from_fn(|| simulation.release()).map(|(number, _)| number));
        assert_eq!(released, [0, 1], "in the place of the response, and one for it");
        simulation.now = SLOW_START;
        assert_eq!(simulation.release().map(|(number, _)| number), Some(2));
        assert!(simulation.balancer.is_steady());
        for slot in slots {
            assert_eq!(simulation.respond(slot), None);
        }
        assert!(simulation.balancer.is_steady());
    }

    #[test]
    fn parked_requests_are_not_released_at_once_to_an_endpoint_that_rejects_requests() {
        let mut simulation = Simulation::new(1, RULES);
        simulation.restart(0);
        let slots = Vec::from_iter((0..INITIAL_WINDOW).map(|_| simulation.slot(&request(&[])).unwrap()));
        for number in 0..20 {
            simulation.park(number);
        }
        slots.iter().for_each(|_| simulation.balancer.failed(0));
        simulation.now = SLOW_START * 2;
        for slot in slots {
            simulation.balancer.end(slot, simulation.now, 0);
        }
        let released = Vec::from_iter(std::iter::from_fn(|| simulation.release()));
        assert_eq!(released.len(), INITIAL_WINDOW as usize / 2);
        assert!(!simulation.balancer.is_steady());
    }

    /// An endpoint without load is chosen whenever it takes part.
    #[test]
    fn the_share_of_an_endpoint_grows_over_its_slow_start() {
        const PICKS: u32 = 10_000;
        let mut simulation = Simulation::new(3, Rules { outage_wait: None, ..RULES });
        simulation.in_flight = [(0, 0), (1, 99), (2, 99)].into();
        simulation.restart(0);
        for (now, share) in [(0, 0.1), (500, 0.1), (1000, 0.2), (2500, 0.5), (4000, 0.8)] {
            simulation.now = millis(now);
            let picked = (0..PICKS).filter(|_| simulation.pick(&[]) == Some(0)).count() as f64 / f64::from(PICKS);
            // Two of three are compared.
            let full = 1.0 - share / 3.0;
            assert!(picked < share + 0.02 && picked > share * full * 0.6, "{picked} of {share} after {now} ms");
        }
    }

    /// What happens to a simulation.
    #[derive(Clone, Debug)]
    enum Step {
        Insert,
        Remove(Index),
        Request { tried: Vec<Index>, is_repeatable: bool },
        Leave(Index),
        Respond(Index),
        End(Index),
        ConnectFailed(Index),
        BeginProbe(Index),
        ProbeFailed(Index),
        Connected(Index),
        Eject(Index),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let index = any::<Index>;
        prop_oneof![
            1 => Just(Step::Insert),
            1 => index().prop_map(Step::Remove),
            20 => (prop::collection::vec(index(), 0..3), any::<bool>())
                .prop_map(|(tried, is_repeatable)| Step::Request { tried, is_repeatable }),
            2 => index().prop_map(Step::Leave),
            10 => index().prop_map(Step::Respond),
            10 => index().prop_map(Step::End),
            3 => index().prop_map(Step::ConnectFailed),
            4 => index().prop_map(Step::BeginProbe),
            2 => index().prop_map(Step::ProbeFailed),
            3 => index().prop_map(Step::Connected),
            3 => index().prop_map(Step::Eject),
            8 => (0_u64..3000).prop_map(Step::Wait),
        ]
    }

    /// What is expected of a simulation.
    struct Model {
        simulation: Simulation,
        rules: Rules,
        endpoints: Vec<EndpointId>,
        /// The requests that have a slot, and whether they got a response.
        sent: Vec<(Slot, bool)>,
        parked: Vec<(Ticket, u32)>,
        requests: u32,
        /// The unreachable endpoints that are probed.
        probed: Vec<EndpointId>,
    }

    impl Model {
        fn new(endpoints: u32, rules: Rules) -> Self {
            let simulation = Simulation::new(endpoints, rules);
            let (sent, parked, requests, probed) = Default::default();
            Self { simulation, rules, endpoints: (0..endpoints).collect(), sent, parked, requests, probed }
        }

        fn health(&self, id: EndpointId) -> Health {
            self.simulation.balancer.health(id).unwrap()
        }

        fn all(&self) -> Vec<Health> {
            self.endpoints.iter().map(|id| self.health(*id)).collect()
        }

        fn epoch(&self, id: EndpointId) -> u64 {
            self.simulation.balancer.members.iter().find(|member| member.id == id).unwrap().epoch
        }

        fn is_current(&self, slot: Slot) -> bool {
            self.endpoints.contains(&slot.endpoint) && self.epoch(slot.endpoint) == slot.epoch
        }

        /// Returns the number of slots that count in the present state of an endpoint.
        fn current(&self, id: EndpointId, kind: SlotKind) -> usize {
            let slots = self.sent.iter().map(|(slot, _)| *slot);
            slots.filter(|slot| slot.endpoint == id && slot.kind == kind && self.is_current(*slot)).count()
        }

        /// Checks that a request may have this slot, given how the endpoints were.
        fn check_slot(&self, slot: Slot, before: &[Health]) {
            let is_up = |health: &Health| matches!(health, Health::Up(_));
            let is_ejected = |health: &Health| matches!(health, Health::Ejected(_));
            let index = self.endpoints.iter().position(|id| *id == slot.endpoint).expect("a present endpoint");
            match before[index] {
                Health::Up(_) => assert_ne!(slot.kind, SlotKind::Probe),
                Health::Ejected(_) if slot.kind == SlotKind::Probe => {}
                Health::Ejected(_) => assert!(!before.iter().any(is_up), "{before:?}"),
                Health::Unreachable(_) => {
                    assert!(self.rules.outage_wait.is_none(), "{before:?}");
                    assert!(!before.iter().any(|health| is_up(health) || is_ejected(health)), "{before:?}");
                }
            }
        }

        fn apply(&mut self, step: &Step) {
            let of = |index: &Index, ids: &[EndpointId]| ids.get(index.index(ids.len().max(1))).copied();
            let (before, now) = (self.all(), self.simulation.now);
            match step {
                Step::Insert if self.endpoints.len() < 6 => {
                    let id = self.endpoints.last().map_or(0, |last| last + 1);
                    self.simulation.balancer.insert(id, Some(now));
                    self.endpoints.push(id);
                }
                Step::Remove(index) if self.endpoints.len() > 1 => {
                    let id = self.endpoints.remove(index.index(self.endpoints.len() - 1));
                    self.simulation.balancer.remove(id);
                    self.probed.retain(|probed| *probed != id);
                }
                Step::Request { tried, is_repeatable } => {
                    let tried = tried.iter().filter_map(|index| of(index, &self.endpoints)).collect();
                    let request = Needs { tried, is_repeatable: *is_repeatable, ticket: None };
                    self.requests += 1;
                    match self.simulation.slot(&request) {
                        Some(slot) => {
                            assert!(self.parked.is_empty(), "others came before");
                            self.check_slot(slot, &before);
                            self.sent.push((slot, false));
                        }
                        None => {
                            assert!(self.rules.outage_wait.is_some());
                            let ticket = self.simulation.balancer.park(request, self.requests);
                            self.parked.push((ticket, self.requests));
                        }
                    }
                }
                Step::Leave(index) if !self.parked.is_empty() => {
                    let (ticket, _) = self.parked.remove(index.index(self.parked.len()));
                    self.simulation.balancer.leave(ticket);
                }
                Step::Respond(index) | Step::End(index) if !self.sent.is_empty() => {
                    let index = index.index(self.sent.len());
                    let (slot, responded) = self.sent[index];
                    let is_current = self.is_current(slot);
                    let change = if matches!(step, Step::End(_)) {
                        self.sent.remove(index);
                        self.simulation.balancer.end(slot, now, 0);
                        None
                    } else if !responded {
                        self.sent[index].1 = true;
                        self.simulation.balancer.responded(slot, now)
                    } else {
                        None
                    };
                    assert!(change.is_none() || slot.kind == SlotKind::Probe && is_current);
                    if !is_current {
                        assert_eq!(self.all(), before, "what began in an earlier state counts no longer");
                    }
                }
                Step::ConnectFailed(index) => {
                    let id = of(index, &self.endpoints).unwrap();
                    self.simulation.connect_failed(id);
                    assert!(matches!(self.health(id), Health::Unreachable(_)));
                }
                Step::BeginProbe(index) => {
                    let id = of(index, &self.endpoints).unwrap();
                    if self.simulation.balancer.begin_probe(id, now) {
                        assert!(!self.probed.contains(&id), "one at a time");
                        self.probed.push(id);
                    }
                }
                Step::ProbeFailed(index) if !self.probed.is_empty() => {
                    let id = self.probed.swap_remove(index.index(self.probed.len()));
                    self.simulation.balancer.probe_failed(id, now, 0);
                }
                Step::Connected(index) if !self.probed.is_empty() => {
                    let id = self.probed.swap_remove(index.index(self.probed.len()));
                    assert!(self.simulation.balancer.connected(id, now).is_some());
                    assert!(matches!(self.health(id), Health::Up(_)));
                }
                Step::Eject(index) => {
                    let id = of(index, &self.endpoints).unwrap();
                    let change = self.simulation.eject(id);
                    let ejected = self.all().iter().filter(|health| matches!(health, Health::Ejected(_))).count();
                    let maximum = self.endpoints.len() as f64 * self.rules.max_ejected;
                    assert!(change.is_none() || ejected as f64 <= maximum, "{ejected} of {maximum}");
                    assert_eq!(change.is_some(), self.all() != before);
                }
                Step::Wait(time) => self.simulation.now += millis(*time),
                _ => {}
            }
        }

        /// Releases what can be sent, as after each change.
        fn release(&mut self) {
            loop {
                let before = self.all();
                let Some((number, slot)) = self.simulation.release() else { break };
                let (_, first) = self.parked.remove(0);
                assert_eq!(number, first, "the oldest first");
                self.check_slot(slot, &before);
                self.sent.push((slot, false));
            }
        }

        fn check(&self) {
            assert_eq!(self.simulation.balancer.parked(), self.parked.len());
            let mut has_capacity = false;
            let healths = self.all();
            let is_any_up = healths.iter().any(|health| matches!(health, Health::Up(_)));
            for (id, health) in self.endpoints.iter().zip(&healths) {
                let probes = self.current(*id, SlotKind::Probe);
                assert!(probes <= 1, "one at a time");
                match health {
                    Health::Up(None) => has_capacity = true,
                    Health::Up(Some(slow_start)) => {
                        let in_flight = self.current(*id, SlotKind::SlowStart);
                        let limit = (slow_start.window.size() as usize).min(MAX_IN_FLIGHT);
                        has_capacity |= in_flight < limit;
                        assert!(in_flight <= limit || self.rules.outage_wait.is_none(), "{in_flight} of {limit}");
                    }
                    Health::Ejected(_) => has_capacity |= !is_any_up,
                    Health::Unreachable(_) => assert_eq!(probes, 0),
                }
            }
            assert!(self.parked.is_empty() || !has_capacity, "a request waits although it could be sent: {healths:?}");
        }
    }

    proptest! {
        #[test]
        fn no_order_of_events_breaks_the_rules(
            endpoints in 1_u32..5,
            parks in any::<bool>(),
            max_ejected in prop_oneof![Just(0.0), Just(0.5), Just(1.0)],
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut model = Model::new(endpoints, Rules { max_ejected, outage_wait: parks.then_some(OUTAGE_WAIT), ..RULES });
            for step in &steps {
                model.apply(step);
                model.release();
                model.check();
            }
        }

        /// Whatever has happened: once the endpoints are up, all requests are sent.
        #[test]
        fn nobody_waits_forever(endpoints in 1_u32..5, steps in prop::collection::vec(step(), 0..200)) {
            let mut model = Model::new(endpoints, RULES);
            for step in &steps {
                model.apply(step);
                model.release();
            }
            for id in model.endpoints.clone() {
                model.simulation.balancer.connected(id, model.simulation.now);
            }
            while !model.parked.is_empty() {
                model.release();
                let before = model.parked.len();
                // The endpoints respond, or their slow start ends.
                model.simulation.now += SLOW_START;
                model.release();
                assert!(model.parked.len() < before || model.parked.is_empty());
            }
        }
    }
}

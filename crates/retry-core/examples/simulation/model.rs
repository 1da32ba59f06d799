//! The model: a million calls, one server, a minute of outage.
//!
//! * Calls start at random times, at two thirds of the rate that the server can serve.
//! * Serving an attempt is one unit of work. **Rejecting one is work as well** (the connection, the handshake, the parsing): a
//!   tenth of a unit. This is how retries keep a server down after the cause of the outage is gone.
//! * The server queues up to a tenth of a second of work, and rejects further attempts.
//! * In the outage, the server first hangs, and attempts with it. Then it is killed, which fails all of them at once. Until it
//!   is back, attempts are refused at no cost.
//! * At all other times, one attempt in a hundred fails at random.
//! * Each call has a deadline of one minute.
#![expect(clippy::indexing_slicing, reason = "indices are numbers of calls and seconds of the simulation")]

use std::time::Duration;

use fastrand::Rng;
use retry_core::{BudgetError, Decision, RetryBudget, RetryPolicy, Session, Verdict};

use crate::{
    event_queue::{EventQueue, Millis},
    gateway::Gateway,
    policies::{Contender, DEADLINE, Parking},
    server::{Outcome, Server},
};

pub(crate) const CALLS: u32 = 1_000_000;
/// All calls start before this time.
pub(crate) const ARRIVALS: Millis = 300_000;
/// The number of processes that make the calls. Each has its own budget.
pub(crate) const PROCESSES: u32 = 100;
/// A call that is served at its first attempt and within this time does not notice an outage.
const PROMPT: Millis = 1_000;
const SEED: u64 = 2015;

/// The outcome of a simulation.
pub(crate) struct Run {
    pub(crate) seconds: Vec<Second>,
    /// Calls that succeeded.
    pub(crate) served: u32,
}

/// The events of one second.
#[derive(Clone, Copy, Default)]
pub(crate) struct Second {
    /// All attempts that started, and probes.
    pub(crate) attempts: u32,
    /// Those of them that succeeded.
    pub(crate) served: u32,
    /// Calls that started.
    pub(crate) calls: u32,
    /// Those of them that succeeded at their first attempt, without a noticeable wait.
    pub(crate) served_promptly: u32,
}

/// Simulates one policy. The result depends only on the arguments.
pub(crate) fn simulate(contender: &Contender, rejection_percent: u64) -> Result<Run, BudgetError> {
    let mut rng = Rng::with_seed(SEED);
    let budgets = (0..PROCESSES).map(|_| contender.budget()).collect::<Result<Vec<_>, _>>()?;
    let mut simulation = Simulation::new(contender, &budgets, rng.fork(), Server::new(rejection_percent, rng));
    while let Some((now, event)) = simulation.queue.next() {
        match event.checked_sub(CALLS) {
            Some(process) => simulation.probe(process as usize, now),
            None => simulation.call(event, now),
        }
    }
    Ok(simulation.run)
}

struct Simulation<'a> {
    policy: &'a RetryPolicy,
    /// One for each process.
    budgets: &'a [Option<RetryBudget>],
    parking: Option<&'a Parking>,
    /// One for each process. They matter only if the policy parks calls.
    gateways: Vec<Gateway>,
    /// The waits between the probes of each process. `None` while it does not probe.
    probes: Vec<Option<Session<'a>>>,
    calls: Vec<Call<'a>>,
    /// The next event of each call, and after them of each process.
    queue: EventQueue,
    rng: Rng,
    server: Server,
    run: Run,
}

struct Call<'a> {
    start: Millis,
    /// `None` before the call starts and after it ends.
    session: Option<Session<'a>>,
    /// The outcome of the attempt in flight. `None` between attempts.
    outcome: Option<Outcome>,
    /// How long the call was parked.
    parked: Millis,
}

impl<'a> Simulation<'a> {
    fn new(contender: &'a Contender, budgets: &'a [Option<RetryBudget>], mut rng: Rng, server: Server) -> Self {
        let mut starts: Vec<Millis> = (0..CALLS).map(|_| rng.u32(..ARRIVALS)).collect();
        starts.sort_unstable(); // So that calls close in time are close in memory.
        let mut queue = EventQueue::new(CALLS + PROCESSES);
        (0..).zip(&starts).for_each(|(call, &start)| queue.add(start, call));
        let wait = contender.parking.as_ref().map_or(0, |parking| parking.wait);
        let call = |start| Call { start, session: None, outcome: None, parked: 0 };
        Self {
            policy: &contender.policy,
            budgets,
            parking: contender.parking.as_ref(),
            gateways: (0..PROCESSES).map(|_| Gateway::new(wait)).collect(),
            probes: (0..PROCESSES).map(|_| None).collect(),
            calls: starts.into_iter().map(call).collect(),
            queue,
            rng,
            server,
            run: Run::new(),
        }
    }

    /// Handles the next event of a call: an attempt starts or ends.
    fn call(&mut self, number: u32, now: Millis) {
        match self.calls[number as usize].outcome.take() {
            Some(outcome) => self.end_attempt(number, outcome, now),
            None => self.start_attempt(number, now),
        }
        self.release(process(number), now);
    }

    /// Sends an attempt, or parks the call.
    fn start_attempt(&mut self, number: u32, now: Millis) {
        let process = process(number);
        let call = &mut self.calls[number as usize];
        if call.session.is_none() {
            call.session = Some(Session::start(self.policy, self.budgets[process].as_ref(), time(now)));
            self.run.second(now).calls += 1;
        }
        if self.gateways[process].admits(now) {
            self.send(number, now);
        } else {
            self.gateways[process].park(number, now);
        }
    }

    fn send(&mut self, number: u32, now: Millis) {
        let (outcome, end) = self.server.attempt(now);
        self.calls[number as usize].outcome = Some(outcome);
        self.gateways[process(number)].begin_attempt();
        self.queue.add(end, number);
        let second = self.run.second(now);
        second.attempts += 1;
        second.served += u32::from(outcome == Outcome::Served);
    }

    fn end_attempt(&mut self, number: u32, outcome: Outcome, now: Millis) {
        let (process, served) = (process(number), outcome == Outcome::Served);
        self.gateways[process].end_attempt(served);
        let verdict = match (outcome, self.parking) {
            (Outcome::Served, _) => Verdict::Accept,
            (Outcome::Refused, Some(_)) => {
                // It was not sent, so this attempt goes on when the server is back.
                self.server_is_away(process, now);
                return self.gateways[process].park(number, now);
            }
            (Outcome::CutOff, Some(_)) => {
                // A gateway tries to connect then, and finds out.
                self.server_is_away(process, now);
                Verdict::RetryUncharged(None)
            }
            _ => Verdict::Retry,
        };
        let call = &mut self.calls[number as usize];
        let Some(session) = &mut call.session else { return };
        let promptly = served && session.attempt() == 1 && now - call.start < PROMPT;
        match session.decide(verdict, time(now), || self.rng.u64(..)) {
            Decision::Wait(wait) => self.queue.add(now + wait.as_millis() as Millis, number),
            Decision::Finish(_) => {
                call.session = None;
                self.run.served += u32::from(served);
                self.run.second(call.start).served_promptly += u32::from(promptly);
            }
        }
    }

    fn server_is_away(&mut self, process: usize, now: Millis) {
        if self.gateways[process].refused() {
            self.schedule_probe(process, now);
        }
    }

    fn schedule_probe(&mut self, process: usize, now: Millis) {
        let Some(parking) = self.parking else { return };
        let probes = self.probes[process].get_or_insert_with(|| Session::start(&parking.probes, None, time(now)));
        if let Decision::Wait(wait) = probes.decide(Verdict::Retry, time(now), || self.rng.u64(..)) {
            self.queue.add(now + wait.as_millis() as Millis, CALLS + process as u32);
        }
    }

    fn probe(&mut self, process: usize, now: Millis) {
        self.run.second(now).attempts += 1;
        if self.server.is_reachable(now) {
            self.probes[process] = None;
            self.gateways[process].connected(now);
            self.release(process, now);
        } else {
            self.schedule_probe(process, now);
        }
    }

    /// Sends the parked calls that may be sent now. Those that have waited for too long have failed.
    fn release(&mut self, process: usize, now: Millis) {
        while let Some((number, since)) = self.gateways[process].release(now) {
            let call = &mut self.calls[number as usize];
            call.parked += now - since;
            let too_long = self.parking.is_some_and(|parking| call.parked > parking.wait);
            if too_long || now - call.start > DEADLINE {
                call.session = None;
            } else {
                self.send(number, now);
            }
        }
    }
}

/// Returns the process that makes a call.
fn process(call: u32) -> usize {
    (call % PROCESSES) as usize
}

fn time(millis: Millis) -> Duration {
    Duration::from_millis(millis.into())
}

impl Run {
    fn new() -> Self {
        Self { seconds: vec![Second::default(); (ARRIVALS + DEADLINE) as usize / 1000 + 1], served: 0 }
    }

    fn second(&mut self, now: Millis) -> &mut Second {
        &mut self.seconds[now as usize / 1000]
    }

    /// Returns how many calls failed.
    pub(crate) fn lost(&self) -> u32 {
        CALLS - self.served
    }
}

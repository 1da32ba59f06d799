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

use std::{ops::Range, time::Duration};

use fastrand::Rng;
use retry_core::{BudgetError, Decision, RetryBudget, RetryPolicy, Session, Verdict};

use crate::{
    event_queue::{EventQueue, Millis},
    policies::{Contender, DEADLINE},
};

pub(crate) const CALLS: u32 = 1_000_000;
/// All calls start before this time.
pub(crate) const ARRIVALS: Millis = 300_000;
pub(crate) const OUTAGE: Range<Millis> = 60_000..120_000;
/// The part of the outage in which attempts hang.
pub(crate) const FREEZE: Range<Millis> = 60_000..70_000;
/// Attempts per second that the server can serve.
pub(crate) const CAPACITY: u32 = 5_000;
/// The cost of rejecting an attempt, in per cent of serving it. The second is the usual one.
pub(crate) const REJECTION_PERCENT: [u64; 3] = [1, 10, 25];
/// The number of processes that make the calls. Each has its own budget.
pub(crate) const PROCESSES: usize = 20;

/// The time to the server and back.
const ROUND_TRIP: Millis = 20;
/// One in this many attempts fails at random.
const CHANCE: u32 = 100;
const SEED: u64 = 2015;

/// The outcome of a simulation.
pub(crate) struct Run {
    pub(crate) seconds: Vec<Second>,
    /// Calls whose first attempt failed.
    pub(crate) failed_first: u32,
    /// Those of them that succeeded at a retry.
    pub(crate) saved: u32,
}

/// The events of one second.
#[derive(Clone, Copy, Default)]
pub(crate) struct Second {
    /// All attempts that started.
    pub(crate) attempts: u32,
    /// Those of them that succeeded.
    pub(crate) served: u32,
    /// Calls that started.
    pub(crate) calls: u32,
    /// Those of them that succeeded at their first attempt.
    pub(crate) served_first: u32,
}

/// Simulates one policy. The result depends only on the arguments.
pub(crate) fn simulate(contender: &Contender, rejection_percent: u64) -> Result<Run, BudgetError> {
    let mut rng = Rng::with_seed(SEED);
    let budgets = (0..PROCESSES).map(|_| contender.budget()).collect::<Result<Vec<_>, _>>()?;
    let mut callers = Callers::new(&contender.policy, &budgets, rng.fork());
    let mut server = Server::new(rejection_percent, rng);
    let mut hanging = Vec::new();
    let mut run = Run::new();

    while let Some((now, call)) = callers.queue.next() {
        if now >= FREEZE.end {
            hanging.drain(..).for_each(|call| callers.settle(call, false, FREEZE.end));
        }
        let first = callers.begin(call, now) == 1;
        match server.attempt(now) {
            Some((served, end)) => {
                run.record(now, first, served);
                callers.settle(call, served, end);
            }
            None => {
                run.record(now, first, false);
                hanging.push(call);
            }
        }
    }
    Ok(run)
}

struct Callers<'a> {
    policy: &'a RetryPolicy,
    /// One for each process.
    budgets: &'a [Option<RetryBudget>],
    /// One for each call. `None` before the call starts and after it ends.
    sessions: Vec<Option<Session<'a>>>,
    queue: EventQueue,
    rng: Rng,
}

impl<'a> Callers<'a> {
    fn new(policy: &'a RetryPolicy, budgets: &'a [Option<RetryBudget>], mut rng: Rng) -> Self {
        let mut starts: Vec<Millis> = (0..CALLS).map(|_| rng.u32(..ARRIVALS)).collect();
        starts.sort_unstable(); // So that calls close in time are close in memory.
        let sessions = starts.iter().map(|_| None).collect();
        Self { policy, budgets, sessions, queue: EventQueue::new(&starts), rng }
    }

    /// Starts an attempt of a call. Returns the number of the attempt.
    fn begin(&mut self, call: u32, now: Millis) -> u32 {
        let budget = self.budgets[call as usize % PROCESSES].as_ref();
        self.sessions[call as usize].get_or_insert_with(|| Session::start(self.policy, budget, time(now))).attempt()
    }

    /// Ends an attempt, and schedules the next one if the session decides so.
    fn settle(&mut self, call: u32, served: bool, end: Millis) {
        let slot = &mut self.sessions[call as usize];
        let Some(session) = slot else { return };
        let verdict = if served { Verdict::Accept } else { Verdict::Retry };
        match session.decide(verdict, time(end), || self.rng.u64(..)) {
            Decision::Wait(wait) => self.queue.add(end + wait.as_millis() as Millis, call),
            Decision::Finish(_) => *slot = None,
        }
    }
}

impl Run {
    fn new() -> Self {
        let seconds = vec![Second::default(); (ARRIVALS + DEADLINE) as usize / 1000];
        Self { seconds, failed_first: 0, saved: 0 }
    }

    fn record(&mut self, now: Millis, first: bool, served: bool) {
        let second = &mut self.seconds[now as usize / 1000];
        second.attempts += 1;
        second.served += u32::from(served);
        second.calls += u32::from(first);
        second.served_first += u32::from(first && served);
        self.failed_first += u32::from(first && !served);
        self.saved += u32::from(!first && served);
    }

    /// Returns how many calls failed.
    pub(crate) fn lost(&self) -> u32 {
        self.failed_first - self.saved
    }
}

struct Server {
    rng: Rng,
    /// The time to reject an attempt, in microseconds.
    rejection: u64,
    /// When all accepted work will be done, in microseconds.
    busy_until: u64,
}

impl Server {
    /// The time to serve an attempt, in microseconds.
    const SERVE: u64 = 1_000_000 / CAPACITY as u64;
    /// The most work that can be queued. Further attempts are rejected.
    const QUEUE: u64 = 100_000;
    /// The most work, including rejections. The network drops further attempts before they reach the server.
    const BACKLOG: u64 = 1_000_000;

    fn new(rejection_percent: u64, rng: Rng) -> Self {
        Self { rng, rejection: Self::SERVE * rejection_percent / 100, busy_until: 0 }
    }

    /// Returns whether an attempt that starts now succeeds, and when its result arrives. `None` if it hangs.
    fn attempt(&mut self, now: Millis) -> Option<(bool, Millis)> {
        if FREEZE.contains(&now) {
            return None;
        }
        let refused = Some((false, now + ROUND_TRIP));
        if OUTAGE.contains(&now) {
            return refused;
        }
        let arrival = u64::from(now) * 1000;
        let waiting = self.busy_until.saturating_sub(arrival);
        if waiting > Self::QUEUE {
            self.busy_until = arrival + (waiting + self.rejection).min(Self::BACKLOG);
            return refused;
        }
        self.busy_until = arrival + waiting + Self::SERVE;
        Some((self.rng.u32(..CHANCE) != 0, (self.busy_until / 1000) as Millis + ROUND_TRIP))
    }
}

fn time(millis: Millis) -> Duration {
    Duration::from_millis(millis.into())
}

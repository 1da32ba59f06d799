//! The world: a million calls, one server, a minute of outage. A model, small enough to doubt:
//!
//! * Calls begin at random moments, at two thirds of the rate that the server can serve.
//! * Serving an attempt is one unit of work. **Turning one away is work, too** (the connection, the
//!   handshake, the parsing), a tenth of a unit. This is how a storm of retries keeps a server down
//!   when its fault is long gone.
//! * The server lets a tenth of a second's work wait, and turns away what comes on top.
//! * It goes down by freezing: attempts hang. Then it is killed, which breaks all of them at the same
//!   moment, and until it is back attempts are refused, at no cost.
//! * At all other times one attempt in a hundred fails by chance.
//! * Callers are patient for a minute.
#![expect(clippy::indexing_slicing, reason = "the indices are numbers of calls and seconds, all within the run")]

use std::{ops::Range, time::Duration};

use fastrand::Rng;
use retry_core::{BudgetError, Decision, RetryBudget, RetryPolicy, Session, Verdict};

use crate::{agenda::Agenda, policies::Contender};

/// Virtual time, in milliseconds.
pub(crate) type Millis = u32;

pub(crate) const CALLS: u32 = 1_000_000;
/// Calls begin before this.
pub(crate) const ARRIVALS: Millis = 300_000;
/// For how long a caller goes on; nothing happens later than this after the last arrival.
pub(crate) const PATIENCE: Millis = 60_000;
pub(crate) const OUTAGE: Range<Millis> = 60_000..120_000;
/// The part of the outage in which attempts hang.
pub(crate) const FREEZE: Range<Millis> = 60_000..70_000;
/// Attempts that the server can serve in a second.
pub(crate) const CAPACITY: u32 = 5_000;
/// What turning an attempt away costs, in hundredths of serving it: the usual world is the middle one.
pub(crate) const TURN_AWAY_PERCENT: [u64; 3] = [1, 10, 25];
/// The calls are made from so many processes; each has a budget of its own.
pub(crate) const PROCESSES: usize = 20;

/// To the server and back.
const ROUND_TRIP: Millis = 20;
/// An attempt fails by chance once in so many.
const CHANCE: u32 = 100;
const SEED: u64 = 2015;

/// What became of the calls.
pub(crate) struct Run {
    pub(crate) seconds: Vec<Second>,
    /// Calls whose first attempt failed.
    pub(crate) failed_first: u32,
    /// Those of them that a retry saved.
    pub(crate) saved: u32,
}

/// What happened in one second.
#[derive(Clone, Copy, Default)]
pub(crate) struct Second {
    /// Attempts that set out, first ones and retries.
    pub(crate) attempts: u32,
    /// Those of them that succeeded.
    pub(crate) answered: u32,
    /// Calls that began.
    pub(crate) calls: u32,
    /// Those of them that succeeded at their first attempt.
    pub(crate) at_once: u32,
}

/// Plays the world under one policy. The same arguments give the same run, to the last attempt.
pub(crate) fn play(contender: &Contender, turn_away_percent: u64) -> Result<Run, BudgetError> {
    let mut rng = Rng::with_seed(SEED);
    let budgets = (0..PROCESSES).map(|_| contender.budget()).collect::<Result<Vec<_>, _>>()?;
    let mut callers = Callers::new(&contender.policy, &budgets, rng.fork());
    let mut server = Server::new(turn_away_percent, rng);
    let mut hanging = Vec::new();
    let mut run = Run::new();

    while let Some((now, call)) = callers.agenda.next() {
        if now >= FREEZE.end {
            hanging.drain(..).for_each(|call| callers.settle(call, false, FREEZE.end));
        }
        let first = callers.begin(call, now) == 1;
        match server.attempt(now) {
            Some((answered, end)) => {
                run.record(now, first, answered);
                callers.settle(call, answered, end);
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
    /// One for each call; none before it begins and after its end.
    sessions: Vec<Option<Session<'a>>>,
    agenda: Agenda,
    rng: Rng,
}

impl<'a> Callers<'a> {
    fn new(policy: &'a RetryPolicy, budgets: &'a [Option<RetryBudget>], mut rng: Rng) -> Self {
        let mut starts: Vec<Millis> = (0..CALLS).map(|_| rng.u32(..ARRIVALS)).collect();
        starts.sort_unstable(); // Calls close in time are close in memory.
        let sessions = starts.iter().map(|_| None).collect();
        Self { policy, budgets, sessions, agenda: Agenda::new(&starts), rng }
    }

    /// A call makes an attempt; returns the attempt's number.
    fn begin(&mut self, call: u32, now: Millis) -> u32 {
        let budget = self.budgets[call as usize % PROCESSES].as_ref();
        self.sessions[call as usize].get_or_insert_with(|| Session::start(self.policy, budget, time(now))).attempt()
    }

    /// Its caller knows how the attempt ended, and decides what is next.
    fn settle(&mut self, call: u32, answered: bool, end: Millis) {
        let slot = &mut self.sessions[call as usize];
        let Some(session) = slot else { return };
        let verdict = if answered { Verdict::Accept } else { Verdict::Retry };
        match session.decide(verdict, time(end), || self.rng.u64(..)) {
            Decision::Wait(wait) => self.agenda.add(end + wait.as_millis() as Millis, call),
            Decision::Finish(_) => *slot = None,
        }
    }
}

impl Run {
    fn new() -> Self {
        let seconds = vec![Second::default(); (ARRIVALS + PATIENCE) as usize / 1000];
        Self { seconds, failed_first: 0, saved: 0 }
    }

    fn record(&mut self, now: Millis, first: bool, answered: bool) {
        let second = &mut self.seconds[now as usize / 1000];
        second.attempts += 1;
        second.answered += u32::from(answered);
        second.calls += u32::from(first);
        second.at_once += u32::from(first && answered);
        self.failed_first += u32::from(first && !answered);
        self.saved += u32::from(!first && answered);
    }

    /// Calls that no attempt of theirs brought to an end well.
    pub(crate) fn lost(&self) -> u32 {
        self.failed_first - self.saved
    }
}

struct Server {
    rng: Rng,
    turn_away: u64,
    /// When the work it has taken on will be done, in microseconds.
    busy_until: u64,
}

impl Server {
    /// What serving an attempt takes, in microseconds.
    const SERVE: u64 = 1_000_000 / CAPACITY as u64;
    /// Work that may wait; an attempt that finds more is turned away.
    const QUEUE: u64 = 100_000;
    /// Work, turning away included, beyond which the network drops attempts before the server sees them.
    const BACKLOG: u64 = 1_000_000;

    fn new(turn_away_percent: u64, rng: Rng) -> Self {
        Self { rng, turn_away: Self::SERVE * turn_away_percent / 100, busy_until: 0 }
    }

    /// Whether an attempt that sets out now succeeds, and when its caller knows; none if it hangs.
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
            self.busy_until = arrival + (waiting + self.turn_away).min(Self::BACKLOG);
            return refused;
        }
        self.busy_until = arrival + waiting + Self::SERVE;
        Some((self.rng.u32(..CHANCE) != 0, (self.busy_until / 1000) as Millis + ROUND_TRIP))
    }
}

fn time(millis: Millis) -> Duration {
    Duration::from_millis(millis.into())
}

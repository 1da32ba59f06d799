//! The second simulation: a gateway before a slow server that restarts, and that fails everything for five minutes later.
//!
//! * Calls start at random times, and a response takes 300 ms.
//! * The server is killed four times, which cuts off all calls in flight. It is away for a second. Until it is back, further
//!   calls wait, in the gateway or in the queue of the server's listener.
//! * If the listener is gone, the gateway notices the restart, and the retries of the calls that were cut off cost nothing.
//!   If it stays, as when only a worker restarts, they are charged to the budget.
#![expect(clippy::indexing_slicing, reason = "indices are numbers of calls, restarts and seconds")]

use std::{array, error::Error, ops::Range, time::Duration};

use fastrand::Rng;
use retry_core::{Decision, Jitter, RetryBudget, RetryPolicy, Session, Verdict};

use crate::event_queue::{EventQueue, Millis};

pub(crate) const RESPONSE: Millis = 300;
/// When the server is killed: soon after the gateway's start, and later, each time twice.
pub(crate) const KILLS: [Millis; 4] = [400, 5_400, 60_000, 65_000];
/// How long a restart takes.
pub(crate) const AWAY: Millis = 1_000;
/// When the server fails everything.
pub(crate) const STORM: Range<Millis> = 120_000..420_000;
pub(crate) const RATIO: f64 = 0.2;
pub(crate) const FLOOR: u32 = 10;

const CALLS_PER_SECOND: [u32; 4] = [3, 40, 333, 3_333];
const SEED: u64 = 2016;

/// What became of the calls.
pub(crate) struct Run {
    pub(crate) calls_per_second: u32,
    pub(crate) restarts: [Restart; KILLS.len()],
    /// The retries of each second.
    pub(crate) retries: Vec<u32>,
}

/// The calls that a restart cut off, and how many of them succeeded.
#[derive(Clone, Copy, Default)]
pub(crate) struct Restart {
    pub(crate) cut_off: u32,
    pub(crate) saved: u32,
}

struct Call<'a> {
    /// `None` before the call starts.
    session: Option<Session<'a>>,
    /// The outcome of the attempt in flight. `None` between attempts.
    outcome: Option<Outcome>,
    /// The restart that cut the call off.
    cut_off_by: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Served,
    Failed,
    CutOff { restart: usize },
}

/// Simulates a quiet service, and busier ones.
pub(crate) fn simulate(listener_stays: bool) -> Result<Vec<Run>, Box<dyn Error>> {
    CALLS_PER_SECOND.iter().map(|&rate| simulate_service(rate, listener_stays)).collect()
}

fn simulate_service(calls_per_second: u32, listener_stays: bool) -> Result<Run, Box<dyn Error>> {
    let policy = gateway_policy()?;
    let budget = RetryBudget::share(RATIO, FLOOR)?;
    let mut rng = Rng::with_seed(SEED);
    let count = calls_per_second * (STORM.end / 1000);
    let mut queue = EventQueue::new(count);
    (0..count).for_each(|call| queue.add(rng.u32(..STORM.end), call));
    let mut calls: Vec<_> = (0..count).map(|_| Call { session: None, outcome: None, cut_off_by: None }).collect();
    let mut run = Run::new(calls_per_second);

    while let Some((now, number)) = queue.next() {
        let (call, time) = (&mut calls[number as usize], Duration::from_millis(now.into()));
        let session = call.session.get_or_insert_with(|| Session::start(&policy, Some(&budget), time));
        let Some(outcome) = call.outcome.take() else {
            let (outcome, end) = attempt(now);
            run.retries[now as usize / 1000] += u32::from(session.attempt() > 1);
            call.outcome = Some(outcome);
            queue.add(end, number);
            continue;
        };
        if let Outcome::CutOff { restart } = outcome {
            run.restarts[restart].cut_off += 1;
            call.cut_off_by = Some(restart);
        }
        let verdict = match outcome {
            Outcome::Served => Verdict::Accept,
            Outcome::CutOff { .. } if !listener_stays => Verdict::RetryUncharged(None),
            Outcome::CutOff { .. } | Outcome::Failed => Verdict::Retry,
        };
        match session.decide(verdict, time, || rng.u64(..)) {
            Decision::Wait(wait) => queue.add(now + wait.as_millis() as Millis, number),
            Decision::Finish(_) => {
                if let (Outcome::Served, Some(restart)) = (outcome, call.cut_off_by) {
                    run.restarts[restart].saved += 1;
                }
            }
        }
    }
    Ok(run)
}

/// The policy of `retry-service`.
fn gateway_policy() -> Result<RetryPolicy, Box<dyn Error>> {
    let [first, longest] = [100, 2_000].map(Duration::from_millis);
    let policy = RetryPolicy::builder().count(3).interval(first).backoff_factor(2.0).max_wait_interval(longest);
    Ok(policy.jitter(Jitter::Full).build()?)
}

/// Returns the outcome of an attempt that starts now, and when it is known.
fn attempt(now: Millis) -> (Outcome, Millis) {
    if STORM.contains(&now) {
        return (Outcome::Failed, now + RESPONSE);
    }
    let begin = KILLS.iter().map(|kill| kill + AWAY).find(|back| (back - AWAY..*back).contains(&now)).unwrap_or(now);
    let end = begin + RESPONSE;
    match KILLS.iter().position(|kill| (begin..end).contains(kill)) {
        Some(restart) => (Outcome::CutOff { restart }, KILLS[restart]),
        None => (Outcome::Served, end),
    }
}

impl Run {
    fn new(calls_per_second: u32) -> Self {
        let seconds = STORM.end as usize / 1000 + 10; // The last calls retry for a few seconds.
        Self { calls_per_second, restarts: array::from_fn(|_| Restart::default()), retries: vec![0; seconds] }
    }

    /// Returns the sum of all restarts.
    pub(crate) fn all_restarts(&self) -> Restart {
        let [cut_off, saved] = [|restart: &Restart| restart.cut_off, |restart: &Restart| restart.saved];
        Restart { cut_off: self.restarts.iter().map(cut_off).sum(), saved: self.restarts.iter().map(saved).sum() }
    }

    /// Returns the retries of each second in which everything fails.
    pub(crate) fn storm(&self) -> impl Iterator<Item = u32> {
        self.retries.iter().skip(STORM.start as usize / 1000).take(STORM.len() / 1000).copied()
    }

    pub(crate) fn storm_retries_per_call(&self) -> f64 {
        f64::from(self.storm().sum::<u32>()) / f64::from(self.calls_per_second * (STORM.end - STORM.start) / 1000)
    }
}

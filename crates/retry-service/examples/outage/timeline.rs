//! What happens over time in one outage.

use std::{fs, ops::Range, path::PathBuf, time::Duration};

use tokio::time::sleep;

use crate::{
    callers::{Outcome, send_all},
    clock::{Micros, now},
    connects,
    gateway::Gateway,
    upstream::{Event, Record, Upstream},
};

const RATE: u32 = 400;
pub(crate) const SECONDS: u32 = 20;
/// How long the upstream takes for a response.
const DELAY: Duration = Duration::from_millis(20);
const UP: Duration = Duration::from_secs(4);
const AWAY: Duration = Duration::from_secs(8);
/// The resolution.
pub(crate) const STEP: Micros = 200_000;

/// What happened, with one of the settings.
pub(crate) struct Run {
    pub(crate) title: &'static str,
    /// The outage, in seconds.
    pub(crate) outage: Range<f64>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Default)]
pub(crate) struct Step {
    /// Requests that arrived at the upstream.
    pub(crate) arrived: usize,
    /// Connects to the upstream, whether refused or not.
    pub(crate) connects: usize,
    /// Requests that wait in the gateway at the end of the step.
    pub(crate) waiting: usize,
    /// Requests that have failed by then.
    pub(crate) failed: usize,
}

/// Returns how many steps a second has.
pub(crate) fn per_second() -> usize {
    (crate::clock::SECOND / STEP) as usize
}

/// Measures an outage with a gateway that has these flags.
pub(crate) async fn measure(title: &'static str, gateway: &str, folder: PathBuf, flags: &[&str]) -> Run {
    fs::create_dir(&folder).unwrap();
    let mut upstream = Upstream::start(&folder, DELAY).await;
    let gateway = Gateway::start(gateway, upstream.port, flags, &folder).await;
    let begin = now();
    let callers = tokio::spawn(send_all(gateway.address, RATE * SECONDS, RATE));
    sleep(UP).await;
    upstream.restart("KILL", AWAY).await;
    let outcomes = callers.await.unwrap();
    drop(gateway);

    let seconds = |at: Micros| (at - begin) as f64 / 1e6;
    let outage = seconds(upstream.outages[0].start)..seconds(upstream.outages[0].end);
    let step = |at: Micros| (at.saturating_sub(begin) / STEP) as usize;
    let mut steps = vec![Step::default(); SECONDS as usize * per_second()];
    let mut count = |at: Micros, count: fn(&mut Step) -> &mut usize| {
        if let Some(step) = steps.get_mut(step(at)) {
            *count(step) += 1;
        }
    };
    let records = upstream.records();
    records
        .iter()
        .filter(|record| record.event == Event::Arrived)
        .for_each(|record| count(record.at, |step| &mut step.arrived));
    connects::begun(&folder).into_iter().for_each(|at| count(at, |step| &mut step.connects));
    for (number, step) in (1..).zip(&mut steps) {
        let end = begin + number * STEP;
        step.failed = outcomes.iter().filter(|outcome| outcome.failure.is_some() && outcome.ended < end).count();
        step.waiting = waiting(&outcomes, &records, end);
    }
    Run { title, outage, steps }
}

/// Returns how many requests are in flight at the gateway and not at the upstream.
fn waiting(outcomes: &[Outcome], records: &[Record], at: Micros) -> usize {
    let in_flight = outcomes.iter().filter(|outcome| (outcome.sent..outcome.ended).contains(&at)).count();
    let mut at_upstream = 0;
    for record in records.iter().take_while(|record| record.at <= at) {
        match record.event {
            Event::Listening => at_upstream = 0,
            Event::Arrived => at_upstream += 1,
            Event::Responded => at_upstream -= 1,
        }
    }
    in_flight.saturating_sub(at_upstream)
}

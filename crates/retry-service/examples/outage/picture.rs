//! One outage twice: at the default settings, and with requests that do not wait for its end.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;

use crate::{
    callers::{Outcome, send_all},
    clock::{Micros, now},
    connects,
    gateway::Gateway,
    plot,
    upstream::{Event, Record, Upstream},
};

const RATE: u32 = 400;
pub(crate) const SECONDS: u32 = 20;
/// How long the upstream takes for a response.
const DELAY: Duration = Duration::from_millis(20);
const UP: Duration = Duration::from_secs(4);
const AWAY: Duration = Duration::from_secs(8);
/// The resolution of the picture.
pub(crate) const STEP: Micros = 200_000;

/// What happened with one of the settings.
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

/// Draws both runs into an SVG file.
pub(crate) async fn run(gateway: &str, folder: &Path, file: &Path) {
    let parked = measure("Default settings", gateway, folder.join("wait"), &[]).await;
    let not_parked = measure("--outage-wait off", gateway, folder.join("off"), &["--outage-wait", "off"]).await;
    for run in [&parked, &not_parked] {
        let most = |count: fn(&Step) -> usize| run.steps.iter().map(count).max().unwrap();
        println!(
            "{}: at most {} connects and {} requests per second at the upstream, {} waiting requests; {} failed",
            run.title,
            most(|step| step.connects * per_second()),
            most(|step| step.arrived * per_second()),
            most(|step| step.waiting),
            most(|step| step.failed)
        );
    }
    fs::write(file, plot::svg(&[parked, not_parked]).unwrap()).unwrap();
}

/// Returns how many steps a second has.
pub(crate) fn per_second() -> usize {
    (crate::clock::SECOND / STEP) as usize
}

async fn measure(title: &'static str, gateway: &str, folder: PathBuf, flags: &[&str]) -> Run {
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

//! An upstream that is killed or stopped every few seconds, while clients send requests at a steady rate.

use std::{collections::BTreeMap, path::Path, time::Duration};

use tokio::time::sleep;

use crate::{
    callers::{KINDS, Outcome, send_all},
    clock::{Micros, SECOND},
    connects,
    gateway::Gateway,
    upstream::{Event, Upstream},
};

/// How long the upstream takes for a response.
const DELAY: Duration = Duration::from_millis(20);
/// For how long it is up, and away, in milliseconds.
const UP: std::ops::Range<u64> = 1000..4000;
const AWAY: std::ops::Range<u64> = 100..3000;
/// How many requests may be in flight when the upstream comes back, in addition to one for each response so far.
const SLOW_START: usize = 10;

/// The time in which all requests know that the upstream is away.
const NOTICED: Micros = 20_000;

/// Prints what clients and the upstream noticed. Returns whether it is what the guide promises.
pub(crate) async fn run(gateway: &str, folder: &Path, requests: u32, rate: u32) -> bool {
    let mut upstream = Upstream::start(folder, DELAY).await;
    let gateway = Gateway::start(gateway, upstream.port, &[], folder).await;
    let callers = tokio::spawn(send_all(gateway.address, requests, rate));
    while !callers.is_finished() {
        sleep(Duration::from_millis(fastrand::u64(UP))).await;
        let signal = if upstream.outages.len().is_multiple_of(2) { "KILL" } else { "TERM" };
        upstream.restart(signal, Duration::from_millis(fastrand::u64(AWAY))).await;
    }
    let outcomes = callers.await.unwrap();
    drop(gateway);

    let away: Micros = upstream.outages.iter().map(|outage| outage.end - outage.start).sum();
    let (restarts, seconds) = (upstream.outages.len(), away as f64 / SECOND as f64);
    println!("{requests} requests at {rate}/s, {restarts} restarts, away for {seconds:.1} s in total");
    let failed = print_outcomes(&outcomes);
    let doubled = print_repeated(&upstream, requests as usize);
    print_connects(&upstream, folder);
    let exceeded = print_first_second(&upstream);
    failed + doubled + exceeded == 0
}

/// Returns how many requests failed that should not.
fn print_outcomes(outcomes: &[Outcome]) -> usize {
    println!("\n{:<16} {:>9} {:>9} {:>9}", "", "succeeded", "failed", "cut off");
    let mut failures = BTreeMap::new();
    let mut all_failed = 0;
    for (kind, name) in KINDS.iter().enumerate() {
        let (mut succeeded, mut failed, mut uncertain) = (0, 0, 0);
        for outcome in outcomes.iter().filter(|outcome| outcome.kind() == kind) {
            match &outcome.failure {
                None => succeeded += 1,
                Some(_) if outcome.is_uncertain() => uncertain += 1,
                Some(failure) => {
                    failed += 1;
                    *failures.entry(failure).or_insert(0) += 1;
                }
            }
        }
        println!("{name:<16} {succeeded:>9} {failed:>9} {uncertain:>9}");
        all_failed += failed;
    }
    for (failure, count) in failures {
        println!("  {count} × {failure}");
    }
    let mut took: Vec<_> = outcomes.iter().map(|outcome| (outcome.ended - outcome.sent) / 1000).collect();
    took.sort_unstable();
    let [half, most, longest] = [0.5, 0.99, 1.0].map(|part| took[((took.len() - 1) as f64 * part) as usize]);
    println!("\nresponse times: p50 {half} ms, p99 {most} ms, longest {longest} ms");
    all_failed
}

/// Returns how many requests were processed more than once although they may not be repeated.
fn print_repeated(upstream: &Upstream, requests: usize) -> usize {
    let mut arrivals = vec![0_u32; requests];
    for record in upstream.records().iter().filter(|record| record.event == Event::Arrived) {
        arrivals[record.request] += 1;
    }
    let repeated = |kind| arrivals.iter().skip(kind).step_by(KINDS.len()).filter(|arrivals| **arrivals > 1).count();
    let [gets, puts, keys, posts] = [0, 1, 2, 3].map(repeated);
    println!(
        "arrived more than once: {} of those that may be repeated, {posts} POSTs without a key",
        gets + puts + keys
    );
    posts
}

/// Prints how often the gateway tried to connect to the upstream while it was away.
fn print_connects(upstream: &Upstream, folder: &Path) {
    let refused = connects::refused(folder);
    let (mut at_once, mut closest) = (0, Micros::MAX);
    for outage in &upstream.outages {
        let refused: Vec<_> = refused.iter().copied().filter(|refused| outage.contains(refused)).collect();
        // Requests that were connecting when the upstream went away.
        let first = refused.first().map_or(0, |first| first + NOTICED);
        at_once += refused.iter().skip(1).filter(|refused| **refused < first).count();
        let probes: Vec<_> = refused.iter().filter(|refused| **refused >= first).collect();
        for pair in probes.windows(2) {
            closest = closest.min(pair[1] - pair[0]);
        }
    }
    println!(
        "refused connects: {} in {} outages, {at_once} of them within {} ms after the first; after that, {} ms apart or more",
        refused.len(),
        upstream.outages.len(),
        NOTICED / 1000,
        closest / 1000
    );
}

/// Prints the load on the upstream in its first second back. Returns how far the limit of the slow start was exceeded.
fn print_first_second(upstream: &Upstream) -> usize {
    let (mut begin, mut in_flight, mut responses) = (0, 0_usize, 0);
    let (mut most, mut most_at_first, mut exceeded) = (0, 0, 0);
    let mut restarts = 0;
    for record in upstream.records() {
        match record.event {
            Event::Listening => {
                (begin, in_flight, responses) = (record.at, 0, 0);
                restarts += 1;
            }
            // The first one is the start of the measurement.
            _ if restarts < 2 || record.at > begin + SECOND => {}
            Event::Arrived => {
                in_flight += 1;
                most = most.max(in_flight);
                if responses == 0 {
                    most_at_first = most_at_first.max(in_flight);
                }
                exceeded = exceeded.max(in_flight.saturating_sub(SLOW_START + responses));
            }
            Event::Responded => {
                in_flight -= 1;
                responses += 1;
            }
        }
    }
    println!(
        "in flight at the upstream in its first second: at most {most}, and {most_at_first} before its first response; \
         {exceeded} more than the slow start allows"
    );
    exceeded
}

//! Simulates a million calls to a server that is down for a minute, with several retry policies, and restarts of a server.
//!
//! It shows that retries can keep a server down, and how each part of a policy affects this. It also shows that
//! [`Session`](retry_core::Session) and [`RetryBudget`](retry_core::RetryBudget) take the time as an argument, so that
//! minutes of a million calls are simulated in seconds.
//!
//! The first simulation: `model.rs` has the calls, `server.rs` the server, `gateway.rs` gateways that park calls, `policies.rs`
//! the policies, `summary.rs` the results, `plot.rs` the picture. The second: `restart.rs`. Both: `event_queue.rs` has the order
//! of events, `claims.rs` the statements in the guide, `report.rs` the tables.
//!
//! ```text
//! cargo run --release -p retry-core --example simulation                        # prints the tables
//! cargo run --release -p retry-core --example simulation -- --out docs/pictures # and writes the files
//! ```
#![allow(clippy::print_stdout, reason = "the tables are its output")]

mod claims;
mod event_queue;
mod gateway;
mod model;
mod plot;
mod policies;
mod report;
mod restart;
mod server;
mod summary;

use std::{env, error::Error, fs, path::Path, thread};

use policies::Contender;
use retry_core::BudgetError;
use summary::Summary;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let out = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--out", dir] => Some(Path::new(dir)),
        _ => return Err("usage: simulation [--out DIR]".into()),
    };

    let contenders = policies::all()?;
    let results = thread::scope(|scope| {
        let threads: Vec<_> = contenders.iter().map(|contender| scope.spawn(|| compare(contender))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a run panicked")).collect::<Result<Vec<_>, _>>()
    })?;
    let summaries = results.into_iter().collect::<Result<Vec<_>, _>>()?;

    let [gone, stays] = [restart::simulate(false)?, restart::simulate(true)?];

    claims::check(&summaries)?;
    claims::check_restarts(&gone, &stays)?;
    print_section("simulation", &report::markdown(&summaries));
    print_section("simulation of restarts", &report::restart_markdown(&gone, &stays));
    if let Some(dir) = out {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("outage.csv"), report::seconds_csv(&summaries))?;
        fs::write(dir.join("outage-summary.csv"), report::summary_csv(&summaries))?;
        fs::write(dir.join("outage.svg"), plot::svg(&summaries)?)?;
    }
    Ok(())
}

/// Simulates a policy with the usual cost of rejecting an attempt, and with a lower and a higher one.
fn compare(contender: &Contender) -> Result<Summary<'_>, BudgetError> {
    let [low, usual, high] = server::REJECTION_PERCENT.map(|percent| model::simulate(contender, percent));
    Ok(Summary::new(contender, usual?, [low?.lost(), high?.lost()]))
}

/// Prints a part of the guide between the comments that mark it there.
fn print_section(name: &str, text: &str) {
    print!("<!-- {name} -->\n{text}<!-- end of {name} -->\n");
}

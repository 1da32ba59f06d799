//! A million calls against a server that goes down for a minute, under one retry policy after another.
//!
//! What a reader learns: that retries can keep a server down, what each part of a policy does about
//! it, and that [`Session`](retry_core::Session) and [`RetryBudget`](retry_core::RetryBudget) take the
//! time as an argument, so that minutes of a million callers pass in a second or less.
//!
//! `model.rs` is the world, `policies.rs` the policies, `agenda.rs` the order of events, `summary.rs`
//! what a run comes to, `claims.rs` what the guide concludes from it, `report.rs` and `plot.rs` how it is
//! told.
//!
//! ```text
//! cargo run --release -p retry-core --example simulation                        # prints the table
//! cargo run --release -p retry-core --example simulation -- --out docs/pictures # and writes the files
//! ```
#![allow(clippy::print_stdout, reason = "the table is what it is run for")]

mod agenda;
mod claims;
mod model;
mod plot;
mod policies;
mod report;
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

    claims::check(&summaries)?;
    print!("{}", report::markdown(&summaries));
    if let Some(dir) = out {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("outage.csv"), report::seconds_csv(&summaries))?;
        fs::write(dir.join("outage-summary.csv"), report::summary_csv(&summaries))?;
        fs::write(dir.join("outage.svg"), plot::svg(&summaries)?)?;
    }
    Ok(())
}

/// One policy in the world of the plot, and in two where refusing is cheaper and dearer.
fn compare(contender: &Contender) -> Result<Summary<'_>, BudgetError> {
    let [cheap, usual, dear] = model::TURN_AWAY_PERCENT.map(|percent| model::play(contender, percent));
    Ok(Summary::new(contender, usual?, [cheap?.lost(), dear?.lost()]))
}

//! What clients and the upstream notice of an outage of the upstream. `scripts/restarts.sh` and `scripts/outage-picture.sh`
//! run it. Needs Linux, and strace to count connects.
//!
//! ```text
//! outage restarts <gateway> <folder> <requests> <requests per second>
//! outage queue <gateway> <folder> <requests>
//! outage picture <gateway> <folder> <SVG file>
//! outage upstream <address> <delay in ms> <log>
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement stops at the first error"
)]

use std::{env, path::Path, process::ExitCode, time::Duration};

use tokio::runtime::Runtime;

mod callers;
mod clock;
mod connects;
mod gateway;
mod picture;
mod queue;
mod restarts;
mod timeline;
mod upstream;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = Runtime::new().unwrap();
    let is_as_promised = match arguments[..] {
        ["restarts", gateway, folder, requests, rate] => {
            let [requests, rate] = [requests, rate].map(|number| number.parse().unwrap());
            runtime.block_on(restarts::run(gateway, Path::new(folder), requests, rate))
        }
        ["queue", gateway, folder, requests] => {
            runtime.block_on(queue::run(gateway, Path::new(folder), requests.parse().unwrap()))
        }
        ["picture", gateway, folder, file] => {
            runtime.block_on(picture::run(gateway, Path::new(folder), Path::new(file)));
            true
        }
        ["upstream", address, delay, log] => {
            let delay = Duration::from_millis(delay.parse().unwrap());
            runtime.block_on(upstream::serve(address, delay, Path::new(log)));
            true
        }
        _ => panic!("usage: outage restarts|queue|picture|upstream …"),
    };
    if is_as_promised { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

//! The programs that `scripts/bench.sh` runs beside the gateway: a backend, a proxy without retries, and a client.
//!
//! ```text
//! bench backend <address> ok|flaky|busy|hang
//! bench bare-proxy <address> <upstream>
//! bench hold <address> <requests>
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "a bench stops at the first error")]

use std::env;

use tokio::runtime;

mod backend;
mod bare_proxy;
mod hold;
mod serve;

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        match arguments[..] {
            ["backend", address, behaviour] => backend::run(address, behaviour).await,
            ["bare-proxy", address, upstream] => bare_proxy::run(address, upstream).await,
            ["hold", address, requests] => hold::run(address, requests.parse().unwrap()).await,
            _ => panic!("usage: bench backend|bare-proxy|hold …"),
        }
    });
}

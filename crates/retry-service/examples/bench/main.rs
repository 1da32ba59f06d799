//! The programs that `scripts/bench.sh` and `scripts/compare-endpoints.sh` run beside the gateway: a backend, a proxy on hyper, and clients.
//!
//! ```text
//! bench backend <address> echo|ok|retry|busy|hang
//! bench bare-proxy <address> <upstream> [threads=N] [http2-clients] [http2-upstream] [retry] [ca=FILE]
//! bench hold <address> <requests>
//! bench fixed-rate <address> <requests per second> <seconds> <connections>
//! bench steady <address> <kinds of requests> <requests per second> <seconds>
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first error"
)]

use std::env;

use tokio::runtime::Builder;

mod backend;
mod bare_proxy;
mod fixed_rate;
mod head;
mod hold;
mod options;
mod serve;
mod steady;

use options::Options;

// The bare proxy has the allocator of the gateway.
#[cfg(all(feature = "jemalloc", not(target_env = "msvc")))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    match arguments[..] {
        ["backend", address, behavior] => run(1, backend::run(address, behavior)),
        ["bare-proxy", address, upstream, ref options @ ..] => {
            let options = Options::parse(options);
            run(options.threads, bare_proxy::run(address, upstream, options));
        }
        ["hold", address, requests] => run(1, hold::run(address, requests.parse().unwrap())),
        ["fixed-rate", address, rate, seconds, connections] => {
            let numbers = [rate, seconds, connections].map(|number| number.parse().unwrap());
            run(1, fixed_rate::run(address, numbers));
        }
        ["steady", address, kinds, rate, seconds] => {
            let numbers = [rate, seconds].map(|number| number.parse().unwrap());
            run(1, steady::run(address, kinds, numbers));
        }
        _ => panic!("usage: bench backend|bare-proxy|hold|fixed-rate|steady …"),
    }
}

/// Runs a program on so many threads.
fn run(threads: usize, program: impl Future<Output = ()>) {
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.worker_threads(threads).enable_all().build().unwrap().block_on(program);
}

//! Memory per call in backoff, its task included, compared with backon and a loop written by hand.
//!
//! `cargo bench -p retry-core --bench parked`
//!
//! Each contender runs in a child process of its own; the result is the resident memory of that process (Linux only).
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, and panics on errors"
)]

use std::{env, fs, process::Command, time::Duration};

use backon::Retryable;
use retry_core::{Jitter, Retry, RetryPolicy, retry};
use tokio::{runtime::Builder, time::sleep};

const CALLS: usize = 1_000_000;

/// The policy of all contenders: 3 retries, after 1 h that doubles up to 8 h. No call reaches its second attempt.
const RETRIES: u32 = 3;
const FIRST: Duration = Duration::from_secs(3600);
const FACTOR: f64 = 2.0;
const CAP: Duration = Duration::from_secs(8 * 3600);

type Park = fn();

const CONTENDERS: [(&str, Park); 5] = [
    ("written by hand", || park(by_hand)),
    ("retry-core, retry()", || park(|| retry(policy(), operation))),
    ("retry-core, Retry", || {
        let retry = Retry::new(policy());
        park(move || retry.run(|_| operation()));
    }),
    ("retry-core, Retry, journal_limit(16)", || {
        let retry = Retry::new(policy()).journal_limit(16);
        park(move || retry.run(|_| operation()));
    }),
    ("backon", || park(|| operation.retry(backoff()))),
];

fn main() {
    if let Some(name) = env::args().skip_while(|arg| arg != "--park").nth(1) {
        let (_, park) = CONTENDERS.iter().find(|(contender, _)| *contender == name).unwrap();
        return park();
    }
    println!("{CALLS} calls in backoff\n{:38} {:>14} {:>18}", "", "bytes per call", "× written by hand");
    let mut by_hand = None;
    for (name, _) in CONTENDERS {
        let output = Command::new(env::current_exe().unwrap()).args(["--park", name]).output().unwrap();
        let bytes: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let base = *by_hand.get_or_insert(bytes);
        println!("{name:38} {bytes:>14.0} {:>18.2}", bytes / base);
    }
}

fn policy() -> RetryPolicy {
    let policy = RetryPolicy::builder().count(RETRIES).interval(FIRST).backoff_factor(FACTOR).max_wait_interval(CAP);
    policy.jitter(Jitter::None).build().unwrap()
}

fn backoff() -> backon::ExponentialBuilder {
    backon::ExponentialBuilder::new()
        .with_max_times(RETRIES as usize)
        .with_min_delay(FIRST)
        .with_factor(FACTOR as f32)
        .with_max_delay(CAP)
}

async fn operation() -> Result<u64, u64> {
    Err(7)
}

async fn by_hand() -> Result<u64, u64> {
    let mut retries = RETRIES;
    let mut wait = FIRST;
    loop {
        match operation().await {
            Err(_) if retries > 0 => {
                retries -= 1;
                sleep(wait).await;
                wait = wait.mul_f64(FACTOR).min(CAP);
            }
            outcome => return outcome,
        }
    }
}

/// Spawns the calls, lets each start its wait, and prints the resident memory per call.
fn park<Call>(call: impl Fn() -> Call)
where
    Call: Future<Output: Send> + Send + 'static,
{
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let before = resident();
        for _ in 0..CALLS {
            drop(tokio::spawn(call()));
        }
        // Tasks run in the order in which they were spawned, so all of them run before this one.
        tokio::task::yield_now().await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), CALLS);
        println!("{}", (resident() - before) as f64 / CALLS as f64);
    });
    std::process::exit(0); // dropping the tasks would take longer
}

/// Returns the resident memory of this process.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

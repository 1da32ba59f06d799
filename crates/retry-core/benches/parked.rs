//! Memory per call that waits for its next attempt, the task included, beside backon and a loop
//! written by hand.
//!
//! `cargo bench -p retry-core --bench parked`
//!
//! Each contender parks its calls in a process of its own, a child of this one, so that nothing is
//! left over from another; what counts is what the operating system holds resident for it.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, and stops at the first surprise"
)]

use std::{env, fs, process::Command, time::Duration};

use backon::Retryable;
use retry_core::{Retry, RetryPolicy, TokioRuntime, retry};
use tokio::{runtime::Builder, time::sleep};

const CALLS: usize = 1_000_000;

/// What all of them do: 3 retries, 1 h doubled each time up to 8 h. Nobody gets to the second attempt.
const RETRIES: u32 = 3;
const FIRST: Duration = Duration::from_secs(3600);
const FACTOR: f64 = 2.0;
const CAP: Duration = Duration::from_secs(8 * 3600);

type Park = fn();

const CONTENDERS: [(&str, Park); 5] = [
    ("a loop by hand", || park(by_hand)),
    ("retry-core, retry()", || park(|| retry(policy(), operation))),
    ("retry-core, Retry", || {
        let retry = shared(Retry::new(policy()));
        park(move || retry.run(|_| operation()));
    }),
    ("retry-core, Retry, journal_limit(1)", || {
        let retry = shared(Retry::new(policy()).journal_limit(1));
        park(move || retry.run(|_| operation()));
    }),
    ("backon", || park(|| operation.retry(backoff()))),
];

fn main() {
    if let Some(name) = env::args().skip_while(|arg| arg != "--park").nth(1) {
        let (_, park) = CONTENDERS.iter().find(|(contender, _)| *contender == name).unwrap();
        return park();
    }
    println!("{CALLS} calls in backoff\n{:38} {:>14} {:>18}", "", "bytes per call", "× a loop by hand");
    let mut by_hand = None;
    for (name, _) in CONTENDERS {
        let output = Command::new(env::current_exe().unwrap()).args(["--park", name]).output().unwrap();
        let bytes: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        let base = *by_hand.get_or_insert(bytes);
        println!("{name:38} {bytes:>14.0} {:>18.2}", bytes / base);
    }
}

fn policy() -> RetryPolicy {
    RetryPolicy::builder().count(RETRIES).interval(FIRST).backoff_factor(FACTOR).max_wait_interval(CAP).build().unwrap()
}

fn backoff() -> backon::ExponentialBuilder {
    backon::ExponentialBuilder::new()
        .with_max_times(RETRIES as usize)
        .with_min_delay(FIRST)
        .with_factor(FACTOR as f32)
        .with_max_delay(CAP)
}

/// Lives as long as the process, as what is set up once in `main` does.
fn shared(retry: Retry<TokioRuntime>) -> &'static Retry<TokioRuntime> {
    Box::leak(Box::new(retry))
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

/// Spawns the calls, lets each come to its wait, and prints what they hold resident.
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
        // The tasks are run in the order in which they were spawned: all of them before this one.
        tokio::task::yield_now().await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), CALLS);
        println!("{}", (resident() - before) as f64 / CALLS as f64);
    });
    std::process::exit(0); // taking it all down takes longer
}

/// Resident memory of this process, from the operating system (Linux).
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

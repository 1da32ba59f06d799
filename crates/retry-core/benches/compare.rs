//! Time per call, compared with other crates and a loop written by hand.
//!
//! `cargo bench -p retry-core --bench compare`
//!
//! The contenders run in turn, in many short rounds, so noise affects all of them alike. Compare the ratios to the fastest
//! peer of the same round: the nanoseconds depend on the machine and its load. The rounds are spread over several
//! processes, because the addresses of a process can change a result by a tenth.
//!
//! The other crates do not record attempts: `journal_limit(16)` shows what a journal costs. Each call, like
//! backon's, has a copy of its settings.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench reads the clock, prints, and panics on errors"
)]

use std::{
    cell::Cell,
    env,
    hint::black_box,
    pin::{Pin, pin},
    process::Command,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, Retryable};
use pin_project_lite::pin_project;
use retry_core::{Jitter, Retry, RetryPolicy, retry};
use tokio::time::{Sleep, sleep};
use tower::{ServiceExt, retry::Policy, service_fn};

const PROCESSES: usize = 20;

fn main() {
    let tables = tables();
    if env::args().any(|arg| arg == "--samples") {
        return tables.into_iter().for_each(Table::print_samples);
    }
    let mut samples: Vec<_> = tables.iter().map(|table| vec![Vec::new(); table.contenders.len()]).collect();
    for _ in 0..PROCESSES {
        let output = Command::new(env::current_exe().unwrap()).arg("--samples").output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        for (line, samples) in lines.lines().zip(samples.iter_mut().flatten()) {
            samples.extend(line.split_whitespace().map(|nanos| nanos.parse::<f64>().unwrap()));
        }
    }
    for (table, samples) in tables.iter().zip(&samples) {
        table.print(samples);
    }
}

fn tables() -> Vec<Table> {
    let [below_the_cap, at_the_cap] = [1.01, 2.0].map(|factor| {
        vec![
            Contender::ours("retry-core", waits(factor)),
            Contender::peer("backon", backon_waits(factor)),
            Contender::peer("tokio-retry2", tokio_retry2_waits(factor)),
            Contender::by_hand(waits_by_hand(factor)),
        ]
    });
    vec![
        Table {
            title: "success at the first attempt",
            results_per_run: 1,
            contenders: vec![
                Contender::ours("`retry()`", free_function(0)),
                Contender::ours("`Retry`", reused(0, |retry| retry)),
                Contender::peer("backon", backon(0)),
                Contender::peer("tower", tower(0)),
                Contender::peer("tokio-retry2", tokio_retry2()),
                Contender::by_hand(by_hand(0)),
            ],
        },
        // Without tokio-retry2, which creates a timer even for zero.
        Table {
            title: "three retries without waits",
            results_per_run: 1,
            contenders: vec![
                Contender::ours("`retry()`", free_function(3)),
                Contender::ours("`Retry`", reused(3, |retry| retry)),
                Contender::ours("`Retry`, `journal_limit(16)`", reused(3, |retry| retry.journal_limit(16))),
                Contender::peer("backon", backon(3)),
                Contender::peer("tower", tower(3)),
                Contender::by_hand(by_hand(3)),
            ],
        },
        Table {
            title: "one of 1,000 waits, factor 1.01: most are below the cap",
            results_per_run: WAITS,
            contenders: below_the_cap,
        },
        Table {
            title: "one of 1,000 waits, factor 2: most are at the cap",
            results_per_run: WAITS,
            contenders: at_the_cap,
        },
    ]
}

#[derive(Clone, Copy, Debug)]
struct Busy(#[expect(dead_code, reason = "errors are not empty")] u32);

/// The operation of all contenders: fails `failures` times, then succeeds. The compiler cannot predict the outcome. It is
/// produced when polled, as in an `async fn`.
fn operation(mut failures: u32) -> impl FnMut() -> Attempt {
    move || {
        let left = failures;
        failures = left.saturating_sub(1);
        Attempt(left)
    }
}

struct Attempt(u32);

impl Future for Attempt {
    type Output = Result<u64, Busy>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        let left = black_box(self.0);
        Poll::Ready(if left == 0 { Ok(7) } else { Err(Busy(left)) })
    }
}

/// Polls a call, which completes at the first poll as it never waits.
fn finish<T>(call: impl Future<Output = Result<T, impl std::fmt::Debug>>) {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => drop(black_box(result.unwrap())),
        Poll::Pending => unreachable!("a call waits for a timer"),
    }
}

const RETRIES: u32 = 3;

/// The wait for contenders whose timer can be replaced: creates no timer for zero, but could sleep.
fn pause(wait: Duration) -> Pause {
    Pause { sleep: (!wait.is_zero()).then(|| sleep(wait)) }
}

pin_project! {
    struct Pause {
        #[pin]
        sleep: Option<Sleep>,
    }
}

impl Future for Pause {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.project().sleep.as_pin_mut().map_or(Poll::Ready(()), |sleep| sleep.poll(cx))
    }
}

fn policy() -> RetryPolicy {
    let policy = RetryPolicy::builder().count(RETRIES).interval(Duration::ZERO);
    policy.backoff_factor(1.0).jitter(Jitter::None).build().unwrap()
}

fn free_function(failures: u32) -> impl FnMut() {
    let policy = policy();
    move || finish(retry(*black_box(&policy), operation(failures)))
}

fn reused(failures: u32, set: impl Fn(Retry) -> Retry) -> impl FnMut() {
    let retry = set(Retry::new(policy()));
    move || {
        let mut operation = operation(failures);
        finish(black_box(&retry).run(|_| operation()));
    }
}

fn backon(failures: u32) -> impl FnMut() {
    let backoff = backon::ConstantBuilder::new().with_delay(Duration::ZERO).with_max_times(RETRIES as usize);
    // The default sleep creates a timer even for zero.
    move || finish(operation(failures).retry(*black_box(&backoff)).sleep(pause))
}

fn tower(failures: u32) -> impl FnMut() {
    #[derive(Clone, Copy)]
    struct UpTo(u32, Duration);

    impl Policy<(), u64, Busy> for UpTo {
        type Future = Pause;

        fn retry(&mut self, (): &mut (), result: &mut Result<u64, Busy>) -> Option<Self::Future> {
            if result.is_ok() {
                return None;
            }
            self.0 = self.0.checked_sub(1)?;
            Some(pause(self.1))
        }

        fn clone_request(&mut self, (): &()) -> Option<()> {
            Some(())
        }
    }

    let policy = UpTo(RETRIES, Duration::ZERO);
    move || {
        // Tower clones the service, so the operation is in a cell.
        let operation = Cell::new(Some(operation(failures)));
        let service = service_fn(|()| {
            let mut run = operation.take().unwrap();
            let outcome = run();
            operation.set(Some(run));
            outcome
        });
        finish(tower::retry::Retry::new(*black_box(&policy), service).oneshot(()));
    }
}

fn tokio_retry2() -> impl FnMut() {
    let waits = tokio_retry2::strategy::FixedInterval::from_millis(0);
    move || {
        let mut operation = operation(0);
        let operation = || {
            let attempt = operation();
            async { attempt.await.map_err(tokio_retry2::RetryError::transient) }
        };
        finish(tokio_retry2::Retry::spawn(black_box(&waits).clone().take(RETRIES as usize), operation));
    }
}

fn by_hand(failures: u32) -> impl FnMut() {
    async fn call(mut retries: u32, wait: Duration, mut operation: impl FnMut() -> Attempt) -> Result<u64, Busy> {
        loop {
            match operation().await {
                Err(_) if retries > 0 => {
                    retries -= 1;
                    pause(wait).await;
                }
                outcome => return outcome,
            }
        }
    }
    move || finish(call(black_box(RETRIES), Duration::from_nanos(black_box(0)), operation(failures)))
}

const WAITS: u32 = 1000;
const FIRST: Duration = Duration::from_millis(1);
const CAP: Duration = Duration::from_secs(60);

fn waits(factor: f64) -> impl FnMut() {
    let policy = RetryPolicy::builder().count(WAITS).interval(FIRST).backoff_factor(factor).max_wait_interval(CAP);
    let policy = policy.build().unwrap();
    move || drain(black_box(&policy).waits())
}

fn backon_waits(factor: f64) -> impl FnMut() {
    let backoff = backon::ExponentialBuilder::new()
        .with_min_delay(FIRST)
        .with_factor(factor as f32)
        .with_max_delay(CAP)
        .with_max_times(WAITS as usize);
    move || drain((*black_box(&backoff)).build())
}

fn tokio_retry2_waits(factor: f64) -> impl FnMut() {
    let backoff = tokio_retry2::strategy::ExponentialFactorBackoff::from_millis(1, factor).max_delay(CAP);
    move || drain(black_box(&backoff).clone().take(WAITS as usize))
}

fn waits_by_hand(factor: f64) -> impl FnMut() {
    move || {
        let (mut wait, factor, cap) = black_box((FIRST, factor, CAP));
        for _ in 0..WAITS {
            black_box(wait);
            wait = wait.mul_f64(factor).min(cap);
        }
    }
}

fn drain(waits: impl Iterator<Item = Duration>) {
    for wait in waits {
        black_box(wait);
    }
}

struct Contender {
    name: &'static str,
    role: Role,
    /// Runs a number of times, and returns how long that took.
    time: Box<dyn FnMut(u32) -> Duration>,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Ours,
    Peer,
    ByHand,
}

impl Contender {
    fn ours(name: &'static str, run: impl FnMut() + 'static) -> Self {
        Self::new(name, Role::Ours, run)
    }

    fn peer(name: &'static str, run: impl FnMut() + 'static) -> Self {
        Self::new(name, Role::Peer, run)
    }

    fn by_hand(run: impl FnMut() + 'static) -> Self {
        Self::new("written by hand", Role::ByHand, run)
    }

    /// The loop is inside the closure, so that the dynamic call is not part of each run.
    fn new(name: &'static str, role: Role, mut run: impl FnMut() + 'static) -> Self {
        let time = move |runs| {
            let begin = Instant::now();
            for _ in 0..runs {
                run();
            }
            begin.elapsed()
        };
        Self { name, role, time: Box::new(time) }
    }

    fn runs_per_batch(&mut self) -> u32 {
        let mut runs = 1;
        while (self.time)(runs) < BATCH {
            runs *= 2;
        }
        runs
    }
}

struct Table {
    title: &'static str,
    results_per_run: u32,
    contenders: Vec<Contender>,
}

const ROUNDS: usize = 101;
const BATCH: Duration = Duration::from_micros(200);

impl Table {
    /// Runs all contenders in turn, round by round. Prints a line per contender: the nanoseconds per result, by round.
    fn print_samples(mut self) {
        let runs: Vec<_> = self.contenders.iter_mut().map(Contender::runs_per_batch).collect();
        let mut lines = vec![String::new(); runs.len()];
        for _ in 0..ROUNDS {
            for ((contender, &runs), line) in self.contenders.iter_mut().zip(&runs).zip(&mut lines) {
                let results = f64::from(runs) * f64::from(self.results_per_run);
                *line += &format!("{} ", (contender.time)(runs).as_nanos() as f64 / results);
            }
        }
        for line in lines {
            println!("{line}");
        }
    }

    /// Prints the time per result, and its ratio to the fastest peer's time in the same round: the median, and in
    /// brackets the quartiles.
    fn print(&self, samples: &[Vec<f64>]) {
        let peers = self.contenders.iter().zip(samples).filter(|(contender, _)| contender.role == Role::Peer);
        let (fastest, base) = peers.min_by(|(_, one), (_, other)| median(one).total_cmp(&median(other))).unwrap();

        println!("\n| {} | ns | × {} |\n|---|---|---|", self.title, fastest.name);
        for (Contender { name, .. }, samples) in self.contenders.iter().zip(samples) {
            let ratios: Vec<_> = samples.iter().zip(base).map(|(nanos, base)| nanos / base).collect();
            let [low, middle, high] = quartiles(&ratios);
            println!("| {name} | {:.1} | {middle:.2} ({low:.2}–{high:.2}) |", median(samples));
        }
    }
}

fn median(samples: &[f64]) -> f64 {
    quartiles(samples)[1]
}

fn quartiles(samples: &[f64]) -> [f64; 3] {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| sorted[sorted.len() * quarter / 4])
}

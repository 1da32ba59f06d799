//! The client for `scripts/soak.sh`: sends numbered GETs without pause to a server that is killed and restarted. Every call
//! has to get its own response, and at the end no memory or sockets may be left over. Exit code: 0 success, 1 failure, 2 bad
//! usage.
//!
//! ```text
//! soak URL SECONDS CONCURRENCY [http2]
//! ```

mod latencies;
mod usage;

use std::{
    env,
    error::Error,
    fmt::Display,
    io::{Write as _, stderr, stdout},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use retry_client::{Client, RetryPolicy, retry_core::Jitter};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{latencies::Latencies, usage::Usage};

/// How much the memory may grow after the warm-up, since the allocator's share varies.
const SLACK_KIB: u64 = 8 * 1024;

#[tokio::main]
async fn main() -> ExitCode {
    let Some(plan) = Plan::read(env::args().skip(1).collect()) else {
        let _ = writeln!(stderr(), "usage: soak URL SECONDS CONCURRENCY [http2]");
        return ExitCode::from(2);
    };
    match soak(&plan).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Plan {
    url: String,
    time: Duration,
    concurrency: u32,
    http2: bool,
}

impl Plan {
    fn read(arguments: Vec<String>) -> Option<Self> {
        let mut arguments = arguments.into_iter();
        let url = arguments.next()?;
        let seconds = arguments.next()?.parse().ok().filter(|seconds| *seconds > 0)?;
        let concurrency = arguments.next()?.parse().ok().filter(|callers| *callers > 0)?;
        let http2 = match arguments.next().as_deref() {
            None => false,
            Some("http2") => true,
            Some(_) => return None,
        };
        Some(Self { url, time: Duration::from_secs(seconds), concurrency, http2 })
    }
}

/// The counts so far.
struct Tally {
    calls: AtomicU64,
    retries: Arc<AtomicU64>,
    lost: AtomicU64,
    wrong: AtomicU64,
    latencies: Latencies,
}

async fn soak(plan: &Plan) -> Result<bool, Box<dyn Error>> {
    let retries = Arc::new(AtomicU64::new(0));
    let tally = Arc::new(Tally {
        calls: AtomicU64::new(0),
        retries: Arc::clone(&retries),
        lost: AtomicU64::new(0),
        wrong: AtomicU64::new(0),
        latencies: Latencies::new(),
    });
    let client = client(plan, retries)?;
    let before = Usage::now()?;
    let end = Instant::now() + plan.time;
    let mut callers = JoinSet::new();
    for _ in 0..plan.concurrency {
        callers.spawn(call_until(end, client.clone(), Arc::clone(&tally)));
    }
    sleep(plan.time / 4).await;
    let warm = Usage::now()?;
    let mut most = warm;
    while !callers.is_empty() {
        most = most.max(Usage::now()?);
        if let Ok(Some(caller)) = timeout(Duration::from_millis(100), callers.join_next()).await {
            caller?;
        }
    }
    let end = Usage::now()?;
    drop(client);
    let after = settled(before).await?;
    report(plan, &tally, [("before", before), ("warmed up", warm), ("peak", most), ("end", end), ("after", after)])?;
    let grown = end.resident_kib > warm.resident_kib + SLACK_KIB;
    let leaked = after.descriptors > before.descriptors;
    verdict(&tally, grown, leaked)
}

fn client(plan: &Plan, retries: Arc<AtomicU64>) -> Result<Client, Box<dyn Error>> {
    // All waits add up to almost a minute, far longer than an outage of the script.
    let policy = RetryPolicy::builder()
        .count(120)
        .interval(Duration::from_millis(20))
        .backoff_factor(1.5)
        .max_wait_interval(Duration::from_millis(500))
        .jitter(Jitter::None)
        .build()?;
    let client = Client::builder(&plan.url)
        .policy(policy)
        .timeout(Duration::from_secs(5))
        .http2_prior_knowledge(plan.http2)
        .observer(move |event| {
            retries.fetch_add(u64::from(event.ended.is_none()), Relaxed);
        })
        .build()?;
    Ok(client)
}

async fn call_until(end: Instant, client: Client, tally: Arc<Tally>) {
    while Instant::now() < end {
        let number = tally.calls.fetch_add(1, Relaxed);
        let path = format!("/echo?number={number}");
        let begin = Instant::now();
        let response = client.get(&path).text().await;
        tally.latencies.add(begin.elapsed());
        match response {
            Ok(text) if text.starts_with(&format!("GET {path} HTTP/")) => {}
            Ok(text) => count_failure(&tally.wrong, number, &format!("{text:?}")),
            Err(error) => count_failure(&tally.lost, number, &error),
        }
    }
}

/// Counts a failure, and prints the first ten.
fn count_failure(count: &AtomicU64, number: u64, what: &dyn Display) {
    if count.fetch_add(1, Relaxed) < 10 {
        let _ = writeln!(stderr(), "call {number}: {what}");
    }
}

/// Returns the usage after the connections have closed, which may take a moment.
async fn settled(before: Usage) -> Result<Usage, Box<dyn Error>> {
    let mut now = Usage::now()?;
    for _ in 0..100 {
        if now.descriptors <= before.descriptors {
            break;
        }
        sleep(Duration::from_millis(50)).await;
        now = Usage::now()?;
    }
    Ok(now)
}

fn report(plan: &Plan, tally: &Tally, usage: [(&str, Usage); 5]) -> Result<(), Box<dyn Error>> {
    let calls = tally.calls.load(Relaxed);
    let protocol = if plan.http2 { "HTTP/2" } else { "HTTP/1.1" };
    let mut out = stdout().lock();
    writeln!(out, "{:?} over {protocol}, {} callers", plan.time, plan.concurrency)?;
    writeln!(out, "calls      {calls}")?;
    writeln!(out, "retries    {}", tally.retries.load(Relaxed))?;
    writeln!(out, "lost       {}", tally.lost.load(Relaxed))?;
    writeln!(out, "wrong      {}", tally.wrong.load(Relaxed))?;
    let (half, most) = (tally.latencies.quantile(0.5), tally.latencies.quantile(0.99));
    writeln!(out, "latency    p50 {half:?}, p99 {most:?}, max {:?}", tally.latencies.longest())?;
    for (when, usage) in usage {
        writeln!(out, "{when:<10} {usage}")?;
    }
    Ok(())
}

fn verdict(tally: &Tally, grown: bool, leaked: bool) -> Result<bool, Box<dyn Error>> {
    let checks = [
        (tally.lost.load(Relaxed) > 0, "calls without a response"),
        (tally.wrong.load(Relaxed) > 0, "calls with a wrong response"),
        (tally.retries.load(Relaxed) == 0, "no retries: the server was never down"),
        (grown, "memory grew"),
        (leaked, "descriptors leaked"),
    ];
    let failed: Vec<_> = checks.iter().filter(|(failed, _)| *failed).map(|(_, what)| *what).collect();
    let words = if failed.is_empty() { "no failures, no leaks".to_owned() } else { failed.join("; ") };
    writeln!(stdout(), "verdict    {words}")?;
    Ok(failed.is_empty())
}

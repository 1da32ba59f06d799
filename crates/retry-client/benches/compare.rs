//! Requests per second, processor time and allocations per request, compared with other clients, with the same server.
//!
//! `cargo bench -p retry-client`
//!
//! The clients run in turns, in many short rounds, and each is compared with the first one in the same round: a machine that
//! becomes slower affects both. The table has the medians, and the quartiles of the ratios. Compare the ratios; the rest
//! depends on the machine.
//!
//! The server is a separate process, and a client has a single thread: its processor time and its allocations are those of
//! the client alone, whereas requests per second depend on the server, too.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a bench reads the clock, prints, and stops at the first error"
)]

use std::{
    alloc::System,
    convert::Infallible,
    env,
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use retry_client::{Body, Client, RetryBudget, RetryPolicy};
use rustix::time::{ClockId, clock_gettime};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Short rounds, so that both clients of a ratio have the same machine.
const ROUNDS: usize = 60;
const SERVE: &str = "--serve";

fn main() {
    if env::args().nth(1).as_deref() == Some(SERVE) {
        return runtime().block_on(serve());
    }
    let server = Server::start();
    let body = Bytes::from(vec![b'x'; 16 * 1024]);
    for (title, method, body, callers, each) in [
        ("GET, one at a time", Method::GET, Bytes::new(), 1, 500),
        ("GET, 64 at a time", Method::GET, Bytes::new(), 64, 16),
        ("PUT of 16 KiB, one at a time", Method::PUT, body.clone(), 1, 300),
        ("PUT of 16 KiB, 64 at a time", Method::PUT, body, 64, 8),
    ] {
        compare(title, &server.url, &Work { method, body, callers, each });
    }
}

/// The requests that each client sends in one round.
#[derive(Clone)]
struct Work {
    method: Method,
    body: Bytes,
    callers: usize,
    /// How many requests each caller sends, one after the other.
    each: usize,
}

/// The result of one client in one round.
#[derive(Clone, Copy)]
struct Sample {
    per_second: f64,
    /// Microseconds of processor time per request.
    cpu: f64,
    allocations: f64,
}

fn compare(title: &str, url: &str, work: &Work) {
    type Subject<'a> = (&'static str, Box<dyn FnMut() -> Sample + 'a>);
    let mut subjects: [Subject<'_>; 4] = [
        ("hyper-util", Box::new(bare(url, work))),
        ("retry-client", Box::new(ours(url, work))),
        ("reqwest", Box::new(reqwest(url, work))),
        ("reqwest + reqwest-retry", Box::new(reqwest_retry(url, work))),
    ];
    let rounds: Vec<_> = (0..=ROUNDS)
        .map(|round| {
            let mut samples = [const { None }; 4];
            // Each round starts with another client, so that none always follows the same one.
            for turn in 0..subjects.len() {
                let index = (round + turn) % subjects.len();
                samples[index] = Some(subjects[index].1());
            }
            samples.map(Option::unwrap)
        })
        // The first round fills the pools.
        .skip(1)
        .collect();
    println!(
        "\n{title}\n  {:<26}{:>10}{:>7} {:<14}{:>10}{:>7} {:<14}{:>12}",
        "", "requests/s", "ratio", "(quartiles)", "CPU us", "ratio", "(quartiles)", "allocations"
    );
    for (index, (name, _)) in subjects.iter().enumerate() {
        let of = |value: fn(&Sample) -> f64| quartiles(rounds.iter().map(|samples| value(&samples[index])));
        let ratio = |value: fn(&Sample) -> f64| {
            let [low, median, high] =
                quartiles(rounds.iter().map(|samples| value(&samples[index]) / value(&samples[0])));
            format!("{median:>7.2} {:<14}", format!("({low:.2} - {high:.2})"))
        };
        let [_, per_second, _] = of(|sample| sample.per_second);
        let [_, cpu, _] = of(|sample| sample.cpu);
        let [_, allocations, _] = of(|sample| sample.allocations);
        println!(
            "  {name:<26}{per_second:>10.0}{}{cpu:>10.1}{}{allocations:>12.1}",
            ratio(|sample| sample.per_second),
            ratio(|sample| sample.cpu)
        );
    }
}

/// Returns the lower quartile, the median and the upper quartile.
fn quartiles(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

fn bare(url: &str, work: &Work) -> impl FnMut() -> Sample {
    let runtime = runtime();
    let client: legacy::Client<_, Full<Bytes>> =
        legacy::Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build_http();
    let (url, work): (hyper::Uri, _) = (url.parse().unwrap(), work.clone());
    move || {
        measure(&runtime, &work, || {
            let (client, url, work) = (client.clone(), url.clone(), work.clone());
            move || {
                let request = Request::builder().method(work.method.clone()).uri(url.clone());
                let response = client.request(request.body(Full::from(work.body.clone())).unwrap());
                async move { response.await.unwrap().into_body().collect().await.unwrap().to_bytes() }
            }
        })
    }
}

fn ours(url: &str, work: &Work) -> impl FnMut() -> Sample {
    let runtime = runtime();
    let policy = RetryPolicy::builder()
        .count(3)
        .interval(Duration::from_millis(100))
        .max_wait_interval(Duration::from_secs(2))
        .build()
        .unwrap();
    let client = Client::builder(url)
        .policy(policy)
        .status_codes([502, 503, 504])
        .budget(RetryBudget::share(0.2, 10).unwrap())
        .build()
        .unwrap();
    let work = work.clone();
    move || {
        measure(&runtime, &work, || {
            let (client, work) = (client.clone(), work.clone());
            move || {
                let (client, work) = (client.clone(), work.clone());
                async move {
                    let request = Request::builder().method(work.method).uri("/");
                    let request = request.body(Body::from(work.body)).unwrap();
                    client.execute(request).await.unwrap().into_body().bytes().await.unwrap()
                }
            }
        })
    }
}

fn reqwest(url: &str, work: &Work) -> impl FnMut() -> Sample {
    let runtime = runtime();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (url, work): (reqwest::Url, _) = (url.parse().unwrap(), work.clone());
    move || {
        measure(&runtime, &work, || {
            let (client, url, work) = (client.clone(), url.clone(), work.clone());
            move || {
                let response = client.request(work.method.clone(), url.clone()).body(work.body.clone()).send();
                async move { response.await.unwrap().bytes().await.unwrap() }
            }
        })
    }
}

fn reqwest_retry(url: &str, work: &Work) -> impl FnMut() -> Sample {
    let runtime = runtime();
    let policy = ExponentialBackoff::builder().build_with_max_retries(3);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let client =
        reqwest_middleware::ClientBuilder::new(client).with(RetryTransientMiddleware::new_with_policy(policy)).build();
    let (url, work): (reqwest::Url, _) = (url.parse().unwrap(), work.clone());
    move || {
        measure(&runtime, &work, || {
            let (client, url, work) = (client.clone(), url.clone(), work.clone());
            move || {
                let response = client.request(work.method.clone(), url.clone()).body(work.body.clone()).send();
                async move { response.await.unwrap().bytes().await.unwrap() }
            }
        })
    }
}

/// Runs the callers of a client to their end. `caller` creates a caller, which sends a request each time it is called.
fn measure<C, R>(runtime: &Runtime, work: &Work, caller: impl Fn() -> C) -> Sample
where
    C: FnMut() -> R + Send + 'static,
    R: Future<Output = Bytes> + Send,
{
    runtime.block_on(async {
        let mut callers = JoinSet::new();
        let region = Region::new(ALLOCATOR);
        let (begin, cpu_begin) = (Instant::now(), cpu_time());
        for _ in 0..work.callers {
            let (mut call, each) = (caller(), work.each);
            callers.spawn(async move {
                for _ in 0..each {
                    assert_eq!(call().await, RESPONSE);
                }
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended.unwrap();
        }
        let requests = (work.callers * work.each) as f64;
        let (elapsed, cpu) = (begin.elapsed(), cpu_time() - cpu_begin);
        let allocated = region.change();
        Sample {
            per_second: requests / elapsed.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / requests,
            allocations: (allocated.allocations + allocated.reallocations) as f64 / requests,
        }
    })
}

/// Returns the processor time of this thread.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

const RESPONSE: &str = "Hello, world";

/// The server process. It ends when this is dropped.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start() -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        let mut process = command.arg(SERVE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { process, url: url.trim().to_owned() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

/// Responds to all requests until standard input is closed.
async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let service = service_fn(|request: Request<Incoming>| async {
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(RESPONSE.as_bytes()))))
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

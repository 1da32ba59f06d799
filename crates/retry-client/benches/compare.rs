//! Requests per second and allocations per request, compared with other clients, with the same server.
//!
//! `cargo bench -p retry-client`
//!
//! The server is a separate process, so that only the allocations of the clients are counted. The clients run in turns, and
//! the median of each counts: a machine that becomes slower affects all of them. Compare the ratios; the requests per
//! second depend on the machine.
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
use retry_core::Jitter;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::{net::TcpListener, runtime::Runtime, task::JoinSet};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 9;
const SERVE: &str = "--serve";

fn main() {
    if env::args().nth(1).as_deref() == Some(SERVE) {
        return runtime().block_on(serve());
    }
    let server = Server::start();
    compare(
        "GET, one at a time",
        &server.url,
        &Work { method: Method::GET, body: Bytes::new(), callers: 1, each: 4000 },
    );
    compare(
        "GET, 64 at a time",
        &server.url,
        &Work { method: Method::GET, body: Bytes::new(), callers: 64, each: 200 },
    );
    let body = Bytes::from(vec![b'x'; 16 * 1024]);
    compare(
        "PUT of 16 KiB, one at a time",
        &server.url,
        &Work { method: Method::PUT, body: body.clone(), callers: 1, each: 2000 },
    );
    compare("PUT of 16 KiB, 64 at a time", &server.url, &Work { method: Method::PUT, body, callers: 64, each: 100 });
}

/// The requests that each client sends.
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
    let mut samples = [const { Vec::new() }; 4];
    for round in 0..=ROUNDS {
        for ((_, run), samples) in subjects.iter_mut().zip(&mut samples) {
            let sample = run();
            // The first round fills the pools.
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    println!("\n{title}\n  {:<26}{:>12}{:>9}{:>14}", "", "requests/s", "ratio", "allocations");
    let medians = samples.map(|samples| (median(&samples, |s| s.per_second), median(&samples, |s| s.allocations)));
    for ((name, _), (per_second, allocations)) in subjects.iter().zip(&medians) {
        println!("  {name:<26}{per_second:>12.0}{:>9.2}{allocations:>14.1}", per_second / medians[0].0);
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
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
        .jitter(Jitter::Full)
        .build()
        .unwrap();
    let client = Client::builder(url)
        .retry(policy)
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
        let begin = Instant::now();
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
        let allocated = region.change();
        Sample {
            per_second: requests / begin.elapsed().as_secs_f64(),
            allocations: (allocated.allocations + allocated.reallocations) as f64 / requests,
        }
    })
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

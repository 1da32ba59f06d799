//! An upstream that is killed and restarted under load: no client notices, and no POST is processed twice.
//!
//! `RESTARTS_REQUESTS` sets the number of requests; `scripts/restarts.sh` sets it to 100,000.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{
    convert::Infallible,
    env,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use support::Service;
use tokio::{
    net::{TcpListener, TcpSocket},
    process::Command,
    task::{JoinSet, yield_now},
    time::sleep,
};

const CLIENTS: usize = 32;
const UP: Duration = Duration::from_millis(300);
const DOWN: Duration = Duration::from_millis(100);

fn requests() -> usize {
    env::var("RESTARTS_REQUESTS").map_or(5000, |requests| requests.parse().unwrap())
}

/// How often the upstream processed each POST, over all restarts.
#[derive(Clone, Default)]
struct Processed(Arc<Mutex<Vec<u8>>>);

impl Processed {
    async fn respond(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        if request.method() == Method::POST {
            let number: usize = path[1..].parse().unwrap();
            let mut counts = self.0.lock().unwrap();
            let length = counts.len().max(number + 1);
            counts.resize(length, 0);
            counts[number] += 1;
        }
        // A kill can happen here.
        yield_now().await;
        Ok(Response::new(Full::from(path)))
    }
}

/// Runs the upstream until it is killed.
async fn serve(listener: TcpListener, processed: Processed) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let processed = processed.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| processed.clone().respond(request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(1024).unwrap()
}

/// The responses that clients got.
#[derive(Default)]
struct Tally {
    next: AtomicUsize,
    succeeded: AtomicUsize,
    /// POSTs that may have been processed, and are therefore not retried.
    uncertain: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

async fn call_all(gateway: SocketAddr, tally: Arc<Tally>) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    loop {
        let number = tally.next.fetch_add(1, Relaxed);
        if number >= requests() {
            return;
        }
        let post = number.is_multiple_of(5);
        let request = Request::builder().method(if post { Method::POST } else { Method::GET });
        let request = request.uri(format!("http://{gateway}/{number}")).body(Full::default()).unwrap();
        let response = client.request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        match status {
            200 if body == format!("/{number}") => tally.succeeded.fetch_add(1, Relaxed),
            502 | 504 if post => tally.uncertain.fetch_add(1, Relaxed),
            _ => {
                tally.wrong.lock().unwrap().push(format!("{number}: {status} {body:?}"));
                continue;
            }
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_upstream_loses_no_response() {
    let processed = Processed::default();
    let listener = listen("127.0.0.1:0".parse().unwrap());
    let upstream = listener.local_addr().unwrap();
    let mut running = tokio::spawn(serve(listener, processed.clone()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    // The log is not read here, and the pipe must not fill up.
    command.env("RUST_LOG", "info,retries=off,retry_client=off").args(["--forward", "--listen", "127.0.0.1:0"]);
    command.args(["--upstream", &format!("http://{upstream}"), "--budget-ratio", "off"]);
    command.args(["--interval", "20ms", "--max-wait-interval", "200ms", "--count", "50"]);
    let service = Service::spawn(command).await;

    let tally = Arc::new(Tally::default());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(call_all(service.address, Arc::clone(&tally)));
    }
    let mut restarts = 0;
    while !clients.is_empty() {
        tokio::select! {
            client = clients.join_next() => client.unwrap().unwrap(),
            () = sleep(UP) => {
                running.abort();
                let _ = running.await;
                sleep(DOWN).await;
                running = tokio::spawn(serve(listen(upstream), processed.clone()));
                restarts += 1;
            }
        }
    }

    let (succeeded, uncertain) = (tally.succeeded.load(Relaxed), tally.uncertain.load(Relaxed));
    let counts = processed.0.lock().unwrap();
    let (once, twice) =
        (counts.iter().filter(|count| **count == 1).count(), counts.iter().filter(|count| **count > 1).count());
    println!(
        "{} requests, {restarts} restarts: {succeeded} succeeded, {uncertain} POSTs aborted and not retried, \
         {once} POSTs processed once, {twice} more than once",
        requests()
    );
    assert_eq!(*tally.wrong.lock().unwrap(), Vec::<String>::new());
    assert_eq!(succeeded + uncertain, requests());
    assert!(restarts > 0 && twice == 0);
}

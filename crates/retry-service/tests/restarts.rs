//! An upstream that goes away, behind a gateway with default settings: no client notices, and no POST is processed twice.
//! `scripts/restarts.sh` does the same with processes that it kills, for minutes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the message")]

mod support;

use std::{
    convert::Infallible,
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
use support::{Service, read_metric, refusing, until_metric, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    process::Command,
    task::{JoinSet, yield_now},
    time::sleep,
};

const UP: Duration = Duration::from_millis(300);
const DOWN: Duration = Duration::from_millis(100);
const PARKED: &str = "retry_service_requests_parked";

/// The requests that an upstream has received, over all restarts.
#[derive(Clone, Default)]
struct Log {
    received: Arc<Mutex<Vec<Received>>>,
    responses: Arc<AtomicUsize>,
    in_flight: Arc<AtomicUsize>,
    /// How many requests can be in flight; others get a 503.
    limit: Option<usize>,
}

struct Received {
    number: usize,
    may_be_repeated: bool,
    /// How many requests had been responded to before.
    responses: usize,
}

impl Log {
    async fn respond(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let path = request.uri().path().to_owned();
        self.received.lock().unwrap().push(Received {
            number: path[1..].parse().unwrap(),
            may_be_repeated: request.method() != Method::POST || request.headers().contains_key("idempotency-key"),
            responses: self.responses.load(Relaxed),
        });
        // A kill can happen here.
        yield_now().await;
        if let Some(limit) = self.limit {
            let is_busy = self.in_flight.fetch_add(1, Relaxed) >= limit;
            if !is_busy {
                sleep(Duration::from_millis(20)).await;
            }
            self.in_flight.fetch_sub(1, Relaxed);
            if is_busy {
                return Ok(Response::builder().status(503).body(Full::default()).unwrap());
            }
        }
        self.responses.fetch_add(1, Relaxed);
        Ok(Response::new(Full::from(path)))
    }

    /// The requests that may not be repeated, and were received more than once.
    fn doubled(&self) -> Vec<usize> {
        let received = self.received.lock().unwrap();
        let once = received.iter().filter(|received| !received.may_be_repeated);
        let mut numbers: Vec<_> = once.map(|received| received.number).collect();
        numbers.sort_unstable();
        numbers.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect()
    }
}

/// Serves until the task is aborted, which closes all connections, and the listener unless it is also used elsewhere.
async fn serve(listener: Arc<TcpListener>, log: Log) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let log = log.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| log.clone().respond(request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn listen(address: SocketAddr) -> Arc<TcpListener> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    Arc::new(socket.listen(1024).unwrap())
}

/// Starts a gateway with the command of the README, on ports of its own.
async fn gateway(upstream: SocketAddr) -> (Service, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.args(["--forward", "--upstream", &format!("http://localhost:{}", upstream.port())]);
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    // The log is not read here, and the pipe must not fill up.
    command.env("RUST_LOG", "info,retries=off,retry_client=off");
    let mut service = Service::spawn(command).await;
    let admin = service.admin().await;
    (service, admin)
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

/// Sends one request after another until all have been sent: GET, PUT, and POST with and without a key, in turn.
async fn call_all(gateway: SocketAddr, requests: usize, tally: Arc<Tally>) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    loop {
        let number = tally.next.fetch_add(1, Relaxed);
        if number >= requests {
            return;
        }
        let (method, has_key) =
            [(Method::GET, false), (Method::PUT, false), (Method::POST, true), (Method::POST, false)][number % 4]
                .clone();
        let may_be_repeated = method != Method::POST || has_key;
        let mut request = Request::builder().method(method).uri(format!("http://{gateway}/{number}"));
        if has_key {
            request = request.header("idempotency-key", number);
        }
        let response = client.request(request.body(Full::default()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        match status {
            200 if body == format!("/{number}") => tally.succeeded.fetch_add(1, Relaxed),
            502 if !may_be_repeated && body.windows(6).any(|word| word == b"closed") => {
                tally.uncertain.fetch_add(1, Relaxed)
            }
            _ => {
                tally.wrong.lock().unwrap().push(format!("{number}: {status} {body:?}"));
                continue;
            }
        };
    }
}

/// Sends requests from several clients while the upstream is killed and restarted, each time on a listener of `listen`.
async fn call_during_restarts(
    [requests, clients]: [usize; 2],
    listener: Arc<TcpListener>,
    listen: impl Fn() -> Arc<TcpListener>,
) {
    let (upstream, log) = (listener.local_addr().unwrap(), Log::default());
    let mut running = tokio::spawn(serve(listener, log.clone()));
    let (service, _) = gateway(upstream).await;
    let tally = Arc::new(Tally::default());
    let mut callers = JoinSet::new();
    for _ in 0..clients {
        callers.spawn(call_all(service.address, requests, Arc::clone(&tally)));
    }
    let mut restarts = 0;
    while !callers.is_empty() {
        tokio::select! {
            caller = callers.join_next() => caller.unwrap().unwrap(),
            () = sleep(UP) => {
                running.abort();
                let _ = running.await;
                sleep(DOWN).await;
                running = tokio::spawn(serve(listen(), log.clone()));
                restarts += 1;
            }
        }
    }
    let (succeeded, uncertain) = (tally.succeeded.load(Relaxed), tally.uncertain.load(Relaxed));
    assert_eq!(*tally.wrong.lock().unwrap(), Vec::<String>::new(), "after {restarts} restarts");
    assert_eq!(succeeded + uncertain, requests);
    assert_eq!(log.doubled(), Vec::<usize>::new());
    assert!(restarts > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_upstream_loses_no_response() {
    let listener = listen("127.0.0.1:0".parse().unwrap());
    let address = listener.local_addr().unwrap();
    call_during_restarts([5000, 32], listener, || listen(address)).await;
}

/// As with gunicorn, or a socket of systemd: the kernel accepts connections while no process serves them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_restarts_behind_its_listener_loses_no_response() {
    let listener = listen("127.0.0.1:0".parse().unwrap());
    call_during_restarts([3000, 12], Arc::clone(&listener), || Arc::clone(&listener)).await;
}

async fn send(gateway: SocketAddr, method: &str, number: usize) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).await.unwrap();
    let request = format!("{method} /{number} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Sends a request that is parked behind `number` others.
async fn park(gateway: SocketAddr, admin: SocketAddr, number: usize) -> TcpStream {
    let stream = send(gateway, "POST", number).await;
    until_metric(admin, PARKED, |parked| parked > number as f64).await;
    stream
}

#[tokio::test]
async fn requests_wait_for_the_upstream_in_the_order_of_arrival() {
    const REQUESTS: usize = 100;
    let (upstream, socket) = refusing();
    let (service, admin) = gateway(upstream).await;
    let mut waiting = Vec::new();
    for number in 0..REQUESTS {
        waiting.push(park(service.address, admin, number).await);
    }
    let log = Log::default();
    tokio::spawn(serve(Arc::new(socket.listen(1024).unwrap()), log.clone()));
    for (number, stream) in waiting.iter_mut().enumerate() {
        let mut response = String::new();
        within("a response", stream.read_to_string(&mut response)).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 ") && response.ends_with(&format!("/{number}")), "{response}");
    }
    let received = log.received.lock().unwrap();
    assert_eq!(received.len(), REQUESTS);
    for Received { number, responses, .. } in &*received {
        // In the slow start, 10 requests and one for each response may be in flight.
        assert!(*number < 10 + 2 * responses, "request {number} after {responses} responses");
    }
}

#[tokio::test]
async fn requests_that_waited_are_sent_within_the_limit_of_the_upstream() {
    let (upstream, socket) = refusing();
    let (service, admin) = gateway(upstream).await;
    let mut waiting = Vec::new();
    for number in 0..400 {
        waiting.push(send(service.address, "GET", number).await);
    }
    until_metric(admin, PARKED, |parked| parked == 400.0).await;
    let log = Log { limit: Some(12), ..Log::default() };
    tokio::spawn(serve(Arc::new(socket.listen(1024).unwrap()), log));
    for stream in &mut waiting {
        let mut response = String::new();
        within("a response", stream.read_to_string(&mut response)).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
}

#[tokio::test]
async fn a_request_whose_client_leaves_while_it_waits_is_never_sent() {
    let (upstream, socket) = refusing();
    let (service, admin) = gateway(upstream).await;
    let mut waiting = Vec::new();
    for number in 0..20 {
        waiting.push(park(service.address, admin, number).await);
    }
    let mut stays = waiting.split_off(19).remove(0);
    drop(waiting);
    until_metric(admin, PARKED, |parked| parked == 1.0).await;
    let log = Log::default();
    tokio::spawn(serve(Arc::new(socket.listen(16).unwrap()), log.clone()));
    let mut response = String::new();
    within("the response", stays.read_to_string(&mut response)).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    let received: Vec<_> = log.received.lock().unwrap().iter().map(|received| received.number).collect();
    assert_eq!(received, [19]);
    assert_eq!(read_metric(admin, PARKED).await, 0.0);
}

//! The memory that a request takes while it only waits. `scripts/bench.sh` measures how much of it is resident.

#![allow(clippy::unwrap_used, reason = "a test stops at the first error")]

use std::{
    alloc::System,
    future::pending,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use retry_service::{LoadedSettings, Service};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::time::{Instant, sleep};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What hyper allocates for a request: a buffer for each direction of its connection, of which little is resident.
const SERVER_BUFFERS: usize = 2 * 8192;

/// The same for the connection to the upstream, and a channel for 32 requests, of which one is used.
const CLIENT_BUFFERS: usize = 2 * 8192 + 10 * 1024;

const REQUESTS: usize = 200;
const LIMIT: Duration = Duration::from_secs(60);

/// Starts an upstream that keeps each connection after it has sent `response`.
fn upstream(response: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut held = Vec::with_capacity(2 * REQUESTS);
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if !response.is_empty() {
                let _ = stream.read(&mut [0; 4096]);
                stream.write_all(response.as_bytes()).unwrap();
            }
            held.push(stream);
        }
    });
    address
}

/// Returns an address that nobody listens on.
fn unused_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The bytes that are allocated now.
fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Waits until nothing more is allocated or freed, and returns the bytes that are allocated.
async fn settled() -> usize {
    let (begin, mut before) = (Instant::now(), allocated());
    loop {
        sleep(Duration::from_millis(300)).await;
        let now = allocated();
        if now == before {
            return now;
        }
        assert!(begin.elapsed() < LIMIT, "memory is allocated or freed all the time");
        before = now;
    }
}

/// Sends requests to the gateway, each on its own connection, and returns the memory that one takes.
async fn bytes_per_request(upstream: SocketAddr, flags: &[&str]) -> usize {
    let url = format!("http://{upstream}");
    let args = ["retry-service", "--forward", "--upstream", &url].into_iter().chain(flags.iter().copied());
    let settings = LoadedSettings::from_args(args.map(Into::into)).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let gateway = tokio::spawn(Service::new(settings).run(listener, pending()));
    let mut held = Vec::with_capacity(2 * REQUESTS);
    let mut send = async || {
        for _ in 0..REQUESTS {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            held.push(stream);
            // Lets the gateway accept it.
            sleep(Duration::from_millis(1)).await;
        }
        settled().await
    };
    // The first requests also pay for what all of them share.
    let before = send().await;
    let after = send().await;
    drop(held);
    let left = settled().await;
    assert!(left < before / 4, "{left} of {before} bytes are still allocated after all clients have left");
    gateway.abort();
    (after - before) / REQUESTS
}

// One test, because all tests of a process would share the count.
#[tokio::test]
async fn a_waiting_request_takes_little_memory() {
    let busy = upstream("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbusy");
    let in_backoff = ["--interval", "1h", "--max-wait-interval", "1h", "--jitter", "none", "--budget-ratio", "off"];
    let in_backoff = bytes_per_request(busy, &in_backoff).await;
    let hanging = ["--timeout", "off", "--upstream-max-connections", "off"];
    let hanging = bytes_per_request(upstream(""), &hanging).await;
    let parked = bytes_per_request(unused_address(), &["--outage-wait", "1h"]).await;
    let [in_backoff, parked] = [in_backoff, parked].map(|bytes| bytes - SERVER_BUFFERS);
    let hanging = hanging - SERVER_BUFFERS - CLIENT_BUFFERS;
    assert!(
        in_backoff < 4_900 && parked < 5_500 && hanging < 8_200,
        "in backoff {in_backoff} bytes, parked {parked}, without a response {hanging}"
    );
}

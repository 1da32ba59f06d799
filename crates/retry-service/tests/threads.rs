//! Several threads serve connections, and keep the promises of one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use support::{
    Service, gateway,
    message::{Response, exchange, read_until},
    read_metric,
    temp_file::TempFile,
    upstream::{Reply, Upstream, ok, read_request},
    within,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    process::Command,
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

const THREADS: usize = 4;
const FOUR_THREADS: [&str; 2] = ["--threads", "4"];

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

async fn connect(address: SocketAddr) -> TcpStream {
    within("a connection", TcpStream::connect(address)).await.unwrap()
}

/// Sends a request, and reads its response, whose body is `body`.
async fn call(client: &mut TcpStream, body: &str) {
    client.write_all(REQUEST).await.unwrap();
    assert!(read_until(client, body).await.starts_with("HTTP/1.1 200 "), "{body}");
}

/// Opens connections, of which each has a response before the next one is opened.
async fn clients(service: &Service, number: usize, body: &str) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..number {
        let mut client = connect(service.address).await;
        call(&mut client, body).await;
        clients.push(client);
    }
    clients
}

/// Each thread has its own connections to the upstream, so these show which thread a client's connection is on.
#[tokio::test]
async fn a_few_long_connections_are_balanced() {
    for (flags, expected) in [(["--threads", "1"], vec![16]), (FOUR_THREADS, vec![4; THREADS])] {
        let upstream = Upstream::playing([ok("ok")]).await;
        let service = gateway(upstream.address, &flags).await;
        let mut clients = clients(&service, 2 * THREADS, "ok").await;
        for client in &mut clients {
            call(client, "ok").await;
        }
        let mut requests = BTreeMap::<_, usize>::new();
        for request in upstream.received() {
            *requests.entry(request.connection).or_default() += 1;
        }
        assert_eq!(requests.into_values().collect::<Vec<_>>(), expected, "{flags:?}");
    }
}

/// A tunnel is no HTTP connection any more, but its thread still serves it.
#[tokio::test]
async fn tunnels_are_balanced() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let upstream =
        Upstream::start(|_, request| if request.contains("upgrade: x") { Reply::new(SWITCH) } else { ok("ok") }).await;
    let mut service = gateway(upstream.address, &["--threads", "2", "--admin", "127.0.0.1:0"]).await;
    let admin = service.admin().await;
    let tunnel = || async {
        let mut client = connect(service.address).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await.unwrap();
        read_until(&mut client, "\r\n\r\n").await;
        client
    };
    // Between two tunnels on the first thread, a connection is on the second.
    let first = tunnel().await;
    let between = clients(&service, 1, "ok").await;
    let second = tunnel().await;
    drop(between);
    let closed = async {
        while read_metric(admin, "retry_service_connections").await > 2.0 {
            tokio::task::yield_now().await;
        }
    };
    within("the end of a connection", closed).await;
    // The second thread gets the next two, so one connection to the upstream is enough for both.
    let before = upstream.received().len();
    let _clients = clients(&service, 2, "ok").await;
    let received = upstream.received();
    assert_eq!(received[before].connection, received[before + 1].connection);
    drop((first, second));
}

#[tokio::test]
async fn all_threads_share_the_limit_on_requests_in_flight() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flags = [&FOUR_THREADS[..], &["--max-in-flight", "2"]].concat();
    let service = gateway(listener.local_addr().unwrap(), &flags).await;
    let (mut in_flight, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let mut client = connect(service.address).await;
        client.write_all(REQUEST).await.unwrap();
        let (mut server, _) = within("a connection", listener.accept()).await.unwrap();
        within("a request", read_request(&mut server, &mut Vec::new())).await.unwrap();
        in_flight.push(client);
        servers.push(server);
    }
    let rejected = || exchange(service.address, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert_eq!([rejected().await.status, rejected().await.status], [503, 503]);
    for (mut client, mut server) in in_flight.into_iter().zip(servers) {
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        read_until(&mut client, "ok").await;
    }
}

#[tokio::test]
async fn all_threads_share_the_retry_budget() {
    let begin = Instant::now();
    let upstream = Upstream::playing([Reply::new("HTTP/1.1 503 Unavailable\r\ncontent-length: 2\r\n\r\nno")]).await;
    let budget = ["--budget-ratio", "0", "--budget-min-per-sec", "1"];
    let retries = ["--count", "1000", "--backoff-factor", "1"];
    let service = gateway(upstream.address, &[&FOUR_THREADS[..], &budget, &retries].concat()).await;
    let mut open = Vec::new();
    for _ in 0..THREADS {
        let mut client = connect(service.address).await;
        client.write_all(REQUEST).await.unwrap();
        let response = read_until(&mut client, "\r\n\r\nno").await;
        assert_eq!(Response::parse(response.as_bytes()).status, 503);
        open.push(client);
    }
    // Ten at the start, and one at the end of each second.
    let allowed = 11.0 + begin.elapsed().as_secs_f64();
    let retries = upstream.received().len() - THREADS;
    assert!(retries >= 10 && retries as f64 <= allowed, "{retries} retries, {allowed} allowed");
}

#[tokio::test]
async fn all_threads_share_the_limit_on_upstream_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let flags = [&FOUR_THREADS[..], &["--upstream-max-connections", "2", "--connect-timeout", "20s"]].concat();
    let service = gateway(listener.local_addr().unwrap(), &flags).await;
    let mut clients = Vec::new();
    for _ in 0..2 * THREADS {
        let mut client = connect(service.address).await;
        client.write_all(REQUEST).await.unwrap();
        clients.push(client);
    }
    let serve = async {
        let (limit, mut connections) = (Semaphore::new(2), JoinSet::new());
        let limit = Arc::new(limit);
        loop {
            let (mut server, _) = listener.accept().await.unwrap();
            let permit = Arc::clone(&limit).try_acquire_owned().expect("at most two connections");
            connections.spawn(async move {
                let mut received = Vec::new();
                while read_request(&mut server, &mut received).await.is_some() {
                    sleep(Duration::from_millis(20)).await;
                    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
                drop(permit);
            });
        }
    };
    let responses = async {
        for client in &mut clients {
            assert!(read_until(client, "\r\n\r\nok").await.starts_with("HTTP/1.1 200 "));
        }
    };
    tokio::select! {
        () = responses => {}
        () = serve => {}
    }
}

#[tokio::test]
async fn the_drain_waits_for_requests_on_all_threads_and_then_aborts_them() {
    for (timeout, is_aborted) in [("30s", false), ("100ms", true)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let flags = [&FOUR_THREADS[..], &["--access-log", "--drain-timeout", timeout]].concat();
        let mut service = gateway(listener.local_addr().unwrap(), &flags).await;
        let mut in_flight = Vec::new();
        for _ in 0..THREADS {
            let mut client = connect(service.address).await;
            client.write_all(REQUEST).await.unwrap();
            let (mut server, _) = within("a connection", listener.accept()).await.unwrap();
            within("a request", read_request(&mut server, &mut Vec::new())).await.unwrap();
            in_flight.push((client, server));
        }
        service.signal("TERM").await;
        service.log_line("Stopping").await;
        if !is_aborted {
            for (client, server) in &mut in_flight {
                server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                read_until(client, "\r\n\r\nok").await;
            }
        }
        let log = within("the end of the log", service.rest_of_log()).await.join("\n");
        let expected = if is_aborted { " 0 0 bytes in " } else { " 200 2 bytes in " };
        assert_eq!(log.matches(expected).count(), THREADS, "{log}");
        let aborted = log.contains("Drain ended; aborted requests: 4, connections: 4 (tunnels: 0)");
        assert_eq!(aborted, is_aborted, "{log}");
        assert_eq!(within("the exit", service.exit()).await.success(), !is_aborted);
    }
}

#[tokio::test]
async fn a_reload_reaches_all_threads() {
    let (first, second) = (Upstream::playing([ok("first")]).await, Upstream::playing([ok("second")]).await);
    let settings = |upstream: &Upstream| format!("upstream = \"http://{}\"\nthreads = 4\n", upstream.address);
    let file = TempFile::new(&settings(&first));
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.args(["--forward", "--listen", "127.0.0.1:0", "--config", file.path()]).env_remove("RETRY_SERVICE_THREADS");
    let mut service = Service::spawn(command).await;
    let mut clients = clients(&service, THREADS, "first").await;
    file.write(&settings(&second));
    service.signal("HUP").await;
    service.log_line("Reloaded: generation 2, changed: upstream").await;
    for client in &mut clients {
        call(client, "second").await;
    }
    assert_eq!((first.received().len(), second.received().len()), (THREADS, THREADS));
}

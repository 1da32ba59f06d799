//! The stop of the process: it is immediate if nothing is in flight, and every connection that the kernel has accepted is
//! served.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the message"
)]

mod support;

use std::time::Duration;

use support::{
    Service, gateway,
    http2::{DATA, END_STREAM, INITIAL_WINDOW, PREFACE, Peer},
    message::{Response, read_until},
    upstream::{Upstream, ok, read_request},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{sleep, timeout},
};

/// A drain timeout, and half of it.
const DRAIN: [&str; 2] = ["--drain-timeout", "30s"];
const AT_ONCE: Duration = Duration::from_secs(15);

/// Stops the process, which must not wait for the drain timeout.
async fn stops_at_once(mut service: Service, what: &str) {
    // Until it has seen what was sent before.
    sleep(Duration::from_millis(50)).await;
    service.signal("TERM").await;
    let ended = timeout(AT_ONCE, service.exit()).await;
    let status = ended.unwrap_or_else(|_| panic!("{what} delays the stop"));
    assert!(status.success(), "{what}: {status}");
}

#[tokio::test]
async fn connections_without_a_request_do_not_delay_the_stop() {
    let upstream = Upstream::playing([ok("")]).await;
    for start in [&b""[..], b"G", b"GET / HTT", b"GET / HTTP/1.1\r\nhost: a\r\n", b"P", b"PRI", &PREFACE[..20], PREFACE]
    {
        let service = gateway(upstream.address, &DRAIN).await;
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(start).await.unwrap();
        stops_at_once(service, &format!("{:?}", start.escape_ascii().to_string())).await;
    }
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_stop() {
    let upstream = Upstream::playing([ok("")]).await;
    let service = gateway(upstream.address, &DRAIN).await;
    let mut first = TcpStream::connect(service.address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_until(&mut first, "\r\n\r\n").await;
    let mut second = Peer::connect(service.address).await;
    second.request(END_STREAM, 1, "GET", "/", &[]).await;
    second.rest_of(1).await;
    let _third = Peer::connect(service.address).await;
    // The start of the next request.
    first.write_all(b"GET / HTT").await.unwrap();
    stops_at_once(service, "an idle connection").await;
}

#[tokio::test]
async fn the_stop_waits_for_requests_in_flight_but_not_for_idle_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut service = gateway(listener.local_addr().unwrap(), &DRAIN).await;
    let mut idle = TcpStream::connect(service.address).await.unwrap();
    idle.write_all(b"GET / HTT").await.unwrap();
    let mut first = TcpStream::connect(service.address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut second = Peer::connect(service.address).await;
    second.request(END_STREAM, 1, "GET", "/", &[]).await;
    let mut servers = Vec::new();
    for _ in 0..2 {
        let (mut server, _) = within("a connection", listener.accept()).await.unwrap();
        within("a request", read_request(&mut server, &mut Vec::new())).await.unwrap();
        servers.push(server);
    }
    service.signal("TERM").await;
    // The idle connection is closed before the responses.
    let _ = within("the end of the idle connection", idle.read_to_end(&mut Vec::new())).await;
    sleep(Duration::from_millis(500)).await;
    for mut server in servers {
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
    }
    let mut received = Vec::new();
    within("a response", first.read_to_end(&mut received)).await.unwrap();
    let response = Response::parse(&received);
    assert_eq!((response.text().as_str(), response.field("connection")), ("hello", Some("close")));
    let mut body = Vec::new();
    // The first frame is a GOAWAY.
    while let Some(frame) = second.frame().await {
        if frame.kind == DATA {
            body.extend(frame.payload);
        }
    }
    assert_eq!(body, b"hello");
    let status = timeout(AT_ONCE, service.exit()).await.expect("the exit");
    assert!(status.success(), "{status}");
}

/// The clients of connections in the accept queue have already sent their requests.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn connections_in_the_accept_queue_are_served() {
    const CLIENTS: usize = 300;
    rlimit::increase_nofile_limit(8192).unwrap();
    let upstream = Upstream::playing([ok("served")]).await;
    for more in [&[][..], &["--max-connections", "10"]] {
        let mut service = gateway(upstream.address, &[&DRAIN, more].concat()).await;
        service.suspend().await;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = within("a connection", TcpStream::connect(service.address)).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
            clients.push(client);
        }
        service.signal("TERM").await;
        service.resume().await;
        let mut lost = Vec::new();
        for mut client in clients {
            let mut received = Vec::new();
            let end = within("the end", client.read_to_end(&mut received)).await;
            if !received.ends_with(b"\r\n\r\nserved") {
                lost.push((end, String::from_utf8_lossy(&received).into_owned()));
            }
        }
        assert!(lost.is_empty(), "{more:?}: {} of {CLIENTS}, such as {:?}", lost.len(), lost[0]);
        let status = timeout(AT_ONCE, service.exit()).await.expect("the exit");
        assert!(status.success(), "{status}");
    }
}

/// The gateway sends the rest of a response even if the upstream has nothing more to send.
#[tokio::test]
async fn responses_that_clients_read_slowly_arrive_complete() {
    // Some fit into the kernel's buffers, some exceed the gateway's as well, and some are in between.
    let lengths = || (0..60).map(|number| 2_000_000 + number * 50_000).chain([8 << 20]);
    let upstream = Upstream::start(|_, request| {
        let (_, length) = request.split_once("GET /").unwrap();
        ok(&"x".repeat(length.split(' ').next().unwrap().parse().unwrap()))
    })
    .await;
    for flags in [&[][..], &["--response-buffer", "8MiB"]] {
        let mut service = gateway(upstream.address, &[&DRAIN, flags].concat()).await;
        let mut clients = Vec::new();
        for length in lengths() {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            let mut client = socket.connect(service.address).await.unwrap();
            let request = format!("GET /{length} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            clients.push((length, client));
        }
        for (_, client) in &clients {
            within("the head", client.peek(&mut [0])).await.unwrap();
        }
        // Until writes of the gateway block.
        sleep(Duration::from_secs(1)).await;
        service.signal("TERM").await;
        sleep(Duration::from_millis(500)).await;
        let mut incomplete = Vec::new();
        for (length, mut client) in clients {
            let mut received = Vec::new();
            let _ = within("the rest", client.read_to_end(&mut received)).await;
            let response = Response::parse(&received);
            if response.body.len() < length {
                incomplete.push((response.body.len(), length));
            }
        }
        assert!(incomplete.is_empty(), "{flags:?}: {} of {}: {incomplete:?}", incomplete.len(), lengths().count());
        let status = timeout(AT_ONCE, service.exit()).await.expect("the exit");
        assert!(status.success(), "{flags:?}: {status}");
    }
}

#[tokio::test]
async fn a_response_that_an_http2_client_reads_slowly_arrives_complete() {
    for (length, flags) in [(100_000, &[][..]), (8 << 20, &[]), (8 << 20, &["--response-buffer", "8MiB"])] {
        let upstream = Upstream::playing([ok(&"x".repeat(length))]).await;
        let mut service = gateway(upstream.address, &[&DRAIN, flags].concat()).await;
        let mut client = Peer::connect(service.address).await;
        client.request(END_STREAM, 1, "GET", "/", &[]).await;
        let received = client.receive(INITIAL_WINDOW).await;
        sleep(Duration::from_millis(100)).await;
        service.signal("TERM").await;
        sleep(Duration::from_millis(500)).await;
        client.open_windows(1, length).await;
        client.receive(length - received).await;
        let status = timeout(AT_ONCE, service.exit()).await.expect("the exit");
        assert!(status.success(), "{flags:?}: {status}");
    }
}

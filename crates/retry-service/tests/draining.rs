//! How the process ends: at once where nothing is in flight, and with everybody served that the kernel let in.
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
    http2::{DATA, END_STREAM, PREFACE, Peer, WINDOW_UPDATE},
    message::{Response, read_until},
    upstream::{Upstream, ok, read_request},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{sleep, timeout},
};

/// How long what is in flight would have, and half of that.
const DRAIN: [&str; 2] = ["--drain-timeout", "30s"];
const AT_ONCE: Duration = Duration::from_secs(15);

/// Stops it while nothing is in flight.
async fn ends_at_once(mut service: Service, what: &str) {
    // It has seen what was sent before.
    sleep(Duration::from_millis(50)).await;
    service.signal("TERM").await;
    let ended = timeout(AT_ONCE, service.exit()).await;
    let status = ended.unwrap_or_else(|_| panic!("{what} keeps the process from its end"));
    assert!(status.success(), "{what}: {status}");
}

#[tokio::test]
async fn connections_without_a_request_do_not_keep_the_process_from_its_end() {
    let upstream = Upstream::playing([ok("")]).await;
    for begin in [&b""[..], b"G", b"GET / HTT", b"GET / HTTP/1.1\r\nhost: a\r\n", b"P", b"PRI", &PREFACE[..20], PREFACE]
    {
        let service = gateway(upstream.address, &DRAIN).await;
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(begin).await.unwrap();
        ends_at_once(service, &format!("{:?}", begin.escape_ascii().to_string())).await;
    }
}

#[tokio::test]
async fn idle_connections_do_not_keep_the_process_from_its_end() {
    let upstream = Upstream::playing([ok("")]).await;
    let service = gateway(upstream.address, &DRAIN).await;
    let mut first = TcpStream::connect(service.address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_until(&mut first, "\r\n\r\n").await;
    let mut second = Peer::connect(service.address).await;
    second.request(END_STREAM, 1, "GET", "/", &[]).await;
    second.rest_of(1).await;
    let _third = Peer::connect(service.address).await;
    // The next request, begun.
    first.write_all(b"GET / HTT").await.unwrap();
    ends_at_once(service, "an idle connection").await;
}

#[tokio::test]
async fn requests_in_flight_are_waited_for_beside_connections_without_one() {
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
    // The others are long gone by the time that these are answered.
    let _ = within("the idle one to end", idle.read_to_end(&mut Vec::new())).await;
    sleep(Duration::from_millis(500)).await;
    for mut server in servers {
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.unwrap();
    }
    let mut received = Vec::new();
    within("a response", first.read_to_end(&mut received)).await.unwrap();
    let response = Response::parse(&received);
    assert_eq!((response.text().as_str(), response.field("connection")), ("hello", Some("close")));
    let mut body = Vec::new();
    // A GOAWAY comes first.
    while let Some(frame) = second.frame().await {
        if frame.kind == DATA {
            body.extend(frame.payload);
        }
    }
    assert_eq!(body, b"hello");
    let status = timeout(AT_ONCE, service.exit()).await.expect("the end of the process");
    assert!(status.success(), "{status}");
}

/// They look established to their clients, who have sent their requests.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn every_connection_that_the_kernel_has_accepted_is_served() {
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
        let status = timeout(AT_ONCE, service.exit()).await.expect("the end of the process");
        assert!(status.success(), "{status}");
    }
}

/// What the gateway has of a response is sent, though nothing more of it is to come from the upstream.
#[tokio::test]
async fn responses_that_clients_read_slowly_arrive_whole() {
    // Some end in what the kernel takes, some beyond what the gateway takes, and some between.
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
        // It is stuck in writing them.
        sleep(Duration::from_secs(1)).await;
        service.signal("TERM").await;
        sleep(Duration::from_millis(500)).await;
        let mut cut = Vec::new();
        for (length, mut client) in clients {
            let mut received = Vec::new();
            let _ = within("the rest", client.read_to_end(&mut received)).await;
            let response = Response::parse(&received);
            if response.body.len() < length {
                cut.push((response.body.len(), length));
            }
        }
        assert!(cut.is_empty(), "{flags:?}: {} of {}: {cut:?}", cut.len(), lengths().count());
        let status = timeout(AT_ONCE, service.exit()).await.expect("the end of the process");
        assert!(status.success(), "{flags:?}: {status}");
    }
}

#[tokio::test]
async fn a_response_that_its_http2_client_reads_slowly_arrives_whole() {
    for (length, flags) in [(100_000, &[][..]), (8 << 20, &[]), (8 << 20, &["--response-buffer", "8MiB"])] {
        let upstream = Upstream::playing([ok(&"x".repeat(length))]).await;
        let mut service = gateway(upstream.address, &[&DRAIN, flags].concat()).await;
        let mut client = Peer::connect(service.address).await;
        client.request(END_STREAM, 1, "GET", "/", &[]).await;
        let mut received = 0;
        // As much as it may send unasked.
        while received < 65_535 {
            let frame = client.frame().await.expect("a part of the response");
            received += if frame.kind == DATA { frame.payload.len() } else { 0 };
        }
        sleep(Duration::from_millis(100)).await;
        service.signal("TERM").await;
        sleep(Duration::from_millis(500)).await;
        let more = u32::try_from(length).unwrap().to_be_bytes();
        client.send(WINDOW_UPDATE, 0, 0, &more).await;
        client.send(WINDOW_UPDATE, 0, 1, &more).await;
        while received < length {
            let frame = client.frame().await;
            let frame = frame.unwrap_or_else(|| panic!("{flags:?}: the end after {received} of {length} bytes"));
            received += if frame.kind == DATA { frame.payload.len() } else { 0 };
        }
        let status = timeout(AT_ONCE, service.exit()).await.expect("the end of the process");
        assert!(status.success(), "{flags:?}: {status}");
    }
}

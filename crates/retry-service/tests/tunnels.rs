//! Tunnels: their limits, how they end, and how they are counted.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{net::SocketAddr, time::Duration};

use support::{
    Service, gateway, message,
    message::{get, read_until},
    read_metric, until_zero,
    upstream::{Reply, Upstream, read_request},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::sleep,
};

const ADMIN: [&str; 2] = ["--admin", "127.0.0.1:0"];
const HANDSHAKE: &str = "GET /socket HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";

/// An upstream that accepts every handshake, and sends the tunnels to a channel. It responds "plain" to other requests.
async fn upstream() -> (SocketAddr, mpsc::UnboundedReceiver<TcpStream>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, tunnels) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            connections.spawn(async move {
                let mut bytes = Vec::new();
                while let Some(request) = read_request(&mut stream, &mut bytes).await {
                    if request.contains("upgrade: websocket\r\n") {
                        stream.write_all(SWITCH.as_bytes()).await.unwrap();
                        // The test may have ended.
                        drop(sender.send(stream));
                        return;
                    }
                    let response = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain";
                    if stream.write_all(response).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, tunnels, tasks)
}

/// Sends a handshake; returns the head of the response and the connection.
async fn handshake(address: SocketAddr) -> (String, TcpStream) {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(within("the response to a handshake", client.read_u8()).await.unwrap());
    }
    (String::from_utf8(head).unwrap(), client)
}

/// Opens a tunnel, and returns both ends.
async fn open(service: &Service, tunnels: &mut mpsc::UnboundedReceiver<TcpStream>) -> (TcpStream, TcpStream) {
    let (head, client) = handshake(service.address).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (client, within("the tunnel's other end", tunnels.recv()).await.unwrap())
}

/// Checks that bytes pass in both directions.
async fn check_open(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"ping").await.unwrap();
    read_until(server, "ping").await;
    server.write_all(b"pong").await.unwrap();
    read_until(client, "pong").await;
}

/// Waits until the stream is closed or reset.
async fn wait_for_end(what: &str, stream: &mut TcpStream) {
    let end = within(what, stream.read(&mut [0])).await;
    assert!(end.is_err() || end.unwrap() == 0, "{what}");
}

#[tokio::test]
async fn a_tunnel_over_the_limit_is_rejected_until_another_is_closed() {
    let (address, mut tunnels, _tasks) = upstream().await;
    let service = gateway(address, &["--max-tunnels", "1"]).await;
    let (mut client, mut server) = open(&service, &mut tunnels).await;
    for closes in ["the client", "the upstream"] {
        let (head, _second) = handshake(service.address).await;
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 503 ") && head.contains("\r\nretry-after: 1\r\n"), "{head}");
        // Neither requests nor the open tunnel are affected.
        assert_eq!(get(service.address).await.text(), "plain");
        check_open(&mut client, &mut server).await;
        assert!(tunnels.try_recv().is_err(), "the handshake is not forwarded");

        let (mut first, mut other) = if closes == "the client" { (client, server) } else { (server, client) };
        first.shutdown().await.unwrap();
        wait_for_end("the other end to be closed", &mut other).await;
        drop((first, other));
        let reopened = async {
            loop {
                let (head, client) = handshake(service.address).await;
                if head.starts_with("HTTP/1.1 101 ") {
                    return client;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        client = within(format_args!("a tunnel after {closes} has closed one"), reopened).await;
        server = within("the tunnel's other end", tunnels.recv()).await.unwrap();
    }
    check_open(&mut client, &mut server).await;
}

#[tokio::test]
async fn a_failed_handshake_does_not_count_as_a_tunnel() {
    let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 3\r\n\r\nno!";
    let broken = Reply::new("").then_close();
    let switch = Reply::new(SWITCH);
    let upstream = Upstream::playing([Reply::new(refusal), Reply::new(refusal), broken.clone(), broken, switch]).await;
    let service = gateway(upstream.address, &["--max-tunnels", "1", "--count", "0"]).await;
    for status in ["403", "403", "502", "502", "101"] {
        let (head, client) = handshake(service.address).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {head}");
        drop(client);
    }
}

#[tokio::test]
async fn tunnels_do_not_count_as_upstream_connections() {
    let (address, mut tunnels, _tasks) = upstream().await;
    let service = gateway(address, &["--upstream-max-connections", "1"]).await;
    let mut ends = Vec::new();
    for _ in 0..3 {
        ends.push(open(&service, &mut tunnels).await);
        assert_eq!(get(service.address).await.text(), "plain");
    }
    for (client, server) in &mut ends {
        check_open(client, server).await;
    }
}

#[tokio::test]
async fn an_idle_tunnel_times_out() {
    let (address, mut tunnels, _tasks) = upstream().await;
    let service = gateway(address, &["--tunnel-timeout", "300ms", "--max-tunnels", "1"]).await;
    let (mut client, mut server) = open(&service, &mut tunnels).await;
    check_open(&mut client, &mut server).await;
    wait_for_end("the client's end to be closed", &mut client).await;
    wait_for_end("the upstream's end to be closed", &mut server).await;
    open(&service, &mut tunnels).await;
}

/// Activity in one direction is enough.
#[tokio::test]
async fn an_active_tunnel_does_not_time_out() {
    const LIMIT: Duration = Duration::from_secs(1);
    let (address, mut tunnels, _tasks) = upstream().await;
    let service = gateway(address, &["--tunnel-timeout", "1s"]).await;
    for upwards in [true, false] {
        let (mut client, mut server) = open(&service, &mut tunnels).await;
        let (from, to) = if upwards { (&mut client, &mut server) } else { (&mut server, &mut client) };
        let pause = LIMIT / 20;
        for _ in 0..50 {
            from.write_all(b"x").await.unwrap();
            read_until(to, "x").await;
            sleep(pause).await;
        }
        check_open(&mut client, &mut server).await;
    }
}

async fn count(admin: SocketAddr) -> f64 {
    read_metric(admin, "retry_service_tunnels").await
}

#[cfg(unix)]
#[tokio::test]
async fn open_tunnels_stay_counted_after_a_reload() {
    let (address, mut tunnels, _tasks) = upstream().await;
    let mut service = gateway(address, &ADMIN).await;
    let admin = service.admin().await;
    assert_eq!(count(admin).await, 0.0);
    let first = open(&service, &mut tunnels).await;
    assert_eq!(count(admin).await, 1.0);
    for reload in 1..=3 {
        service.signal("HUP").await;
        service.log_line("Reloaded: generation ").await;
        assert_eq!(count(admin).await, 1.0, "after reload {reload}");
    }
    let (mut client, mut server) = open(&service, &mut tunnels).await;
    assert_eq!(count(admin).await, 2.0);
    check_open(&mut client, &mut server).await;
    drop((first, client, server));
    until_zero(admin, "retry_service_tunnels").await;
}

#[cfg(unix)]
#[tokio::test]
async fn the_limit_on_tunnels_includes_tunnels_from_before_a_reload() {
    let (address, mut tunnels, _tasks) = upstream().await;
    let mut service = gateway(address, &["--max-tunnels", "1"]).await;
    let (mut client, mut server) = open(&service, &mut tunnels).await;
    service.signal("HUP").await;
    service.log_line("Reloaded: generation ").await;
    let (head, _second) = handshake(service.address).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    check_open(&mut client, &mut server).await;
}

#[tokio::test]
async fn the_sample_has_no_tunnels() {
    let (address, _tunnels, _tasks) = upstream().await;
    let mut service = Service::start(address, &ADMIN).await;
    let admin = service.admin().await;
    assert_eq!(count(admin).await, 0.0);
}

#[tokio::test]
async fn the_drain_logs_the_number_of_aborted_tunnels() {
    let (address, mut tunnels, _tasks) = upstream().await;
    let mut service = gateway(address, &["--drain-timeout", "10ms"]).await;
    let (mut client, mut server) = open(&service, &mut tunnels).await;
    let mut second = open(&service, &mut tunnels).await;
    check_open(&mut client, &mut server).await;
    check_open(&mut second.0, &mut second.1).await;
    let lines = service.stop().await;
    let messages: Vec<_> = lines.iter().map(|line| message(line)).collect();
    let expected = "Drain ended; aborted requests: 0, connections: 2 (tunnels: 2)";
    assert_eq!(messages.last(), Some(&expected), "{messages:?}");
    // No request was aborted.
    assert_eq!(within("the exit", service.exit()).await.code(), Some(0));
    wait_for_end("the client's end to be closed", &mut client).await;
    wait_for_end("the upstream's end to be closed", &mut server).await;
}

/// The drain ends with the last tunnel.
#[tokio::test]
async fn the_drain_waits_for_tunnels() {
    let (address, mut tunnels, _tasks) = upstream().await;
    let mut service = gateway(address, &["--drain-timeout", "10m"]).await;
    let (mut client, mut server) = open(&service, &mut tunnels).await;
    service.signal("TERM").await;
    service.log_line("Stopping: ").await;
    sleep(Duration::from_millis(300)).await;
    check_open(&mut client, &mut server).await;
    drop(client);
    wait_for_end("the upstream's end to be closed", &mut server).await;
    drop(server);
    assert_eq!(within("the exit", service.exit()).await.code(), Some(0));
}

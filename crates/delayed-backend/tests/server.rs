//! The server in the process of the test, over real sockets.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the message")]

use std::future::{self, Future};
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use delayed_backend::{Connections, Script};
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

mod support;
use support::{exchange, read_response, request, watch};

const HELLO: &str = "Hello World!!!";
const GET: &str = "GET /hello HTTP/1.1\r\nhost: test\r\n\r\n";

struct Server {
    address: SocketAddr,
    server: Arc<delayed_backend::Server>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<Connections>>,
}

impl Server {
    async fn start(healthy_every: u32, delay: Duration) -> Self {
        let script = Script::healthy_every(NonZeroU32::new(healthy_every).unwrap());
        let script = script.with_delay(delay);
        watch();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = Arc::new(delayed_backend::Server::new(script));
        let task = tokio::spawn(Arc::clone(&server).run(listener, async { drop(stopped.await) }));
        Self { address, server, stop, task }
    }

    async fn healthy() -> Self {
        Self::start(1, Duration::ZERO).await
    }

    async fn has_received(&self, requests: u64) {
        while self.server.received() < requests {
            tokio::task::yield_now().await;
        }
    }

    async fn stop(self) -> Connections {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap()
    }
}

/// Opens an HTTP/2 connection with prior knowledge.
async fn http2(
    address: SocketAddr,
) -> (hyper::client::conn::http2::SendRequest<Empty<Bytes>>, impl Future<Output = hyper::Result<()>>) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap()
}

fn get_http2(address: SocketAddr) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{address}/hello")).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn parity_hello_over_http1() {
    let server = Server::healthy().await;
    let response = exchange(server.address, &request("GET", "/hello")).await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("content-type: text/plain\r\n"), "{response}");
    assert!(response.contains("content-length: 14\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nHello World!!!"), "{response}");
}

#[tokio::test]
async fn parity_head_is_not_allowed() {
    let server = Server::healthy().await;
    let response = exchange(server.address, &request("HEAD", "/hello")).await;
    assert!(response.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{response}");
    assert!(response.contains("allow: GET, OPTIONS\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\n"), "{response}");
}

#[tokio::test]
async fn parity_options_has_no_body() {
    let server = Server::healthy().await;
    let response = exchange(server.address, &request("OPTIONS", "/hello")).await;
    assert!(response.starts_with("HTTP/1.1 204 No Content\r\n"), "{response}");
    assert!(response.contains("allow: GET, OPTIONS\r\n"), "{response}");
    assert!(!response.contains("content-length"), "{response}");
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let server = Server::healthy().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(GET.as_bytes()).await.unwrap();
        read_response(&mut stream, HELLO).await;
    }
}

#[tokio::test]
async fn http2_is_supported_with_prior_knowledge() {
    let server = Server::healthy().await;
    let (mut sender, connection) = http2(server.address).await;
    tokio::spawn(connection);
    for _ in 0..2 {
        let response = sender.send_request(get_http2(server.address)).await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), HELLO);
    }
}

#[tokio::test]
async fn parity_a_client_that_disconnects_during_the_delay_counts() {
    let server = Server::start(2, Duration::from_secs(600)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    // The server closes its side when it notices, during the delay, that the client has closed its side.
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);

    let response = exchange(server.address, &request("GET", "/hello")).await;
    assert!(response.ends_with(HELLO), "{response}");
}

#[tokio::test]
async fn input_that_is_not_http_closes_only_its_own_connection() {
    let server = Server::healthy().await;
    for nonsense in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense!!"] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(nonsense.as_bytes()).await.unwrap();
        // The connection is closed or reset. It must not hang.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let head = format!("GET /hello HTTP/1.1\r\nx: {}\r\n", "x".repeat(1 << 20));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.read_to_end(&mut Vec::new()).await;

    let response = exchange(server.address, &request("GET", "/hello")).await;
    assert!(response.ends_with(HELLO), "{response}");
}

#[tokio::test]
async fn stopping_lets_requests_in_flight_finish() {
    let server = Server::start(2, Duration::from_millis(300)).await;
    let address = server.address;
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    busy.write_all(GET.as_bytes()).await.unwrap();
    server.has_received(1).await;
    idle.write_all(GET.as_bytes()).await.unwrap();
    read_response(&mut idle, HELLO).await;

    let connections = server.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
    connections.drain(future::pending()).await;

    let mut response = String::new();
    busy.read_to_string(&mut response).await.unwrap();
    assert!(response.ends_with(HELLO), "{response}");
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn stopping_lets_http2_streams_finish() {
    let server = Server::start(2, Duration::from_millis(300)).await;
    let address = server.address;
    let (mut sender, connection) = http2(address).await;
    let connection = tokio::spawn(connection);
    let busy = tokio::spawn(sender.send_request(get_http2(address)));
    let second = sender.send_request(get_http2(address)).await.unwrap();
    second.into_body().collect().await.unwrap();

    server.stop().await.drain(future::pending()).await;

    let body = busy.await.unwrap().unwrap().into_body();
    assert_eq!(body.collect().await.unwrap().to_bytes(), HELLO);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_drain_can_be_aborted() {
    let server = Server::start(2, Duration::from_secs(600)).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(GET.as_bytes()).await.unwrap();
    server.has_received(1).await;

    server.stop().await.drain(future::ready(())).await;
    assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1..)));
}

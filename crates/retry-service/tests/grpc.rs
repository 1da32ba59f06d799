//! gRPC through the gateway, over HTTP/2 on both sides.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is the message"
)]

mod support;

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::Value;
use support::{
    call, gateway,
    http2::{self, DATA, END_STREAM, HEADERS, Peer, RST_STREAM, body_of},
    metric, within,
};
use tokio::{net::TcpListener, task::JoinHandle};

/// With one thread, all calls use the same connection to the upstream.
const HTTP2: [&str; 3] = ["--upstream-http2", "--threads", "1"];
const FLAGS: [&str; 7] = [
    "--upstream-http2",
    "--threads",
    "1",
    "--grpc-status-codes",
    "UNAVAILABLE,RESOURCE_EXHAUSTED",
    "--response-buffer-time",
    "1h",
];

const OK: [(&str, &str); 2] = [("grpc-status", "0"), ("x-last", "1")];
const UNAVAILABLE: [(&str, &str); 2] = [("grpc-status", "14"), ("grpc-message", "100 %25 busy")];
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

/// What a client gets: the head, the messages, and the trailers.
type Outcome = (HeaderMap, Bytes, Option<HeaderMap>);

async fn send(address: SocketAddr) -> hyper::Response<Incoming> {
    let request = Request::post(format!("http://{address}/shop.Orders/Create"));
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    let response = http2::client().request(request.body(Full::from(MESSAGE)).unwrap());
    within("a response", response).await.unwrap()
}

/// Makes a call in the background.
fn start(address: SocketAddr) -> JoinHandle<Outcome> {
    tokio::spawn(async move {
        let (head, body) = send(address).await.into_parts();
        let body = within("a body", body.collect()).await.unwrap();
        let trailers = body.trailers().cloned();
        (head.headers, body.to_bytes(), trailers)
    })
}

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

/// Reads a request to its end, and returns its stream. Trailers behind the head of a response to a part of a request are not
/// waited for.
async fn complete_request(upstream: &mut Peer) -> u32 {
    let stream = upstream.next_request().await;
    upstream.rest_of(stream).await;
    stream
}

/// Sends the head of a response.
async fn head(upstream: &mut Peer, stream: u32) {
    upstream.send_fields(0, stream, &[(":status", "200"), ("content-type", "application/grpc")]).await;
}

async fn ok(upstream: &mut Peer, stream: u32) {
    head(upstream, stream).await;
    upstream.send(DATA, 0, stream, MESSAGE).await;
    upstream.send_fields(END_STREAM, stream, &OK).await;
}

/// Fails a call without a head of its own.
async fn fail(upstream: &mut Peer, stream: u32) {
    let head = [(":status", "200"), ("content-type", "application/grpc")];
    upstream.send_fields(END_STREAM, stream, &[&head[..], &UNAVAILABLE].concat()).await;
}

/// Fails a call after the head.
async fn fail_late(upstream: &mut Peer, stream: u32) {
    head(upstream, stream).await;
    upstream.send_fields(END_STREAM, stream, &UNAVAILABLE).await;
}

#[tokio::test]
async fn calls_that_fail_are_retried_and_counted_and_logged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let more = ["--admin", "127.0.0.1:0", "--access-log", "--log-format", "json", "--count", "2"];
    let mut service = gateway(listener.local_addr().unwrap(), &[&FLAGS[..], &more].concat()).await;
    let admin = service.admin().await;

    let client = start(service.address);
    let mut upstream = Peer::accept(&listener).await;
    let stream = complete_request(&mut upstream).await;
    fail(&mut upstream, stream).await;
    let stream = complete_request(&mut upstream).await;
    fail_late(&mut upstream, stream).await;
    let stream = complete_request(&mut upstream).await;
    ok(&mut upstream, stream).await;
    let (_, body, trailers) = client.await.unwrap();
    let trailers = trailers.unwrap();
    assert_eq!((&body[..], &trailers["grpc-status"], &trailers["x-last"]), (MESSAGE, &value("0"), &value("1")));
    let retried: Value = serde_json::from_str(&service.log_line("\"retries\"").await).unwrap();
    assert!(retried["message"].as_str().unwrap().contains("attempt 1 returned gRPC status UNAVAILABLE ("), "{retried}");
    let access: Value = serde_json::from_str(&service.log_line("\"access\"").await).unwrap();
    assert_eq!((&access["status"], &access["grpc_status"]), (&200.into(), &"OK".into()));

    // The head of a call that failed may come first, and an attempt later.
    let client = start(service.address);
    for number in 0..3 {
        let stream = complete_request(&mut upstream).await;
        if number < 2 { fail(&mut upstream, stream).await } else { fail_late(&mut upstream, stream).await }
    }
    let (_, body, trailers) = client.await.unwrap();
    let trailers = trailers.unwrap();
    assert_eq!((body.len(), &trailers["grpc-message"]), (0, &value("100 %25 busy")));
    let access: Value = serde_json::from_str(&service.log_line("\"access\"").await).unwrap();
    assert_eq!((&access["status"], &access["grpc_status"]), (&200.into(), &"UNAVAILABLE".into()));

    let metrics = call(admin, "GET", "/metrics").await.text();
    for (name, expected) in [
        ("requests_total{method=\"POST\",code=\"200\"}", 2.0),
        ("attempts_total{outcome=\"grpc_unavailable\"}", 5.0),
        ("attempts_total{outcome=\"200\"}", 1.0),
        ("retries_total{reason=\"grpc_unavailable\"}", 4.0),
        ("give_ups_total{reason=\"no_retries_left\"}", 1.0),
    ] {
        assert_eq!(metric(&metrics, &format!("retry_service_{name}")), expected, "{name} of {metrics}");
    }
}

#[tokio::test]
async fn a_call_that_fails_before_its_request_was_read_is_repeated_with_all_of_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &FLAGS).await;
    let mut client = Peer::connect(service.address).await;
    let head = [("te", "trailers"), ("content-type", "application/grpc")];
    client.request(0, 1, "POST", "/shop.Orders/Create", &head).await;
    let mut upstream = Peer::accept(&listener).await;
    let first = upstream.next_request().await;
    fail(&mut upstream, first).await;
    let second = upstream.next_request().await;
    client.send(DATA, END_STREAM, 1, MESSAGE).await;
    assert_eq!((second > first, body_of(&upstream.rest_of(second).await, second)), (true, MESSAGE.to_vec()));
    ok(&mut upstream, second).await;
    assert_eq!(body_of(&client.rest_of(1).await, 1), MESSAGE);
}

#[tokio::test]
async fn without_the_setting_a_status_passes_as_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &HTTP2).await;
    let client = start(service.address);
    let mut upstream = Peer::accept(&listener).await;
    let stream = upstream.next_request().await;
    fail(&mut upstream, stream).await;
    let (head, body, trailers) = client.await.unwrap();
    assert_eq!((&head["grpc-status"], &head["grpc-message"]), (&value("14"), &value("100 %25 busy")));
    assert!(body.is_empty() && trailers.is_none());

    let client = start(service.address);
    let stream = upstream.next_request().await;
    fail_late(&mut upstream, stream).await;
    let (head, _, trailers) = client.await.unwrap();
    assert!(!head.contains_key("grpc-status") && !head.contains_key("trailer"));
    assert_eq!(trailers.unwrap()["grpc-status"], "14");
}

#[tokio::test]
async fn a_stream_passes_message_by_message() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &FLAGS).await;
    let address = service.address;
    let client = tokio::spawn(async move { send(address).await });
    let mut upstream = Peer::accept(&listener).await;
    let stream = upstream.next_request().await;
    head(&mut upstream, stream).await;
    upstream.send(DATA, 0, stream, MESSAGE).await;
    let mut response = client.await.unwrap();
    for _ in 0..3 {
        let frame = within("a message", response.body_mut().frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), MESSAGE);
        upstream.send(DATA, 0, stream, MESSAGE).await;
    }
    upstream.send_fields(END_STREAM, stream, &UNAVAILABLE).await;
    let rest = within("the end", response.into_body().collect()).await.unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "14");
}

#[tokio::test]
async fn a_call_that_is_reset_is_not_repeated() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &FLAGS).await;
    let client = start(service.address);
    let mut upstream = Peer::accept(&listener).await;
    let stream = complete_request(&mut upstream).await;
    head(&mut upstream, stream).await;
    // INTERNAL_ERROR
    upstream.send(RST_STREAM, 0, stream, &2_u32.to_be_bytes()).await;
    let (head, ..) = client.await.unwrap();
    // gRPC takes it for UNAVAILABLE.
    assert_eq!(head["content-type"], "application/json");

    let client = start(service.address);
    let second = complete_request(&mut upstream).await;
    assert_ne!(second, stream, "the next call, not another attempt");
    ok(&mut upstream, second).await;
    assert_eq!(client.await.unwrap().1, MESSAGE);
}

/// gRPC takes a status in the head for none if a frame without data follows.
#[tokio::test]
async fn a_status_without_a_message_ends_the_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &HTTP2).await;
    let mut client = Peer::connect(service.address).await;
    let head = [("te", "trailers"), ("content-type", "application/grpc")];
    let mut upstream = None;
    for (stream, flags) in [(1, END_STREAM), (3, 0)] {
        client.request(0, stream, "POST", "/shop.Orders/Create", &head).await;
        // The second client is still sending.
        client.send(DATA, flags, stream, MESSAGE).await;
        let upstream = match &mut upstream {
            Some(upstream) => upstream,
            None => upstream.insert(Peer::accept(&listener).await),
        };
        let call = upstream.next_request().await;
        fail(upstream, call).await;
        let frames = client.rest_of(stream).await;
        let kinds: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.ends_stream())).collect();
        assert_eq!(kinds, [(HEADERS, true)], "{frames:?}");
    }
}

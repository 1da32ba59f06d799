//! Malformed, ambiguous and malicious requests: the response to each, and what of it reaches the upstream.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation is the message")]

use std::time::Duration;

use support::{
    Service, call,
    message::exchange_bytes,
    upstream::{Upstream, ok},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};

mod support;

/// What happens to what a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The gateway responds with this status, and nothing reaches the upstream.
    Rejected(u16),
    /// The connection is closed without a response, and nothing reaches the upstream.
    Closed,
    /// The upstream responds to this number of requests.
    Forwarded(usize),
    /// The upstream responds to one request, and the gateway rejects what follows.
    ForwardedThenRejected,
}
use Outcome::{Closed, Forwarded, ForwardedThenRejected, Rejected};

/// What is sent, with `~` for a line end, and the outcome.
fn table() -> Vec<(String, Outcome)> {
    let rows: &[(&str, Outcome)] = &[
        // Lengths
        ("POST / HTTP/1.1~host: a~content-length: 3~content-length: 4~~abcd", Rejected(400)),
        ("POST / HTTP/1.1~host: a~content-length: 3, 4~~abcd", Rejected(400)),
        ("POST / HTTP/1.1~host: a~content-length: 3~content-length: 3~connection: close~~abc", Forwarded(1)),
        ("POST / HTTP/1.1~host: a~content-length: -1~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~content-length: +3~~abc", Rejected(400)),
        ("POST / HTTP/1.1~host: a~content-length: 0x3~~abc", Rejected(400)),
        ("POST / HTTP/1.1~host: a~content-length: 3 3~~abc", Rejected(400)),
        ("POST / HTTP/1.1~host: a~content-length: ~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~content-length: 99999999999999999999~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~content-length : 3~~abc", Rejected(400)),
        ("POST / HTTP/1.1~host: a~ content-length: 3~~abc", Rejected(400)),
        // Both lengths: the chunks take precedence, and nothing that follows on the connection is trusted.
        ("POST / HTTP/1.1~host: a~content-length: 4~transfer-encoding: chunked~connection: close~~0~~", Forwarded(1)),
        (
            "POST / HTTP/1.1~host: a~transfer-encoding: chunked~content-length: 99~connection: close~~3~abc~0~~",
            Forwarded(1),
        ),
        (
            "POST / HTTP/1.1~host: a~content-length: 6~transfer-encoding: chunked~~0~~GET /2 HTTP/1.1~host: a~~",
            Forwarded(1),
        ),
        // Transfer codings
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked, identity~~0~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: identity~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: xchunked~~0~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding : chunked~~0~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~transfer-encoding: identity~~0~~", Rejected(400)),
        ("POST / HTTP/1.0~host: a~transfer-encoding: chunked~~0~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding:\u{b}chunked~~0~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: CHUNKED~connection: close~~3~abc~0~~", Forwarded(1)),
        // Chunks
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~~x~abc~0~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~~-3~abc~0~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~~0x3~abc~0~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~~3~abcd~0~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~~fffffffffffffffff~abc~0~~", Rejected(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~connection: close~~3;a=b~abc~0~~", Forwarded(1)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~connection: close~~0003~abc~0~~", Forwarded(1)),
        // Syntax of a head
        ("GET / HTTP/1.1~host: a~x: b~ c~~", Rejected(400)),
        ("GET / HTTP/1.1~host: a~x: b\0c~~", Rejected(400)),
        ("GET / HTTP/1.1~host: a~x: b\rc~~", Rejected(400)),
        ("GET / HTTP/1.1~host: a~x\0: b~~", Rejected(400)),
        ("GET / HTTP/1.1~host: a~x y: b~~", Rejected(400)),
        ("GET / HTTP/1.1~host: a~: b~~", Rejected(400)),
        ("GET / HTTP/1.1~host: a~no colon~~", Rejected(400)),
        ("GET / HTTP/1.1~host: a~x: \u{7f}~~", Rejected(400)),
        ("GET / HTTP/1.1~host: a~x(y): b~~", Rejected(400)),
        ("GET / HTTP/1.1\nhost: a\nconnection: close\n\n", Forwarded(1)),
        ("GET / HTTP/1.1~host: a\nx: y~connection: close~~", Forwarded(1)),
        ("GET /a\rb HTTP/1.1~host: a~~", Rejected(400)),
        ("GET /a b HTTP/1.1~host: a~~", Rejected(400)),
        ("GET /a\0b HTTP/1.1~host: a~~", Rejected(400)),
        ("GET  / HTTP/1.1~host: a~~", Rejected(400)),
        ("GET / HTTP/9.9~host: a~~", Rejected(400)),
        ("GET / HTTP/1.1.1~host: a~~", Rejected(400)),
        ("GET / http/1.1~host: a~~", Rejected(400)),
        ("GET /~~", Rejected(400)),
        ("G@T / HTTP/1.1~host: a~connection: close~~", Rejected(400)),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}~~", Rejected(400)),
        ("nonsense~~", Rejected(400)),
        // Targets
        ("GET /../%2e%2e/a//b/. HTTP/1.1~host: a~connection: close~~", Forwarded(1)),
        ("GET http://other.example/x HTTP/1.1~host: a~connection: close~~", Forwarded(1)),
        ("GET a HTTP/1.1~host: a~connection: close~~", Rejected(400)),
        ("OPTIONS * HTTP/1.1~host: a~connection: close~~", Forwarded(1)),
        ("GET * HTTP/1.1~host: a~connection: close~~", Rejected(400)),
        ("CONNECT other.example:443 HTTP/1.1~host: a~connection: close~~", Rejected(501)),
        ("CONNECT / HTTP/1.1~host: a~connection: close~~", Rejected(501)),
        ("GET /%00%0d%0aX:y HTTP/1.1~host: a~connection: close~~", Forwarded(1)),
        // Other protocols
        (
            "GET / HTTP/1.1~host: a~connection: upgrade, http2-settings, close~upgrade: h2c~http2-settings: AAMAAABkAAQAAP__~~",
            Forwarded(1),
        ),
        (
            "GET / HTTP/1.1~host: a~connection: close, upgrade~upgrade: websocket~~GET /x HTTP/1.1~host: a~~",
            Forwarded(1),
        ),
        ("GET / HTTP/1.1~host: a~upgrade: websocket~connection: close~~", Forwarded(1)),
        ("PRI * HTTP/2.0~~SM~~nonsense", Closed),
        ("PRI / HTTP/1.1~~", Rejected(400)),
        ("PRINT /x HTTP/1.1~host: a~connection: close~~", Forwarded(1)),
        ("PRI * HTTP/2.0~~SM~", Closed),
        // Pipelining
        ("GET /1 HTTP/1.1~host: a~~GET /2 HTTP/1.1~host: a~connection: close~~", Forwarded(2)),
        ("GET /1 HTTP/1.1~host: a~content-length: 0~~nonsense~~", ForwardedThenRejected),
        ("POST / HTTP/1.1~host: a~content-length: 5~~helloG /x HTTP/9~~", ForwardedThenRejected),
        // Headers that could mislead the gateway
        ("GET / HTTP/1.1~host: a~connection: close, host, x-forwarded-for~~", Forwarded(1)),
        ("GET / HTTP/1.1~host: a~host: b~connection: close~~", Rejected(400)),
        ("GET / HTTP/1.1~connection: close~~", Rejected(400)),
        ("GET / HTTP/1.0~connection: close~~", Forwarded(1)),
        ("GET / HTTP/1.1~host: a~expect: the unexpected~connection: close~~", Rejected(417)),
        ("GET / HTTP/1.1~host: a~x-request-id: a\tb~connection: close~~", Forwarded(1)),
    ];
    let mut rows: Vec<_> = rows.iter().map(|(request, outcome)| (request.replace('~', "\r\n"), *outcome)).collect();
    let many = |n: usize| (0..n).map(|i| format!("x{i}: y\r\n")).collect::<String>();
    rows.push((format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(20_000)), Rejected(431)));
    rows.push((format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", many(200)), Rejected(431)));
    rows.push((format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(70_000)), Rejected(431)));
    // Heads that are never completed.
    rows.push(("GET / HTTP/1.1\r\nhost: a\r\nx: ".to_owned(), Closed));
    rows.push(("P".to_owned(), Closed));
    rows.push((String::new(), Closed));
    rows
}

/// Sends these bytes, and returns the outcome and the response.
async fn observe(service: &Service, upstream: &Upstream, request: &str) -> (Outcome, String) {
    let before = upstream.received().len();
    let response = String::from_utf8_lossy(&exchange_bytes(service.address, request).await).into_owned();
    let heads = response.split("HTTP/1.").skip(1);
    let statuses: Vec<u16> = heads.filter_map(|rest| rest.get(2..5)?.parse().ok()).collect();
    let outcome = match (&statuses[..], upstream.received().len() - before) {
        ([], 0) => Closed,
        ([status], 0) => Rejected(*status),
        ([200, 400], 1) => ForwardedThenRejected,
        (all, forwarded) if all.len() == forwarded && all.iter().all(|status| *status == 200) => Forwarded(forwarded),
        (_, forwarded) => panic!("{forwarded} requests of {request:?} reached the upstream; response: {response}"),
    };
    (outcome, response)
}

#[tokio::test]
async fn malformed_and_ambiguous_requests_are_rejected_and_none_becomes_two() {
    let upstream = Upstream::playing([ok("seen")]).await;
    let service = Service::start(upstream.address, &["--forward", "--header-timeout", "500ms"]).await;
    let rows = table();
    assert!(rows.len() >= 60);
    let mut wrong = Vec::new();
    for (request, expected) in &rows {
        let (outcome, response) = observe(&service, &upstream, request).await;
        if let Rejected(status) = outcome {
            let (head, payload) = response.split_once("\r\n\r\n").expect(request);
            assert!(head.contains(&format!("content-length: {}", payload.len())), "{request:?}: {response}");
            // hyper's own responses have no body.
            if payload.is_empty() {
                assert!([400, 414, 431].contains(&status), "{request:?}: {response}");
            } else {
                let payload: serde_json::Value = serde_json::from_str(payload).expect(request);
                assert_eq!(payload["status"], status, "{request:?}");
            }
        }
        if outcome != *expected {
            let start: String = request.chars().take(120).collect();
            let line = response.lines().next().unwrap_or_default();
            wrong.push(format!("{start:?}: {outcome:?} instead of {expected:?}: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(call(service.address, "GET", "/").await.status, 200, "the gateway serves further requests");
}

#[tokio::test]
async fn a_client_that_is_still_sending_its_head_gets_the_response_to_it() {
    let upstream = Upstream::playing([ok("seen")]).await;
    let service = Service::start(upstream.address, &["--forward"]).await;
    let mut client = TcpStream::connect(service.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx: ").await.unwrap();
    for _ in 0..4 {
        client.write_all(&[b'y'; 20_000]).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    client.shutdown().await.unwrap();
    let mut response = String::new();
    within("the response", client.read_to_string(&mut response)).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 431 "), "{response}");
}

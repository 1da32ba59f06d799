//! Requests that are malformed or mean harm: what each gets, and what of it reaches the upstream.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed expectation is the message")]

mod support;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use support::{Service, call};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// What a request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gets {
    /// An answer with this status that is not the upstream's; nothing reached it.
    Refused(u16),
    /// Nothing but the end of its connection; nothing reached the upstream.
    Closed,
    /// The upstream's answer, to so many requests.
    Passed(usize),
    /// The upstream's answer to one request, then a refusal of what followed.
    PassedThenRefused,
}
use Gets::{Closed, Passed, PassedThenRefused, Refused};

/// An upstream that notes the bytes of each connection and answers each head it sees.
///
/// It takes a request for no more than its head and what `content-length` or chunks say, as strict servers do: had
/// two requests been made of one, it would count both.
async fn upstream() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                loop {
                    while let Some(length) = whole(&bytes) {
                        let request: Vec<u8> = bytes.drain(..length).collect();
                        seen.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nseen").await;
                    }
                    if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
            });
        }
    });
    (address, requests)
}

/// The length of the request that the bytes begin with, once it is whole.
fn whole(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let head = text.find("\r\n\r\n")? + 4;
    let (start, rest) = (text.get(..head)?, text.get(head..)?);
    if start.contains("transfer-encoding: chunked") {
        if rest.starts_with("0\r\n\r\n") {
            return Some(head + 5);
        }
        return rest.find("\r\n0\r\n\r\n").map(|end| head + end + 7);
    }
    let length = start.split_once("content-length: ").and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
    let length: usize = length.unwrap_or(0);
    (rest.len() >= length).then_some(head + length)
}

/// The rows: what is sent, and what it gets. `~` is a line end.
fn table() -> Vec<(String, Gets)> {
    let rows: &[(&str, Gets)] = &[
        // Lengths
        ("POST / HTTP/1.1~host: a~content-length: 3~content-length: 4~~abcd", Refused(400)),
        ("POST / HTTP/1.1~host: a~content-length: 3, 4~~abcd", Refused(400)),
        ("POST / HTTP/1.1~host: a~content-length: 3~content-length: 3~connection: close~~abc", Passed(1)),
        ("POST / HTTP/1.1~host: a~content-length: -1~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~content-length: +3~~abc", Refused(400)),
        ("POST / HTTP/1.1~host: a~content-length: 0x3~~abc", Refused(400)),
        ("POST / HTTP/1.1~host: a~content-length: 3 3~~abc", Refused(400)),
        ("POST / HTTP/1.1~host: a~content-length: ~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~content-length: 99999999999999999999~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~content-length : 3~~abc", Refused(400)),
        ("POST / HTTP/1.1~host: a~ content-length: 3~~abc", Refused(400)),
        // Both lengths: chunks alone count, and nothing that follows on the connection is believed.
        ("POST / HTTP/1.1~host: a~content-length: 4~transfer-encoding: chunked~connection: close~~0~~", Passed(1)),
        (
            "POST / HTTP/1.1~host: a~transfer-encoding: chunked~content-length: 99~connection: close~~3~abc~0~~",
            Passed(1),
        ),
        (
            "POST / HTTP/1.1~host: a~content-length: 6~transfer-encoding: chunked~~0~~GET /2 HTTP/1.1~host: a~~",
            Passed(1),
        ),
        // Transfer codings
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked, identity~~0~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: identity~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: xchunked~~0~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding : chunked~~0~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~transfer-encoding: identity~~0~~", Refused(400)),
        ("POST / HTTP/1.0~host: a~transfer-encoding: chunked~~0~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding:\u{b}chunked~~0~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: CHUNKED~connection: close~~3~abc~0~~", Passed(1)),
        // Chunks
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~~x~abc~0~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~~-3~abc~0~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~~0x3~abc~0~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~~3~abcd~0~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~~fffffffffffffffff~abc~0~~", Refused(400)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~connection: close~~3;a=b~abc~0~~", Passed(1)),
        ("POST / HTTP/1.1~host: a~transfer-encoding: chunked~connection: close~~0003~abc~0~~", Passed(1)),
        // The shape of a head
        ("GET / HTTP/1.1~host: a~x: b~ c~~", Refused(400)),
        ("GET / HTTP/1.1~host: a~x: b\0c~~", Refused(400)),
        ("GET / HTTP/1.1~host: a~x: b\rc~~", Refused(400)),
        ("GET / HTTP/1.1~host: a~x\0: b~~", Refused(400)),
        ("GET / HTTP/1.1~host: a~x y: b~~", Refused(400)),
        ("GET / HTTP/1.1~host: a~: b~~", Refused(400)),
        ("GET / HTTP/1.1~host: a~no colon~~", Refused(400)),
        ("GET / HTTP/1.1~host: a~x: \u{7f}~~", Refused(400)),
        ("GET / HTTP/1.1~host: a~x(y): b~~", Refused(400)),
        ("GET / HTTP/1.1\nhost: a\nconnection: close\n\n", Passed(1)),
        ("GET / HTTP/1.1~host: a\nx: y~connection: close~~", Passed(1)),
        ("GET /a\rb HTTP/1.1~host: a~~", Refused(400)),
        ("GET /a b HTTP/1.1~host: a~~", Refused(400)),
        ("GET /a\0b HTTP/1.1~host: a~~", Refused(400)),
        ("GET  / HTTP/1.1~host: a~~", Refused(400)),
        ("GET / HTTP/9.9~host: a~~", Refused(400)),
        ("GET / HTTP/1.1.1~host: a~~", Refused(400)),
        ("GET / http/1.1~host: a~~", Refused(400)),
        ("GET /~~", Refused(400)),
        ("G@T / HTTP/1.1~host: a~connection: close~~", Refused(400)),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}~~", Refused(400)),
        ("nonsense~~", Refused(400)),
        // Targets
        ("GET /../%2e%2e/a//b/. HTTP/1.1~host: a~connection: close~~", Passed(1)),
        ("GET http://other.example/x HTTP/1.1~host: a~connection: close~~", Passed(1)),
        ("GET a HTTP/1.1~host: a~connection: close~~", Refused(400)),
        ("OPTIONS * HTTP/1.1~host: a~connection: close~~", Passed(1)),
        ("GET * HTTP/1.1~host: a~connection: close~~", Refused(400)),
        ("CONNECT other.example:443 HTTP/1.1~host: a~connection: close~~", Refused(501)),
        ("CONNECT / HTTP/1.1~host: a~connection: close~~", Refused(501)),
        ("GET /%00%0d%0aX:y HTTP/1.1~host: a~connection: close~~", Passed(1)),
        // Other protocols
        (
            "GET / HTTP/1.1~host: a~connection: upgrade, http2-settings, close~upgrade: h2c~http2-settings: AAMAAABkAAQAAP__~~",
            Passed(1),
        ),
        ("GET / HTTP/1.1~host: a~connection: close, upgrade~upgrade: websocket~~GET /x HTTP/1.1~host: a~~", Passed(1)),
        ("GET / HTTP/1.1~host: a~upgrade: websocket~connection: close~~", Passed(1)),
        ("PRI * HTTP/2.0~~SM~~nonsense", Closed),
        ("PRI / HTTP/1.1~~", Refused(400)),
        ("PRINT /x HTTP/1.1~host: a~connection: close~~", Passed(1)),
        ("PRI * HTTP/2.0~~SM~", Closed),
        // One after the other
        ("GET /1 HTTP/1.1~host: a~~GET /2 HTTP/1.1~host: a~connection: close~~", Passed(2)),
        ("GET /1 HTTP/1.1~host: a~content-length: 0~~nonsense~~", PassedThenRefused),
        ("POST / HTTP/1.1~host: a~content-length: 5~~helloG /x HTTP/9~~", PassedThenRefused),
        // Headers that would lead the gateway astray
        ("GET / HTTP/1.1~host: a~connection: close, host, x-forwarded-for~~", Passed(1)),
        ("GET / HTTP/1.1~host: a~host: b~connection: close~~", Refused(400)),
        ("GET / HTTP/1.1~connection: close~~", Refused(400)),
        ("GET / HTTP/1.0~connection: close~~", Passed(1)),
        ("GET / HTTP/1.1~host: a~expect: the unexpected~connection: close~~", Refused(417)),
        ("GET / HTTP/1.1~host: a~x-request-id: a\tb~connection: close~~", Passed(1)),
    ];
    let mut rows: Vec<_> = rows.iter().map(|(request, gets)| (request.replace('~', "\r\n"), *gets)).collect();
    let many = |n: usize| (0..n).map(|i| format!("x{i}: y\r\n")).collect::<String>();
    rows.push((format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(20_000)), Refused(431)));
    rows.push((format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", many(200)), Refused(431)));
    rows.push((format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(70_000)), Refused(431)));
    // Bytes that come after the deadline for heads, or never.
    rows.push(("GET / HTTP/1.1\r\nhost: a\r\nx: ".to_owned(), Closed));
    rows.push(("P".to_owned(), Closed));
    rows.push((String::new(), Closed));
    rows
}

/// What a request got.
async fn outcome(service: &Service, seen: &Mutex<Vec<String>>, request: &str) -> (Gets, String) {
    seen.lock().unwrap().clear();
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("an end");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let statuses: Vec<u16> = answer.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)?.parse().ok()).collect();
    let arrived = seen.lock().unwrap().len();
    let gets = match (&statuses[..], arrived) {
        ([], 0) => Closed,
        ([status], 0) => Refused(*status),
        ([200, 400], 1) => PassedThenRefused,
        (all, arrived) if all.len() == arrived && all.iter().all(|status| *status == 200) => Passed(arrived),
        _ => panic!("{arrived} requests reached the upstream, of {request:?}, which got {answer}"),
    };
    (gets, answer)
}

#[tokio::test]
async fn each_gets_what_it_deserves_and_none_becomes_two() {
    let (upstream, seen) = upstream().await;
    let service = Service::start(upstream, &["--forward", "--header-timeout", "500ms"]).await;
    let rows = table();
    assert!(rows.len() >= 60);
    let mut wrong = Vec::new();
    for (request, expected) in &rows {
        let (gets, answer) = outcome(&service, &seen, request).await;
        if let Refused(status) = gets {
            let (head, payload) = answer.split_once("\r\n\r\n").expect(request);
            assert!(head.contains(&format!("content-length: {}", payload.len())), "{request:?} got {answer}");
            let payload: serde_json::Value = serde_json::from_str(payload).expect(request);
            assert_eq!(payload["status"], status, "{request:?}");
        }
        if gets != *expected {
            let start: String = request.chars().take(120).collect();
            wrong.push(format!(
                "{start:?} got {gets:?} instead of {expected:?}: {}",
                answer.lines().next().unwrap_or_default()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(call(service.address, "GET", "/").await.status, 200, "it serves on");
}

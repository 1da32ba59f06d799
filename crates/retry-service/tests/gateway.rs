//! The gateway, as a program: what callers and the upstream see of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{net::SocketAddr, sync::atomic::Ordering::SeqCst, time::Duration};

use bytes::Bytes;
use delayed_backend::Backend;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use support::{Answer, QUICK, Service, backend, gateway, raw_backend, refusing, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// Believes what the callers of this test say, among it their request ids.
const TRUSTED: [&str; 2] = ["--trusted-proxies", "127.0.0.1"];

/// Sends these bytes and reads until the gateway closes.
async fn raw(address: SocketAddr, request: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_ref()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that breaks has said what it had to say.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn send(address: SocketAddr, head: &str, body: &str) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let request = format!("{head}\r\nhost: shop.example\r\n{length}connection: close\r\n\r\n{body}");
    Answer::parse(&raw(address, request).await)
}

async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, &format!("GET {path} HTTP/1.1"), "").await
}

/// An upstream for one request, which is what it hands back.
async fn recorder() -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let request = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"hello") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
        }
        let answer = "HTTP/1.1 200 OK\r\nconnection: x-mine\r\nx-mine: 1\r\nx-kept: 2\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, request)
}

#[tokio::test]
async fn a_request_goes_on_as_it_came_but_for_what_concerns_one_hop() {
    let (upstream, request) = recorder().await;
    let service = gateway(upstream, &TRUSTED).await;
    let head = "REPORT /../a%2Fb/./c?q=%20&r HTTP/1.1\r\nx-kept: 1\r\nconnection: x-mine\r\nx-mine: 2\r\nkeep-alive: 3\r\nx-request-id: me-7";
    let answer = send(service.address, head, "hello").await;
    let request = request.await.unwrap();
    let mut lines = request.split("\r\n");
    assert_eq!(lines.next(), Some("REPORT /../a%2Fb/./c?q=%20&r HTTP/1.1"));
    let mut headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    headers.sort_unstable();
    let [length, told_host, via, rest @ ..] = &headers[..] else { panic!("{request}") };
    assert_eq!((*length, *told_host), ("content-length: 5", "host: shop.example"));
    assert!(via.starts_with("via: 1.1 retry-service-"), "{via}");
    let expected = [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: shop.example",
        "x-forwarded-proto: http",
        "x-kept: 1",
        "x-request-id: me-7",
    ];
    assert_eq!(rest, expected);
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    answer.has_header("x-kept: 2");
    answer.has_header("x-request-id: me-7");
    assert!(answer.headers.contains("via: 1.1 retry-service-"), "{}", answer.headers);
    assert!(!answer.headers.contains("x-mine"), "{}", answer.headers);
}

#[tokio::test]
async fn a_question_about_the_server_as_a_whole_stays_one() {
    let (upstream, request) = recorder().await;
    let service = gateway(upstream, &[]).await;
    send(service.address, "OPTIONS * HTTP/1.1", "hello").await;
    let request = request.await.unwrap();
    assert!(request.starts_with("OPTIONS * HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn host_and_forwarded_are_by_choice() {
    let backend = backend("ok").await;
    let service = gateway(backend.address(), &["--host", "keep", "--forwarded", "forwarded"]).await;
    let echo = get(service.address, "/echo").await.body;
    assert!(echo.contains("\nhost: shop.example\r\n"), "{echo}");
    assert!(echo.contains("forwarded: for=127.0.0.1;host=\"shop.example\";proto=http\r\n"), "{echo}");
    assert!(!echo.contains("x-forwarded-for"), "{echo}");
}

#[tokio::test]
async fn hiccups_are_invisible() {
    for hiccup in
        ["status=503", "reset", "close", "garbage", "reset-after=20", "status=502", "truncate", "close-after=200"]
    {
        let backend = backend(&format!("{hiccup},{hiccup},ok")).await;
        let service = gateway(backend.address(), &[]).await;
        let answer = get(service.address, "/bytes/1000").await;
        assert_eq!((answer.status, answer.body.len()), (200, 1000), "{hiccup}");
        assert_eq!(backend.requests().len(), 3, "{hiccup}");
    }
}

#[tokio::test]
async fn a_large_answer_that_breaks_off_is_gone_on_with() {
    let backend = backend("close-after=100000,ok").await;
    let service = gateway(backend.address(), &[]).await;
    let answer = get(service.address, "/bytes/300000").await;
    assert_eq!((answer.status, answer.body.len()), (200, 300_000));
    assert_eq!(backend.requests().len(), 2);
}

#[tokio::test]
async fn an_answer_that_cannot_be_saved_cannot_be_taken_for_whole() {
    let backend = backend("close-after=50000").await;
    let service = gateway(backend.address(), &["--count", "0"]).await;
    let request = "GET /bytes/300000 HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = raw(service.address, request).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
    assert!(head.to_ascii_lowercase().contains("content-length: 300000"), "{head}");
    assert!(body.len() < 300_000);
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn a_post_that_may_have_been_processed_is_sent_once() {
    for (fault, status) in [("reset", 502), ("close", 502), ("garbage", 502), ("status=503", 503)] {
        let backend = backend(fault).await;
        let service = gateway(backend.address(), &[]).await;
        let answer = send(service.address, "POST /echo HTTP/1.1", "pay").await;
        assert_eq!(answer.status, status, "{fault}");
        assert_eq!(backend.requests().len(), 1, "{fault}");
    }
}

#[tokio::test]
async fn when_attempts_run_out_the_last_answer_is_the_callers() {
    let backend = backend("status=503;retry-after=0").await;
    let service = gateway(backend.address(), &["--count", "2"]).await;
    let direct = get(backend.address(), "/hello").await;
    let answer = get(service.address, "/hello").await;
    assert_eq!((answer.status, answer.body), (503, direct.body));
    assert_eq!(backend.requests().len(), 1 + 3);
}

#[tokio::test]
async fn no_header_of_a_callers_changes_the_policy() {
    let backend = backend("status=503").await;
    let service = gateway(backend.address(), &["--count", "1"]).await;
    let head = "GET /hello HTTP/1.1\r\nx-envoy-max-retries: 9\r\nx-envoy-retry-on: 5xx\r\nl5d-retry-limit: 9\r\nl5d-retry-http: 5xx";
    assert_eq!(send(service.address, head, "").await.status, 503);
    assert_eq!(backend.received(), 2);
}

#[tokio::test]
async fn what_the_upstream_does_has_its_status() {
    let (nobody, _socket) = refusing();
    let service = gateway(nobody, &["--count", "1"]).await;
    let answer = get(service.address, "/x?y").await;
    assert_eq!((answer.status, answer.field("message")), (502, "cannot connect to the upstream (2 attempts)".into()));
    assert_eq!(answer.field("path"), "/x?y");

    let (silent, requests, _tasks) = raw_backend("").await;
    let service = gateway(silent, &["--count", "1", "--timeout", "100ms"]).await;
    let answer = get(service.address, "/").await;
    assert_eq!(
        (answer.status, answer.field("message")),
        (504, "the upstream did not answer in time (2 attempts)".into())
    );
    assert_eq!(requests.load(SeqCst), 2);
}

#[tokio::test]
async fn a_caller_that_hangs_up_ends_the_attempts() {
    let backend = backend("status=503").await;
    let flags = ["--interval", "1h", "--max-wait-interval", "1h", "--access-log"];
    let mut service = gateway(backend.address(), &[&flags[..], &TRUSTED].concat()).await;
    for (round, request) in [
        "GET /hello HTTP/1.1\r\nhost: a\r\nx-request-id: mine\r\n\r\n",
        "PUT /echo HTTP/1.1\r\nhost: a\r\nx-request-id: mine\r\ncontent-length: 5\r\n\r\nhello",
        "PUT /echo HTTP/1.1\r\nhost: a\r\nx-request-id: mine\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let mut caller = TcpStream::connect(service.address).await.unwrap();
        caller.write_all(request.as_bytes()).await.unwrap();
        let arrives = async {
            while backend.requests().len() == round {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(30), arrives).await.expect(request);
        drop(caller);
        let line = timeout(Duration::from_secs(30), service.next_log()).await.expect(request);
        assert!(line.contains(" 499 ") && line.contains("caller hung up"), "{request}: {line}");
        assert!(line.contains(" id mine,"), "{request}: {line}");
        assert_eq!(backend.requests().len(), round + 1, "{request}");
    }
}

/// The upstream says nothing, so nothing but the caller's leaving is there to be noticed.
#[tokio::test]
async fn a_caller_that_hangs_up_is_noticed_while_the_upstream_is_silent() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut service = gateway(silent.local_addr().unwrap(), &["--timeout", "off", "--access-log"]).await;
    for (request, end) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "\r\n\r\n"),
        ("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", "hello"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "0\r\n\r\n"),
    ] {
        let mut caller = TcpStream::connect(service.address).await.unwrap();
        caller.write_all(request.as_bytes()).await.unwrap();
        let (mut upstream, _) = silent.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(end.as_bytes()) {
            assert_ne!(upstream.read_buf(&mut received).await.unwrap(), 0, "{request}");
        }
        drop(caller);
        let line = timeout(Duration::from_secs(30), service.next_log()).await.expect(request);
        assert!(line.contains("caller hung up"), "{request}: {line}");
    }
}

/// The wait for the head of a request is limited; neither is an upload that goes on after the answer cut by that, nor is
/// it a way round, whether the next head comes too slowly or not at all.
#[tokio::test]
async fn an_early_answer_neither_cuts_the_upload_nor_lifts_the_limit_on_the_next_request() {
    for slow in [true, false] {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = gateway(upstream.local_addr().unwrap(), &["--header-timeout", "500ms"]).await;
        let mut caller = TcpStream::connect(service.address).await.unwrap();
        caller.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n").await.unwrap();
        let (mut server, _) = upstream.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n") {
            assert_ne!(server.read_buf(&mut received).await.unwrap(), 0);
        }
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"ok") {
            assert_ne!(caller.read_buf(&mut answer).await.unwrap(), 0);
        }
        // Twice as long as a head may take.
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            caller.write_all(b"x").await.unwrap();
        }
        while !received.ends_with(b"xxxxxxxxxx") {
            assert_ne!(server.read_buf(&mut received).await.unwrap(), 0, "the upload was cut off");
        }
        let (mut reading, mut writing) = caller.into_split();
        let given_up_on = async {
            // A reset is an end as well.
            let _ = reading.read_to_end(&mut answer).await;
        };
        let dribble = async {
            while slow && writing.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            std::future::pending::<()>().await;
        };
        let ended = async {
            tokio::select! {
                () = given_up_on => {}
                () = dribble => {}
            }
        };
        timeout(Duration::from_secs(30), ended).await.expect("the caller is given up on");
    }
}

#[tokio::test]
async fn a_request_in_circles_is_refused() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let service = Service::start(address, &["--forward", "--listen", &address.to_string(), "--status-codes", ""]).await;
    assert_eq!(get(service.address, "/").await.status, 508);
}

#[tokio::test]
async fn more_requests_than_allowed_are_turned_away_at_once() {
    let (silent, requests, _tasks) = raw_backend("").await;
    let service = gateway(silent, &[&["--max-in-flight", "1"], &TRUSTED[..]].concat()).await;
    let mut held = TcpStream::connect(service.address).await.unwrap();
    held.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while requests.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let answer = send(service.address, "GET / HTTP/1.1\r\nx-request-id: mine", "").await;
    assert_eq!(answer.status, 503);
    answer.has_header("retry-after: 1");
    answer.has_header("x-request-id: mine");
    assert_eq!(requests.load(SeqCst), 1);
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let backend = backend("ok").await;
    let service = gateway(backend.address(), &["--max-body-size", "10", "--max-header-size", "8KiB"]).await;
    assert_eq!(send(service.address, "POST /echo HTTP/1.1", "0123456789").await.status, 200);
    assert_eq!(send(service.address, "POST /echo HTTP/1.1", "0123456789a").await.status, 413);
    let chunked = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
    assert_eq!(Answer::parse(&raw(service.address, chunked).await).status, 413);
    let head = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(9000));
    let answer = send(service.address, &head, "").await;
    assert_eq!((answer.status, answer.field("message")), (431, "the head of the request is too large".into()));
    let service = gateway(backend.address(), &["--max-header-size", "128KiB"]).await;
    let answer = get(service.address, &format!("/{}", "x".repeat(70_000))).await;
    assert_eq!((answer.status, answer.field("message")), (414, "the target of the request is too long".into()));
}

#[tokio::test]
async fn a_body_is_asked_for_once_it_can_go_on() {
    let backend = backend("ok").await;
    let service = gateway(backend.address(), &[]).await;
    let mut caller = TcpStream::connect(service.address).await.unwrap();
    let head =
        "PUT /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n";
    caller.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    caller.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    caller.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let (nobody, _socket) = refusing();
    let service = gateway(nobody, &[]).await;
    assert!(raw(service.address, head).await.starts_with("HTTP/1.1 502"), "no body is asked for in vain");
    let head = head.replace("100-continue", "a miracle");
    assert!(raw(service.address, head).await.starts_with("HTTP/1.1 417"));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    let upstream = (
        upstream,
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") || !request.windows(5).any(|end| end == b"\r\n0\r\n") {
                assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0);
            }
            let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        }),
    );
    let service = gateway(upstream.0, &[]).await;
    let request = "PUT / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close, te\r\ntransfer-encoding: chunked\r\ntrailer: x-check\r\n\r\n5\r\nhello\r\n0\r\nx-check: 1\r\n\r\n";
    let answer = raw(service.address, request).await;
    assert!(answer.ends_with("0\r\nx-sum: 2\r\n\r\n"), "{answer}");
    let arrived = upstream.1.await.unwrap();
    assert!(arrived.ends_with("5\r\nhello\r\n0\r\nx-check: 1\r\n\r\n"), "{arrived}");
    assert!(arrived.contains("te: trailers\r\n"), "{arrived}");
}

#[tokio::test]
async fn another_protocol_passes_through_once_agreed_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        let request = String::from_utf8(request).unwrap();
        assert!(request.contains("upgrade: chat\r\n") && request.contains("connection: upgrade\r\n"), "{request}");
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: chat\r\nconnection: upgrade\r\n\r\nhi")
            .await
            .unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let service = gateway(upstream, &[]).await;
    let mut caller = TcpStream::connect(service.address).await.unwrap();
    caller.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: chat\r\n\r\nyo").await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"hiyo") {
        assert_ne!(caller.read_buf(&mut said).await.unwrap(), 0, "{}", String::from_utf8_lossy(&said));
    }
    assert!(said.starts_with(b"HTTP/1.1 101 "));
    caller.shutdown().await.unwrap();
    assert_eq!(caller.read_buf(&mut said).await.unwrap(), 0);
}

#[tokio::test]
async fn an_upgrade_is_not_repeated() {
    let backend = backend("status=503").await;
    let service = gateway(backend.address(), &[]).await;
    let request = "GET /hello HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n";
    assert!(raw(service.address, request).await.starts_with("HTTP/1.1 503"));
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn attempts_are_told_to_those_who_ask() {
    let backend = backend("status=503,ok").await;
    let mut service = gateway(backend.address(), &[&["--server-timing", "--access-log"], &TRUSTED[..]].concat()).await;
    let answer = send(service.address, "GET /hello?secret HTTP/1.1\r\nx-request-id: r1", "").await;
    let timing = answer.headers.lines().find(|line| line.starts_with("server-timing: ")).expect(&answer.headers);
    let told: Vec<_> =
        timing["server-timing: ".len()..].split(", ").map(|part| part.split(';').next().unwrap()).collect();
    assert_eq!(told, ["attempt1", "wait1", "attempt2"]);
    service.signal("TERM").await;
    let log = service.rest_of_log().await.join("\n");
    assert!(log.contains("127.0.0.1 GET /hello 200 "), "{log}");
    assert!(log.contains("2 attempts, id r1"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn a_stop_under_load_loses_no_request_that_was_accepted() {
    let backend = backend("delay=50ms").await;
    let mut service = gateway(backend.address(), &[]).await;
    let mut callers = JoinSet::new();
    for _ in 0..40 {
        let address = service.address;
        callers.spawn(async move {
            let mut answered = 0;
            // Until the gateway takes no more connections.
            while let Ok(mut stream) = TcpStream::connect(address).await {
                stream.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
                let mut answer = Vec::new();
                match stream.read_to_end(&mut answer).await {
                    Ok(_) if answer.starts_with(b"HTTP/1.1 200") => answered += 1,
                    other => return Err((answered, other, String::from_utf8_lossy(&answer).into_owned())),
                }
            }
            Ok(answered)
        });
    }
    while backend.requests().len() < 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service.signal("TERM").await;
    assert!(timeout(Duration::from_secs(20), service.exit()).await.unwrap().success());
    let mut answered = 0;
    while let Some(outcome) = callers.join_next().await {
        answered += outcome.unwrap().unwrap();
    }
    assert_eq!(answered, backend.requests().len(), "every request that reached the upstream was answered");
    println!("{answered} requests, all answered");
}

#[tokio::test]
async fn a_broken_answer_is_not_taken_for_whole_even_by_http_1_0() {
    let (upstream, _, _tasks) =
        raw_backend("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    let service = gateway(upstream, &["--response-buffer", "0"]).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n").await.unwrap();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// What hyper says itself of a request that it cannot read gets a payload; what an upstream says that looks like it does
/// not.
#[tokio::test]
async fn a_body_that_looks_like_a_refusal_is_passed_on_as_it_is() {
    let refusal = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &[]).await;
    let mut caller = TcpStream::connect(service.address).await.unwrap();
    // A POST, so that the answer is passed on as it comes.
    caller.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let (mut upstream, _) = listener.accept().await.unwrap();
    let head = async |stream: &mut TcpStream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut head).await.unwrap(), 0);
        }
    };
    head(&mut upstream).await;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", refusal.len());
    upstream.write_all(answer.as_bytes()).await.unwrap();
    head(&mut caller).await;
    upstream.write_all(refusal.as_bytes()).await.unwrap();
    let mut body = vec![0; refusal.len()];
    caller.read_exact(&mut body).await.unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), refusal);
    // And after that the caller's own mistake is told as any other.
    caller.write_all(b"what?\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    let answer = Answer::parse(&answer);
    assert_eq!((answer.status, answer.field("message")), (400, "this is no valid request".into()), "{}", answer.body);
}

/// On HTTP/2 nothing is put among the frames.
#[tokio::test]
async fn over_http2_too_a_body_that_looks_like_a_refusal_is_passed_on_as_it_is() {
    let refusal = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &[]).await;
    let client = http2_client();
    let request = Request::post(format!("http://{}/", service.address)).body(Full::default()).unwrap();
    let answer = tokio::spawn(client.request(request));
    let (mut upstream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert_ne!(upstream.read_buf(&mut head).await.unwrap(), 0);
    }
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", refusal.len());
    upstream.write_all(head.as_bytes()).await.unwrap();
    let answer = answer.await.unwrap().unwrap();
    upstream.write_all(refusal.as_bytes()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), refusal);
}

/// A client that speaks HTTP/2 from the first byte.
fn http2_client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

/// RFC 9110, section 9.3.2.
#[tokio::test]
async fn a_response_to_head_has_no_content_over_http2_either() {
    let backend = backend("ok").await;
    let mut service = gateway(backend.address(), &["--admin", "127.0.0.1:0"]).await;
    let admin = service.admin().await;
    let client = http2_client();
    for (url, status) in [
        (format!("http://{}/", service.address), StatusCode::EXPECTATION_FAILED),
        (format!("http://{admin}/healthz"), StatusCode::OK),
        (format!("http://{}/unknown", backend.address()), StatusCode::NOT_FOUND),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let request = Request::builder().method(&method).uri(&url).header("expect", "nothing");
            let response = client.request(request.body(Full::default()).unwrap()).await.unwrap();
            assert_eq!(response.status(), status, "{method} {url}");
            let length = response.headers()["content-length"].to_str().unwrap().parse::<usize>().unwrap();
            assert!(length > 0, "{method} {url}");
            let content = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(content.len(), if method == Method::GET { length } else { 0 }, "{method} {url}");
        }
    }
}

#[tokio::test]
async fn http2_works_on_either_side_and_on_both() {
    for upstream_http2 in [false, true] {
        let backend = backend("status=503,ok").await;
        let service = gateway(backend.address(), if upstream_http2 { &["--upstream-http2"] } else { &[] }).await;
        let client = http2_client();
        let request = Request::put(format!("http://{}/echo?q", service.address))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(Full::from("payload"))
            .unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
        assert!(response.headers()["via"].to_str().unwrap().starts_with("2.0 retry-service-"), "{response:?}");
        let echoed = response.into_body().collect().await.unwrap().to_bytes();
        let echoed = String::from_utf8(echoed.to_vec()).unwrap();
        assert!(
            echoed.starts_with(&format!("PUT /echo?q HTTP/{}", if upstream_http2 { "2" } else { "1.1" })),
            "{echoed}"
        );
        assert!(echoed.contains("cookie: a=1; b=2\r\n") || echoed.contains("cookie: a=1; b=2\n"), "{echoed}");
        assert!(echoed.ends_with("payload"), "{echoed}");
        assert_eq!(backend.received(), 2);
        // HTTP/1.1 at the same port.
        assert_eq!(get(service.address, "/hello").await.status, 200);
    }
}

#[tokio::test]
async fn over_http2_a_broken_answer_is_not_taken_for_whole() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let (upstream, requests, _tasks) = raw_backend(answer).await;
    let service = gateway(upstream, &["--response-buffer", "0"]).await;
    let client = http2_client();
    for number in 1..=2 {
        // The reset of the stream may overtake its head.
        let error = match client.get(format!("http://{}/", service.address).parse().unwrap()).await {
            Ok(response) => {
                assert_eq!(response.status(), StatusCode::OK);
                format!("{:?}", response.into_body().collect().await.unwrap_err())
            }
            Err(error) => format!("{error:?}"),
        };
        assert!(error.contains("Reset("), "{error}");
        assert_eq!(requests.load(SeqCst), number);
    }
}

/// A gateway to this server, with these arguments.
async fn secured(backend: &Backend, more: &[&str]) -> Service {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.args(QUICK).args(["--listen", "127.0.0.1:0", "--upstream", &backend.url()]).args(more);
    Service::spawn(command).await
}

/// A file with the authority of this server.
fn authority_of(backend: &Backend, name: &str) -> String {
    let file = std::env::temp_dir().join(format!("retry-service-{name}-{}.pem", std::process::id()));
    std::fs::write(&file, backend.authority_pem().unwrap()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_https_upstream_is_trusted_by_its_authority() {
    let backend = Backend::start_tls("status=503,ok".parse().unwrap()).await.unwrap();
    let authority = authority_of(&backend, "authority");
    let service = secured(&backend, &["--upstream-ca", &authority]).await;
    assert_eq!(get(service.address, "/hello").await.status, 200);
    assert_eq!(backend.received(), 2);
    let stranger = secured(&backend, &[]).await;
    assert_eq!(get(stranger.address, "/hello").await.status, 502);
    assert_eq!(backend.received(), 2);
    std::fs::remove_file(authority).unwrap();
}

/// The server speaks HTTP/2, as is found out when the connection is made: there is room for all on it.
#[tokio::test]
async fn uploads_share_a_connection_without_a_limit_of_their_own() {
    let backend = Backend::start_tls("ok".parse().unwrap()).await.unwrap();
    let authority = authority_of(&backend, "uploads");
    let limits = ["--upstream-max-connections", "1", "--request-buffer-time", "10ms"];
    let service = secured(&backend, &[&limits[..], &["--upstream-ca", &authority]].concat()).await;
    assert_eq!(get(service.address, "/hello").await.status, 200);
    let mut uploads = Vec::new();
    for _ in 0..3 {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        let begun = "PUT /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
        client.write_all(begun.as_bytes()).await.unwrap();
        uploads.push(client);
    }
    let all = async {
        while backend.received() < 4 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within("all uploads to be on their way", all).await;
    std::fs::remove_file(authority).unwrap();
}

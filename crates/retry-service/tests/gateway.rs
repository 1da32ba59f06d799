//! The gateway, end to end: what clients and the upstream see of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{future::pending, net::SocketAddr, sync::atomic::Ordering::SeqCst, time::Duration};

use delayed_backend::Backend;
use http::{Method, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use support::{
    QUICK, Service, backend, call, gateway, http2,
    message::{self, Response, exchange, exchange_bytes, read_until},
    raw_backend, refusing,
    temp_file::TempFile,
    upstream::{Reply, Upstream, ok},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

/// Trusts the clients of these tests, including their request ids.
const TRUSTED: [&str; 2] = ["--trusted-proxies", "127.0.0.1"];

/// Sends a request with a `Content-Length` if there is a body.
async fn send(address: SocketAddr, head: &str, body: &str) -> Response {
    let length = if body.is_empty() { String::new() } else { format!("\r\ncontent-length: {}", body.len()) };
    message::send(address, &format!("{head}{length}"), body).await
}

#[tokio::test]
async fn a_request_is_forwarded_unchanged_except_for_hop_by_hop_headers() {
    let reply = "HTTP/1.1 200 OK\r\nconnection: x-mine\r\nx-mine: 1\r\nx-kept: 2\r\ncontent-length: 2\r\n\r\nok";
    let upstream = Upstream::playing([Reply::new(reply)]).await;
    let service = gateway(upstream.address, &TRUSTED).await;
    let head = "REPORT /../a%2Fb/./c?q=%20&r HTTP/1.1\r\nx-kept: 1\r\nconnection: x-mine\r\nx-mine: 2\r\n\
                keep-alive: 3\r\nx-request-id: me-7";
    let response = send(service.address, head, "hello").await;
    let request = upstream.only().text;
    let mut lines = request.split("\r\n");
    assert_eq!(lines.next(), Some("REPORT /../a%2Fb/./c?q=%20&r HTTP/1.1"));
    let mut headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    headers.sort_unstable();
    let [length, host, via, rest @ ..] = &headers[..] else { panic!("{request}") };
    assert_eq!((*length, *host), ("content-length: 5", "host: shop.example"));
    assert!(via.starts_with("via: 1.1 retry-service-"), "{via}");
    let expected = [
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: shop.example",
        "x-forwarded-proto: http",
        "x-kept: 1",
        "x-request-id: me-7",
    ];
    assert_eq!(rest, expected);
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    response.has_header("x-kept: 2");
    response.has_header("x-request-id: me-7");
    assert!(response.head.contains("via: 1.1 retry-service-"), "{}", response.head);
    assert!(!response.head.contains("x-mine"), "{}", response.head);
}

#[tokio::test]
async fn options_of_the_whole_server_is_forwarded_as_such() {
    let upstream = Upstream::playing([ok("ok")]).await;
    let service = gateway(upstream.address, &[]).await;
    send(service.address, "OPTIONS * HTTP/1.1", "hello").await;
    assert_eq!(upstream.only().line(), "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn host_and_forwarded_can_be_selected() {
    let backend = backend("ok").await;
    let service = gateway(backend.address(), &["--host", "keep", "--forwarded", "forwarded"]).await;
    let echo = call(service.address, "GET", "/echo").await.text();
    assert!(echo.contains("\nhost: shop.example\r\n"), "{echo}");
    assert!(echo.contains("forwarded: for=127.0.0.1;host=\"shop.example\";proto=http\r\n"), "{echo}");
    assert!(!echo.contains("x-forwarded-for"), "{echo}");
}

#[tokio::test]
async fn short_failures_are_invisible_to_the_client() {
    for fault in
        ["status=503", "reset", "close", "garbage", "reset-after=20", "status=502", "truncate", "close-after=200"]
    {
        let backend = backend(&format!("{fault},{fault},ok")).await;
        let service = gateway(backend.address(), &[]).await;
        let response = call(service.address, "GET", "/bytes/1000").await;
        assert_eq!((response.status, response.body.len()), (200, 1000), "{fault}");
        assert_eq!(backend.requests().len(), 3, "{fault}");
    }
}

#[tokio::test]
async fn a_large_response_that_is_incomplete_is_resumed() {
    let backend = backend("close-after=100000,ok").await;
    let service = gateway(backend.address(), &[]).await;
    let response = call(service.address, "GET", "/bytes/300000").await;
    assert_eq!((response.status, response.body.len()), (200, 300_000));
    assert_eq!(backend.requests().len(), 2);
}

#[tokio::test]
async fn a_response_that_cannot_be_completed_is_recognizably_incomplete() {
    let backend = backend("close-after=50000").await;
    let service = gateway(backend.address(), &["--count", "0"]).await;
    let request = "GET /bytes/300000 HTTP/1.1\r\nhost: a\r\n\r\n";
    let response = exchange(service.address, request).await;
    assert_eq!(response.field("content-length"), Some("300000"));
    assert!(!response.is_complete && response.body.len() < 300_000);
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn a_post_that_may_have_been_processed_is_sent_once() {
    for (fault, status) in [("reset", 502), ("close", 502), ("garbage", 502), ("status=503", 503)] {
        let backend = backend(fault).await;
        let service = gateway(backend.address(), &[]).await;
        let response = send(service.address, "POST /echo HTTP/1.1", "pay").await;
        assert_eq!(response.status, status, "{fault}");
        assert_eq!(backend.requests().len(), 1, "{fault}");
    }
}

#[tokio::test]
async fn the_last_response_is_passed_on_when_there_are_no_retries_left() {
    let backend = backend("status=503;retry-after=0").await;
    let service = gateway(backend.address(), &["--count", "2"]).await;
    let direct = call(backend.address(), "GET", "/hello").await;
    let response = call(service.address, "GET", "/hello").await;
    assert_eq!((response.status, response.body), (503, direct.body));
    assert_eq!(backend.requests().len(), 1 + 3);
}

#[tokio::test]
async fn no_header_of_a_client_changes_the_policy() {
    let backend = backend("status=503").await;
    let service = gateway(backend.address(), &["--count", "1"]).await;
    let head = "GET /hello HTTP/1.1\r\nx-envoy-max-retries: 9\r\nx-envoy-retry-on: 5xx\r\nl5d-retry-limit: 9\r\nl5d-retry-http: 5xx";
    assert_eq!(send(service.address, head, "").await.status, 503);
    assert_eq!(backend.received(), 2);
}

#[tokio::test]
async fn each_failure_of_the_upstream_has_its_own_status() {
    let (address, _socket) = refusing();
    let service = gateway(address, &["--outage-wait", "100ms"]).await;
    let response = call(service.address, "POST", "/x?y").await;
    assert_eq!((response.status, response.json("message")), (503, "the upstream cannot be connected to".into()));
    assert_eq!((response.json("path"), response.field("retry-after")), ("/x?y".into(), Some("1")));
    let service = gateway(address, &["--outage-wait", "off", "--count", "1"]).await;
    let response = call(service.address, "POST", "/").await;
    assert_eq!(
        (response.status, response.json("message")),
        (502, "cannot connect to the upstream (2 attempts)".into())
    );

    let (silent, requests, _tasks) = raw_backend("").await;
    let service = gateway(silent, &["--count", "1", "--timeout", "100ms"]).await;
    let response = call(service.address, "GET", "/").await;
    assert_eq!(
        (response.status, response.json("message")),
        (504, "the upstream did not respond in time (2 attempts)".into())
    );
    assert_eq!(requests.load(SeqCst), 2);
    let response = call(service.address, "POST", "/").await;
    assert_eq!(
        (response.status, response.json("message")),
        (504, "the upstream did not respond in time (1 attempt, not safe to repeat)".into())
    );
}

#[tokio::test]
async fn attempts_are_canceled_when_the_client_disconnects() {
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
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let arrives = async {
            while backend.requests().len() == round {
                tokio::task::yield_now().await;
            }
        };
        within("the request", arrives).await;
        drop(client);
        let line = service.next_log().await;
        assert!(line.contains(" 499 ") && line.contains("client disconnected before the response"), "{request}: {line}");
        assert!(line.contains(" id mine,"), "{request}: {line}");
        assert_eq!(backend.requests().len(), round + 1, "{request}");
    }
}

/// The upstream sends nothing, so that the only event is the end of the client's connection.
#[tokio::test]
async fn a_disconnect_of_the_client_is_noticed_while_the_upstream_is_silent() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut service = gateway(silent.local_addr().unwrap(), &["--timeout", "off", "--access-log"]).await;
    for (request, end) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "\r\n\r\n"),
        ("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", "hello"),
        ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", "0\r\n\r\n"),
    ] {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut upstream, _) = within("a connection", silent.accept()).await.unwrap();
        read_until(&mut upstream, end).await;
        drop(client);
        let line = service.next_log().await;
        assert!(line.contains("client disconnected before the response"), "{request}: {line}");
    }
}

/// The timeout for request heads does not apply to an upload that continues after the response, and applies again to the
/// next request, whether its head arrives too slowly or not at all.
#[tokio::test]
async fn an_early_response_neither_aborts_the_upload_nor_disables_the_timeout_of_the_next_request() {
    for slow in [true, false] {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = gateway(upstream.local_addr().unwrap(), &["--header-timeout", "500ms"]).await;
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n").await.unwrap();
        let (mut server, _) = within("a connection", upstream.accept()).await.unwrap();
        read_until(&mut server, "\r\n\r\n").await;
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        read_until(&mut client, "ok").await;
        // Twice the timeout.
        for _ in 0..10 {
            sleep(Duration::from_millis(100)).await;
            client.write_all(b"x").await.unwrap();
        }
        read_until(&mut server, "xxxxxxxxxx").await;
        let (mut reading, mut writing) = client.into_split();
        let closed = async {
            // Or reset.
            let _ = reading.read_to_end(&mut Vec::new()).await;
        };
        let dribble = async {
            while slow && writing.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
            pending::<()>().await;
        };
        let ended = async {
            tokio::select! {
                () = closed => {}
                () = dribble => {}
            }
        };
        within("the end of the connection", ended).await;
    }
}

#[tokio::test]
async fn a_loop_is_rejected() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let service = Service::start(address, &["--forward", "--listen", &address.to_string(), "--status-codes", ""]).await;
    assert_eq!(call(service.address, "GET", "/").await.status, 508);
}

#[tokio::test]
async fn requests_over_the_limit_in_flight_are_rejected_at_once() {
    let (silent, requests, _tasks) = raw_backend("").await;
    let service = gateway(silent, &[&["--max-in-flight", "1"], &TRUSTED[..]].concat()).await;
    let mut first = TcpStream::connect(service.address).await.unwrap();
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    while requests.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let response = send(service.address, "GET / HTTP/1.1\r\nx-request-id: mine", "").await;
    assert_eq!(response.status, 503);
    response.has_header("retry-after: 1");
    response.has_header("x-request-id: mine");
    assert_eq!(requests.load(SeqCst), 1);
}

#[tokio::test]
async fn requests_over_a_size_limit_are_rejected() {
    let backend = backend("ok").await;
    let service = gateway(backend.address(), &["--max-body-size", "10", "--max-header-size", "8KiB"]).await;
    assert_eq!(send(service.address, "POST /echo HTTP/1.1", "0123456789").await.status, 200);
    assert_eq!(send(service.address, "POST /echo HTTP/1.1", "0123456789a").await.status, 413);
    let chunked = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\nb\r\n0123456789a\r\n0\r\n\r\n";
    assert_eq!(exchange(service.address, chunked).await.status, 413);
    let head = format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(9000));
    assert_eq!(send(service.address, &head, "").await.status, 431);
    let service = gateway(backend.address(), &["--max-header-size", "128KiB"]).await;
    assert_eq!(call(service.address, "GET", &format!("/{}", "x".repeat(70_000))).await.status, 414);
}

#[tokio::test]
async fn a_client_that_expects_100_continue_gets_it_if_the_upstream_can_be_reached() {
    let backend = backend("ok").await;
    let service = gateway(backend.address(), &[]).await;
    let mut client = TcpStream::connect(service.address).await.unwrap();
    let head =
        "PUT /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").await.unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");

    let (address, _socket) = refusing();
    let service = gateway(address, &["--outage-wait", "100ms"]).await;
    let response = exchange_bytes(service.address, head).await;
    assert!(response.starts_with(b"HTTP/1.1 503"), "the body is not requested");
    let response = exchange_bytes(service.address, head.replace("100-continue", "a miracle")).await;
    assert!(response.starts_with(b"HTTP/1.1 417"));
}

#[tokio::test]
async fn trailers_are_forwarded_in_both_directions() {
    let reply = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                 2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n";
    let upstream = Upstream::playing([Reply::new(reply)]).await;
    let service = gateway(upstream.address, &[]).await;
    let request = "PUT / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close, te\r\n\
                   transfer-encoding: chunked\r\ntrailer: x-check\r\n\r\n5\r\nhello\r\n0\r\nx-check: 1\r\n\r\n";
    let response = exchange(service.address, request).await;
    assert_eq!(response.trailers, "x-sum: 2\r\n\r\n", "{response:?}");
    let received = upstream.only();
    assert!(received.text.ends_with("5\r\nhello\r\n0\r\nx-check: 1\r\n\r\n"), "{received:?}");
    assert_eq!(received.fields("te"), ["trailers"], "{received:?}");
}

#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_until(&mut stream, "\r\n\r\n").await;
        assert!(request.contains("upgrade: chat\r\n") && request.contains("connection: upgrade\r\n"), "{request}");
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: chat\r\nconnection: upgrade\r\n\r\nhi")
            .await
            .unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let service = gateway(upstream, &[]).await;
    let mut client = TcpStream::connect(service.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: chat\r\n\r\nyo").await.unwrap();
    let received = read_until(&mut client, "hiyo").await;
    assert!(received.starts_with("HTTP/1.1 101 "), "{received}");
    client.shutdown().await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn an_upgrade_is_not_retried() {
    let backend = backend("status=503").await;
    let service = gateway(backend.address(), &[]).await;
    let request = "GET /hello HTTP/1.1\r\nhost: a\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(exchange(service.address, request).await.status, 503);
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn attempts_are_in_server_timing_and_in_the_access_log() {
    let backend = backend("status=503,ok").await;
    let mut service = gateway(backend.address(), &[&["--server-timing", "--access-log"], &TRUSTED[..]].concat()).await;
    let response = send(service.address, "GET /hello?secret HTTP/1.1\r\nx-request-id: r1", "").await;
    let timing = response.field("server-timing").expect(&response.head);
    let metrics: Vec<_> = timing.split(", ").map(|metric| metric.split(';').next().unwrap()).collect();
    assert_eq!(metrics, ["attempt1", "wait1", "attempt2"]);
    service.signal("TERM").await;
    let log = service.rest_of_log().await.join("\n");
    assert!(log.contains("127.0.0.1 GET /hello 200 "), "{log}");
    assert!(log.contains("2 attempts, id r1"), "{log}");
    assert!(!log.contains("secret"), "{log}");
}

#[tokio::test]
async fn a_stop_under_load_loses_no_accepted_request() {
    let backend = backend("delay=50ms").await;
    let mut service = gateway(backend.address(), &[]).await;
    let mut clients = JoinSet::new();
    for _ in 0..40 {
        let address = service.address;
        clients.spawn(async move {
            let mut responses = 0;
            // Until the gateway accepts no more connections.
            while let Ok(mut stream) = TcpStream::connect(address).await {
                stream.write_all(b"GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
                let mut response = Vec::new();
                match stream.read_to_end(&mut response).await {
                    Ok(_) if response.starts_with(b"HTTP/1.1 200") => responses += 1,
                    other => return Err((responses, other, String::from_utf8_lossy(&response).into_owned())),
                }
            }
            Ok(responses)
        });
    }
    while backend.requests().len() < 200 {
        sleep(Duration::from_millis(5)).await;
    }
    service.signal("TERM").await;
    assert!(within("the exit", service.exit()).await.success());
    let mut responses = 0;
    while let Some(outcome) = clients.join_next().await {
        responses += outcome.unwrap().unwrap();
    }
    assert_eq!(responses, backend.requests().len(), "every request that reached the upstream got its response");
    println!("{responses} requests, each with a response");
}

#[tokio::test]
async fn an_incomplete_response_is_recognizable_even_over_http_1_0() {
    let (upstream, _, _tasks) =
        raw_backend("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").await;
    let service = gateway(upstream, &["--response-buffer", "0"]).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n").await.unwrap();
    let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// The body looks like a response that hyper itself sends to a malformed request.
#[tokio::test]
async fn a_body_that_looks_like_an_error_response_is_passed_on_unchanged() {
    let refusal = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &[]).await;
    let mut client = TcpStream::connect(service.address).await.unwrap();
    // The response to a POST is not buffered for long.
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let (mut upstream, _) = within("a connection", listener.accept()).await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", refusal.len());
    upstream.write_all(response.as_bytes()).await.unwrap();
    read_until(&mut client, "\r\n\r\n").await;
    upstream.write_all(refusal.as_bytes()).await.unwrap();
    let mut body = vec![0; refusal.len()];
    client.read_exact(&mut body).await.unwrap();
    assert_eq!(String::from_utf8(body).unwrap(), refusal);
    // After that, a malformed request is rejected as usual.
    client.write_all(b"what?\r\n\r\n").await.unwrap();
    let mut response = Vec::new();
    client.read_to_end(&mut response).await.unwrap();
    assert_eq!(Response::parse(&response).status, 400);
}

#[tokio::test]
async fn a_body_that_looks_like_an_error_response_is_passed_on_unchanged_over_http2() {
    let refusal = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &[]).await;
    let client = http2::client();
    let request = Request::post(format!("http://{}/", service.address)).body(Full::default()).unwrap();
    let response = tokio::spawn(client.request(request));
    let (mut upstream, _) = within("a connection", listener.accept()).await.unwrap();
    read_until(&mut upstream, "\r\n\r\n").await;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", refusal.len());
    upstream.write_all(head.as_bytes()).await.unwrap();
    let response = response.await.unwrap().unwrap();
    upstream.write_all(refusal.as_bytes()).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), refusal);
}

/// RFC 9110, section 9.3.2.
#[tokio::test]
async fn a_response_to_head_has_no_content_over_http2_either() {
    let backend = backend("ok").await;
    let mut service = gateway(backend.address(), &["--admin", "127.0.0.1:0"]).await;
    let admin = service.admin().await;
    let client = http2::client();
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
async fn http2_works_with_clients_and_upstreams_and_both() {
    for upstream_http2 in [false, true] {
        let backend = backend("status=503,ok").await;
        let service = gateway(backend.address(), if upstream_http2 { &["--upstream-http2"] } else { &[] }).await;
        let client = http2::client();
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
        // HTTP/1.1 on the same port.
        assert_eq!(call(service.address, "GET", "/hello").await.status, 200);
    }
}

#[tokio::test]
async fn an_incomplete_response_is_recognizable_over_http2() {
    let response = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let (upstream, requests, _tasks) = raw_backend(response).await;
    let service = gateway(upstream, &["--response-buffer", "0"]).await;
    let client = http2::client();
    for number in 1..=2 {
        // The reset of the stream may arrive before its head.
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

/// A gateway to this backend.
async fn gateway_to(backend: &Backend, more: &[&str]) -> Service {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.args(QUICK).args(["--listen", "127.0.0.1:0", "--upstream", &backend.url()]).args(more);
    Service::spawn(command).await
}

/// A file with the certificate authority of this backend.
fn authority_of(backend: &Backend) -> TempFile {
    TempFile::new(backend.ca_pem().unwrap())
}

#[tokio::test]
async fn an_https_upstream_is_trusted_through_its_certificate_authority() {
    let backend = Backend::start_tls("status=503,ok".parse().unwrap()).await.unwrap();
    let authority = authority_of(&backend);
    let service = gateway_to(&backend, &["--upstream-ca", authority.path()]).await;
    assert_eq!(call(service.address, "GET", "/hello").await.status, 200);
    assert_eq!(backend.received(), 2);
    let untrusting = gateway_to(&backend, &[]).await;
    assert_eq!(call(untrusting.address, "GET", "/hello").await.status, 502);
    assert_eq!(backend.received(), 2);
}

/// The backend negotiates HTTP/2, so that all uploads share a connection.
#[tokio::test]
async fn uploads_over_http2_share_a_connection() {
    let backend = Backend::start_tls("ok".parse().unwrap()).await.unwrap();
    let authority = authority_of(&backend);
    let limits = ["--upstream-max-connections", "1", "--request-buffer-time", "10ms"];
    let service = gateway_to(&backend, &[&limits[..], &["--upstream-ca", authority.path()]].concat()).await;
    assert_eq!(call(service.address, "GET", "/hello").await.status, 200);
    let mut uploads = Vec::new();
    for _ in 0..3 {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        let start = "PUT /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
        client.write_all(start.as_bytes()).await.unwrap();
        uploads.push(client);
    }
    let all = async {
        while backend.received() < 4 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    within("all uploads", all).await;
}

//! Responses on their way to the client: they arrive complete and unchanged, or are recognizably incomplete.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use http_body_util::BodyExt as _;
use support::{
    QUICK, Service, gateway,
    http2::{self, Peer},
    message::{Response, exchange, exchange_bytes, get, post, read_until, send},
    upstream::{Reply, Upstream, ok, read_request},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
    time::timeout,
};

/// Bytes that differ at every offset.
fn pattern(length: usize) -> Vec<u8> {
    (0..).flat_map(|number: u32| format!("{number},").into_bytes()).take(length).collect()
}

/// The start of the requested range.
fn range_start(request: &str) -> Option<usize> {
    let (_, rest) = request.split_once("range: bytes=")?;
    rest.split('-').next()?.parse().ok()
}

/// A body in chunks, without the last chunk.
fn chunks(body: &[u8]) -> Vec<u8> {
    let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    body.chunks(10_000).flat_map(chunk).collect()
}

/// The first half of 200,000 bytes; then the connection is closed.
fn first_half(framing: &str) -> Reply {
    let head = format!("HTTP/1.1 200 OK\r\netag: \"v1\"\r\n{framing}\r\n\r\n");
    let half = &pattern(200_000)[..100_000];
    let half = if framing.contains("chunked") { chunks(half) } else { half.to_vec() };
    Reply::new([head.into_bytes(), half].concat()).then_close()
}

/// A 206 with this `Content-Range` and these bytes.
fn part(range: &str, body: &[u8]) -> Reply {
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\netag: \"v1\"\r\ncontent-range: bytes {range}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    Reply::new([head.as_bytes(), body].concat())
}

const CHUNKED: &str = "transfer-encoding: chunked";

#[tokio::test]
async fn a_response_resumed_in_parts_arrives_complete() {
    for framing in [CHUNKED, "content-length: 200000"] {
        let upstream = Upstream::start(move |number, request| match range_start(request) {
            None => first_half(framing),
            Some(start) => {
                assert!(number > 0 && start.is_multiple_of(50_000), "{request}");
                part(&format!("{start}-{}/200000", start + 49_999), &pattern(200_000)[start..start + 50_000])
            }
        })
        .await;
        let service = gateway(upstream.address, &[]).await;
        let response = get(service.address).await;
        assert_eq!((response.status, response.body.len(), response.is_complete), (200, 200_000, true), "{framing}");
        assert!(response.body == pattern(200_000), "{framing}");
        assert_eq!(upstream.received().len(), 3, "{framing}");
    }
}

#[tokio::test]
async fn a_resumed_response_that_contradicts_its_head_is_incomplete() {
    let all = pattern(300_000);
    let rows: [(&str, &str, &[u8]); 6] = [
        // More bytes than the range.
        (CHUNKED, "100000-149999/200000", &all[100_000..205_000]),
        (CHUNKED, "100000-199999/200000", &all[100_000..205_000]),
        ("content-length: 200000", "100000-149999/200000", &all[100_000..155_000]),
        // Fewer bytes.
        (CHUNKED, "100000-199999/200000", &all[100_000..150_000]),
        // The complete length is unknown.
        (CHUNKED, "100000-149999/*", &all[100_000..150_000]),
        // Another complete length.
        ("content-length: 200000", "100000-299999/300000", &all[100_000..300_000]),
    ];
    for (framing, range, body) in rows {
        let head = format!("etag: \"v1\"\r\ncontent-range: bytes {range}\r\n{CHUNKED}");
        let rest = format!("HTTP/1.1 206 Partial Content\r\n{head}\r\n\r\n").into_bytes();
        let rest = Reply::new([rest, chunks(body), b"0\r\n\r\n".to_vec()].concat());
        let upstream = Upstream::playing([first_half(framing), rest]).await;
        let service = gateway(upstream.address, &["--count", "2"]).await;
        let response = get(service.address).await;
        let row = format!("{framing}, {range}, {} bytes", body.len());
        assert!(!response.is_complete, "{row}: {} bytes look complete", response.body.len());
        assert!(response.body.len() <= 200_000, "{row}: {} bytes", response.body.len());
    }
}

#[tokio::test]
async fn a_response_with_both_length_and_chunks_is_rejected() {
    for head in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
        "content-length: 0\r\ntransfer-encoding: chunked",
        "content-length: 5\r\ntransfer-encoding: chunked",
    ] {
        let reply = Reply::new(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        let upstream = Upstream::playing([reply]).await;
        let service = gateway(upstream.address, &[]).await;
        assert_eq!(get(service.address).await.status, 502, "{head:?}");
        assert_eq!(upstream.received().len(), 1, "{head:?}");
    }
}

#[tokio::test]
async fn a_response_with_an_unknown_transfer_coding_is_rejected() {
    for codings in ["gzip, chunked", "chunked, chunked", "gzip\r\ntransfer-encoding: chunked", "gzip", "identity"] {
        let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {codings}\r\n\r\n");
        let upstream = Upstream::playing([Reply::new(head + "5\r\nhello\r\n0\r\n\r\n").then_close()]).await;
        let service = gateway(upstream.address, &[]).await;
        let response = exchange_bytes(service.address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let response = String::from_utf8(response).unwrap();
        assert!(response.starts_with("HTTP/1.1 502 "), "{codings:?}: {response}");
        assert_eq!(upstream.received().len(), 1, "{codings:?}");
    }
}

#[tokio::test]
async fn a_response_is_passed_on_with_one_canonical_length_or_rejected() {
    let body = "x".repeat(36);
    for (lengths, canonical) in [
        ("content-length: 036", Some("36")),
        ("content-length: 36\r\ncontent-length: 36", Some("36")),
        ("content-length: 36, 36", Some("36")),
        ("content-length: 36\r\ncontent-length: 036", Some("36")),
        ("content-length: +36", None),
        ("content-length: 36, 35", None),
        ("content-length: 36\r\ncontent-length: 35", None),
    ] {
        // Without a body, the length cannot be checked.
        for (method, status, body) in
            [("GET", "200 OK", &*body), ("HEAD", "200 OK", ""), ("GET", "304 Not Modified", "")]
        {
            let reply = Reply::new(format!("HTTP/1.1 {status}\r\n{lengths}\r\n\r\n{body}"));
            let upstream = Upstream::playing([reply]).await;
            let service = gateway(upstream.address, &[]).await;
            let response = send(service.address, &format!("{method} / HTTP/1.1"), "").await;
            // hyper removes the length from a 304.
            if response.status != 502 && response.status != 304 {
                assert_eq!(response.fields("content-length"), Vec::from_iter(canonical), "{lengths:?}, {method}");
            }
        }
    }
}

/// The upstream closes the connection with most of the upload unread, so that sending it fails.
#[tokio::test]
async fn a_rejection_of_an_upload_reaches_every_client_even_if_the_upload_fails() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &[]).await;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let rejection = "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig";
                stream.write_all(rejection.as_bytes()).await.unwrap();
            });
        }
    });
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let address = service.address;
        clients.spawn(async move {
            let body = "x".repeat(160 * 1024);
            let response = send(address, &format!("POST / HTTP/1.1\r\ncontent-length: {}", body.len()), &body).await;
            (response.status, response.text())
        });
    }
    let responses = within("all responses", clients.join_all()).await;
    let lost = responses.iter().filter(|response| **response != (413, "big".to_owned())).count();
    assert_eq!(lost, 0, "of {}: {responses:?}", responses.len());
}

/// A gateway that buffers a response without a time limit.
async fn buffering(upstream: SocketAddr, flags: &[&str]) -> Service {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.env("RETRY_SERVICE_RESPONSE_BUFFER_TIME", "1h").args(QUICK).args(flags);
    command.args(["--listen", "127.0.0.1:0", "--upstream", &format!("http://{upstream}")]);
    Service::spawn(command).await
}

const JSON: &str = "{\"ok\": \"yes\"}";

/// The first half of 13 bytes of JSON, followed by these bytes and the end of the connection.
fn half_of_json(after: &str) -> Reply {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n6\r\n";
    Reply::new(format!("{head}{}\r\n{after}", &JSON[..6])).then_close()
}

fn json(trailers: &str) -> Reply {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nd\r\n";
    Reply::new(format!("{head}{JSON}\r\n0\r\n{trailers}\r\n"))
}

fn incomplete_responses() -> [(&'static str, Reply); 4] {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    [
        ("no chunk", Reply::new(head).then_close()),
        ("an invalid first chunk", Reply::new(format!("{head}ZZ\r\n")).then_close()),
        ("half a body", half_of_json("")),
        ("half a body and an invalid chunk", half_of_json("-1\r\n")),
    ]
}

#[tokio::test]
async fn a_short_incomplete_chunked_response_is_retried() {
    for (what, incomplete) in incomplete_responses() {
        let upstream = Upstream::playing([incomplete.clone(), incomplete, json("")]).await;
        let service = buffering(upstream.address, &[]).await;
        let response = get(service.address).await;
        assert_eq!((response.status, response.text().as_str(), response.is_complete), (200, JSON, true), "{what}");
        assert_eq!(upstream.received().len(), 3, "{what}");
    }
}

#[tokio::test]
async fn a_short_incomplete_response_to_a_post_is_a_502_and_not_a_reset() {
    let with_length = Reply::new("HTTP/1.1 200 OK\r\ncontent-length: 13\r\n\r\n{\"ok\"").then_close();
    for (what, incomplete) in incomplete_responses().into_iter().chain([("half a body of known length", with_length)]) {
        let upstream = Upstream::playing([incomplete]).await;
        let service = buffering(upstream.address, &[]).await;
        let response = post(service.address).await;
        assert_eq!((response.status, response.is_complete), (502, true), "{what}");
        assert_eq!(upstream.received().len(), 1, "{what}");
    }
}

#[tokio::test]
async fn a_short_incomplete_chunked_response_is_retried_for_an_http2_client() {
    let upstream = Upstream::playing([half_of_json(""), json("")]).await;
    let service = buffering(upstream.address, &[]).await;
    let response = http2::client().get(format!("http://{}/", service.address).parse().unwrap());
    let response = within("a response", response).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(within("a body", response.into_body().collect()).await.unwrap().to_bytes(), JSON);
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn a_short_incomplete_http2_response_without_a_length_is_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = buffering(listener.local_addr().unwrap(), &["--upstream-http2"]).await;
    let client = tokio::spawn(get(service.address));
    let mut upstream = Peer::accept(&listener).await;
    let first = upstream.next_request().await;
    upstream.send_fields(0, first, &[(":status", "200")]).await;
    upstream.send(http2::DATA, 0, first, &JSON.as_bytes()[..6]).await;
    // INTERNAL_ERROR
    upstream.send(http2::RST_STREAM, 0, first, &2_u32.to_be_bytes()).await;
    let second = upstream.next_request().await;
    upstream.send_fields(0, second, &[(":status", "200")]).await;
    upstream.send(http2::DATA, http2::END_STREAM, second, JSON.as_bytes()).await;
    let response = within("a response", client).await.unwrap();
    assert_eq!((response.status, response.text().as_str(), response.is_complete), (200, JSON, true));
}

#[tokio::test]
async fn an_http2_response_whose_last_frame_is_empty_is_complete() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = buffering(listener.local_addr().unwrap(), &["--upstream-http2"]).await;
    let client = tokio::spawn(get(service.address));
    let mut upstream = Peer::accept(&listener).await;
    let stream = upstream.next_request().await;
    upstream.send_fields(0, stream, &[(":status", "200")]).await;
    upstream.send(http2::DATA, 0, stream, JSON.as_bytes()).await;
    upstream.send(http2::DATA, http2::END_STREAM, stream, b"").await;
    let response = within("a response", client).await.unwrap();
    assert_eq!((response.status, response.text().as_str(), response.is_complete), (200, JSON, true));
}

#[tokio::test]
async fn trailers_of_a_retried_response_arrive() {
    let upstream = Upstream::playing([half_of_json(""), json("x-sum: 13\r\n")]).await;
    let service = buffering(upstream.address, &[]).await;
    let response = send(service.address, "GET / HTTP/1.1\r\nte: trailers", "").await;
    assert_eq!((response.status, response.text().as_str(), response.is_complete), (200, JSON, true));
    assert_eq!(response.trailers, "x-sum: 13\r\n\r\n");
}

/// Sends a request, and `sent` from the upstream as part of the response. Returns what the client has received once that
/// ends with `expected`.
async fn streamed(service: &Service, upstream: &TcpListener, request: &str, sent: &str, expected: &str) -> String {
    let mut client = TcpStream::connect(service.address).await.unwrap();
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut server, _) = within("a connection", upstream.accept()).await.unwrap();
    within("a request", read_request(&mut server, &mut Vec::new())).await.expect(request);
    server.write_all(sent.as_bytes()).await.unwrap();
    let received = read_until(&mut client, expected).await;
    // Open until here.
    drop(server);
    received
}

/// Only the media type prevents buffering, for an hour.
#[tokio::test]
async fn the_first_event_of_a_stream_arrives_while_the_stream_stays_open() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let service = gateway(address, &["--response-buffer-time", "1h"]).await;
    for media_type in [
        "text/event-stream",
        "Text/Event-Stream; charset=utf-8",
        "application/x-ndjson",
        "multipart/x-mixed-replace; boundary=b",
        "application/grpc",
        "application/grpc+proto",
    ] {
        for (framing, first) in [(CHUNKED, "8\r\ndata: 1\n\r\n"), ("content-length: 80", "data: 1\n")] {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\n{framing}\r\n\r\n");
            let request = "GET /events HTTP/1.1\r\nhost: a\r\n\r\n";
            let received = streamed(&service, &upstream, request, &(head + first), first).await;
            assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{received}");
        }
    }
}

#[tokio::test]
async fn a_client_that_accepts_only_streams_gets_an_unbuffered_response() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = buffering(upstream.local_addr().unwrap(), &[]).await;
    for accept in ["text/event-stream", "text/event-stream;q=0.9, application/x-ndjson"] {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\n\r\n");
        for (framing, first) in [(CHUNKED, "5\r\nhello\r\n"), ("content-length: 10", "hello")] {
            let sent = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{first}");
            streamed(&service, &upstream, &request, &sent, first).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_also_accepts_streams_gets_a_buffered_response() {
    let upstream = Upstream::playing([half_of_json(""), json("")]).await;
    let service = buffering(upstream.address, &[]).await;
    let response = send(service.address, "GET / HTTP/1.1\r\naccept: text/event-stream, */*;q=0.1", "").await;
    assert_eq!((response.status, response.text().as_str(), response.is_complete), (200, JSON, true));
}

#[tokio::test]
async fn a_slow_chunked_response_is_streamed_after_the_buffer_time() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sent = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    for flags in [&[][..], &["--response-buffer-time", "300ms"]] {
        let service = gateway(upstream.local_addr().unwrap(), flags).await;
        for request in
            ["GET / HTTP/1.1\r\nhost: a\r\n\r\n", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi"]
        {
            streamed(&service, &upstream, request, sent, "5\r\nhello\r\n").await;
        }
    }
}

/// The connection is closed long after the head, but before any of the response was passed on.
#[tokio::test]
async fn the_response_buffer_time_can_be_set() {
    let first = half_of_json("").pausing(90, Duration::from_millis(500));
    let upstream = Upstream::playing([first, json("")]).await;
    let service = gateway(upstream.address, &["--response-buffer-time", "1h"]).await;
    let response = get(service.address).await;
    assert_eq!((response.status, response.text().as_str(), response.is_complete), (200, JSON, true));
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn a_short_chunked_response_that_stalls_is_retried() {
    let stalled = half_of_json("").pausing(90, Duration::from_secs(3600));
    let upstream = Upstream::playing([stalled, json("")]).await;
    let service = buffering(upstream.address, &["--timeout", "300ms"]).await;
    let response = get(service.address).await;
    assert_eq!((response.status, response.text().as_str(), response.is_complete), (200, JSON, true));
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn a_response_longer_than_the_buffer_is_streamed() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = buffering(upstream.local_addr().unwrap(), &["--response-buffer", "10KiB"]).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let body = "x".repeat(5_000);
    let chunk = format!("1388\r\n{body}\r\n");
    for (framing, part) in [(CHUNKED, chunk.repeat(3)), ("content-length: 20000", body.repeat(3))] {
        let sent = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{part}");
        // Chunk boundaries may differ.
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut server, _) = within("a connection", upstream.accept()).await.unwrap();
        within("a request", read_request(&mut server, &mut Vec::new())).await.unwrap();
        server.write_all(sent.as_bytes()).await.unwrap();
        let mut received = Vec::new();
        let arrives = async {
            while received.iter().filter(|byte| **byte == b'x').count() < 15_000 {
                assert_ne!(client.read_buf(&mut received).await.unwrap(), 0);
            }
        };
        within("all bytes", arrives).await;
        drop(server);
    }
}

#[tokio::test]
async fn a_response_without_a_body_is_not_buffered() {
    for (method, head) in [
        ("HEAD", "200 OK\r\ncontent-length: 13"),
        ("HEAD", "200 OK\r\ntransfer-encoding: chunked"),
        ("GET", "204 No Content"),
        ("GET", "304 Not Modified\r\ncontent-length: 13"),
        ("GET", "200 OK\r\ncontent-length: 0"),
    ] {
        let upstream = Upstream::playing([Reply::new(format!("HTTP/1.1 {head}\r\n\r\n"))]).await;
        let service = buffering(upstream.address, &[]).await;
        let response = send(service.address, &format!("{method} / HTTP/1.1"), "").await;
        assert!(head.starts_with(&response.status.to_string()), "{method}, {head:?}: {response:?}");
        assert_eq!((response.text().as_str(), upstream.received().len()), ("", 1), "{method}, {head:?}");
    }
}

#[tokio::test]
async fn a_response_that_ends_with_its_connection_arrives() {
    let upstream = Upstream::playing([Reply::new("HTTP/1.1 200 OK\r\n\r\nhello").then_close()]).await;
    let service = buffering(upstream.address, &[]).await;
    let response = get(service.address).await;
    assert_eq!((response.status, response.text().as_str(), response.is_complete), (200, "hello", true));
}

#[tokio::test]
async fn responses_may_have_many_headers() {
    for (count, length) in [(150, 10), (400, 10), (200, 270)] {
        let fields = (0..count - 1).map(|number| format!("x-{number}: {}\r\n", "v".repeat(length))).collect::<String>();
        let reply = Reply::new(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok"));
        let upstream = Upstream::playing([reply]).await;
        let service = gateway(upstream.address, &[]).await;
        let response = get(service.address).await;
        assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{count} of {length}");
        let count_received =
            response.head.split("\r\n").filter(|line| line.starts_with("x-") && line.ends_with('v')).count();
        assert_eq!(count_received, count - 1, "{count} of {length}");
    }
}

#[tokio::test]
async fn http2_responses_may_have_many_headers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &["--upstream-http2"]).await;
    let client = tokio::spawn(get(service.address));
    let mut upstream = Peer::accept(&listener).await;
    let stream = upstream.next_request().await;
    let (names, value) = ((0..200).map(|number| format!("x-{number}")).collect::<Vec<_>>(), "v".repeat(250));
    let mut fields = vec![(":status", "200")];
    fields.extend(names.iter().map(|name| (name.as_str(), value.as_str())));
    upstream.send_fields(http2::END_STREAM, stream, &fields).await;
    let response = within("a response", client).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.head.split("\r\n").filter(|line| line.ends_with(&value)).count(), 200);
}

#[tokio::test]
async fn a_response_head_over_the_limit_is_not_retried_and_the_log_names_the_limit() {
    for (count, length, limit) in [(1100, 10, "400 fields"), (100, 2_000, "64 KiB")] {
        let fields = (0..count).map(|number| format!("x-{number}: {}\r\n", "v".repeat(length))).collect::<String>();
        let reply = Reply::new(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok"));
        let upstream = Upstream::playing([reply]).await;
        let mut service = gateway(upstream.address, &[]).await;
        assert_eq!(get(service.address).await.status, 502, "{count} of {length}");
        assert_eq!(upstream.received().len(), 1, "{count} of {length}");
        let log = service.stop().await;
        let log = log.iter().map(|line| support::message(line)).collect::<Vec<_>>().join("\n");
        assert!(log.contains(limit), "{count} of {length}: {log}");
    }
}

#[tokio::test]
async fn an_http2_response_head_over_the_limit_is_not_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &["--upstream-http2"]).await;
    let mut requests = 0;
    let serve = async {
        loop {
            let mut upstream = Peer::accept(&listener).await;
            while let Some(frame) = upstream.frame().await {
                if frame.kind == http2::HEADERS {
                    requests += 1;
                    let (names, value) = ((0..80).map(|n| format!("x-{n}")).collect::<Vec<_>>(), "v".repeat(1000));
                    let mut fields = vec![(":status", "200")];
                    fields.extend(names.iter().map(|name| (name.as_str(), value.as_str())));
                    upstream.send_fields(http2::END_STREAM, frame.stream, &fields).await;
                }
            }
        }
    };
    let response = tokio::select! {
        response = get(service.address) => response,
        () = serve => unreachable!(),
    };
    assert_eq!((response.status, requests), (502, 1));
}

#[tokio::test]
async fn a_malformed_response_head_is_not_retried() {
    for field in ["x : y", "x: y\r\n z", "x: a\u{1}b", "x: a\0b", "x\u{1}: y", ": y", "no colon", "x y: z"] {
        let reply = Reply::new(format!("HTTP/1.1 200 OK\r\n{field}\r\ncontent-length: 2\r\n\r\nok"));
        let upstream = Upstream::playing([reply]).await;
        let service = gateway(upstream.address, &[]).await;
        assert_eq!(get(service.address).await.status, 502, "{field:?}");
        assert_eq!(upstream.received().len(), 1, "{field:?}");
    }
}

#[tokio::test]
async fn a_response_that_is_not_http_is_retried() {
    let upstream = Upstream::playing([Reply::new("garbage\r\n\r\n"), ok("fine")]).await;
    let service = gateway(upstream.address, &[]).await;
    assert_eq!(get(service.address).await.text(), "fine");
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn a_redirect_to_the_upstream_is_rewritten_to_the_host_of_the_client() {
    // SELF is replaced by the Host that the upstream gets.
    for (sent, expected) in [
        ("http://SELF/next?q", "http://shop.example/next?q"),
        ("http://SELF", "http://shop.example"),
        ("http://elsewhere.example/next", "http://elsewhere.example/next"),
        ("/next", "/next"),
        ("next", "next"),
    ] {
        for name in ["location", "content-location"] {
            let upstream = Upstream::start(move |_, request| {
                let value = sent.replace("SELF", support::message::fields(request, "host")[0]);
                Reply::new(format!("HTTP/1.1 302 Found\r\n{name}: {value}\r\ncontent-length: 0\r\n\r\n"))
            })
            .await;
            let service = gateway(upstream.address, &["--host", "rewrite"]).await;
            let response = get(service.address).await;
            assert_eq!(upstream.only().fields("host"), [upstream.address.to_string()]);
            let rewritten = response.field(name).unwrap().trim_end_matches('/');
            assert_eq!(rewritten, expected, "{name}");
        }
    }
}

#[tokio::test]
async fn a_redirect_to_the_upstream_is_rewritten_with_the_scheme_from_a_trusted_proxy() {
    let upstream = Upstream::start(|_, request| {
        let host = support::message::fields(request, "host")[0];
        Reply::new(format!("HTTP/1.1 302 Found\r\nlocation: http://{host}/next\r\ncontent-length: 0\r\n\r\n"))
    })
    .await;
    for (flags, expected) in [
        (&["--host", "rewrite", "--trusted-proxies", "127.0.0.1"][..], "https://shop.example/next"),
        (&["--host", "rewrite"], "http://shop.example/next"),
        (&["--host", "keep"], "http://shop.example/next"),
    ] {
        let service = gateway(upstream.address, flags).await;
        let response = send(service.address, "GET / HTTP/1.1\r\nx-forwarded-proto: https", "").await;
        assert_eq!(response.field("location"), Some(expected), "{flags:?}");
    }
}

#[tokio::test]
async fn values_from_an_http2_upstream_are_trimmed_and_pseudo_headers_removed_from_trailers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &["--upstream-http2", "--count", "0"]).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close, te\r\n\r\n";
    let client = tokio::spawn(exchange(service.address, request));
    let mut upstream = Peer::accept(&listener).await;
    let stream = upstream.next_request().await;
    upstream.send_fields(0, stream, &[(":status", "200"), ("x-a", " b\t"), ("x-c", "d")]).await;
    upstream.send(http2::DATA, 0, stream, b"ok").await;
    upstream.send_fields(http2::END_STREAM, stream, &[("x-sum", "1"), (":status", "500")]).await;
    let response: Response = within("a response", client).await.unwrap();
    assert!(!response.trailers.contains(":status"), "{response:?}");
    if response.status == 200 {
        assert_eq!((response.fields("x-a"), response.fields("x-c")), (vec!["b"], vec!["d"]));
    }
}

/// The reset arrives while the gateway is writing, so that the write fails. The response is delimited by the end of the
/// connection only.
#[tokio::test]
async fn a_response_that_is_reset_during_an_upload_is_incomplete() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &[]).await;
    let _upstream = JoinSet::from_iter([async move {
        for pause in [0, 5, 200].into_iter().cycle().map(Duration::from_millis) {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut received, mut piece) = (0, [0; 16 * 1024]);
            let response = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &[b'x'; 100]].concat();
            while received < 256 * 1024 {
                received += stream.read(&mut piece).await.unwrap();
            }
            stream.write_all(&response).await.unwrap();
            // Keeps reading during the pause.
            let _ = timeout(pause, async { while stream.read(&mut piece).await.unwrap() > 0 {} }).await;
            stream.set_zero_linger().unwrap();
        }
    }]);
    for round in 0..30 {
        let version = if round % 4 < 2 { "1.1" } else { "1.0" };
        let head = format!("POST / HTTP/{version}\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n");
        let (mut reading, mut writing) = TcpStream::connect(service.address).await.unwrap().into_split();
        let upload = async {
            writing.write_all(head.as_bytes()).await?;
            loop {
                writing.write_all(&[b'x'; 16 * 1024]).await?;
            }
        };
        let mut received = Vec::new();
        let exchange = async { tokio::join!(reading.read_to_end(&mut received), upload) };
        let (end, unsent): (_, Result<(), io::Error>) = within("the end", exchange).await;
        // The kernel reports a reset once. After an orderly close it reports a broken pipe.
        let is_reset = end.is_err() || unsent.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        if !received.is_empty() {
            let response = Response::parse(&received);
            let is_incomplete = !response.is_complete || version == "1.0" && is_reset;
            assert!(response.status == 502 || is_incomplete, "round {round}: {end:?} after {response:?}");
        }
    }
}

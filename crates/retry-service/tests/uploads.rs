//! Request bodies: when they are forwarded, and what happens to those that the upstream does not read.
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
    gateway,
    http2::{DATA, END_STREAM, Frame, GOAWAY, HEADERS, Peer, RST_STREAM, body_of},
    message::{Response, fields, get, position, read_until},
    refusing, until_zero,
    upstream::{Upstream, ok, read_request},
    within,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

/// A buffer time longer than a test.
const LONG_BUFFER_TIME: [&str; 2] = ["--request-buffer-time", "10m"];
const PAUSE: Duration = Duration::from_millis(30);

/// Connects as a client that sends each write in a packet of its own.
async fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).await.unwrap();
    client.set_nodelay(true).unwrap();
    client
}

/// Reads a response with a `Content-Length`. Bytes that follow it stay in the buffer.
async fn response(client: &mut TcpStream, bytes: &mut Vec<u8>) -> Response {
    let read = async {
        loop {
            if let Some(end) = position(bytes, b"\r\n\r\n") {
                let response = Response::parse(bytes);
                let length: usize = response.field("content-length").expect(&response.head).parse().unwrap();
                if response.is_complete {
                    bytes.drain(..end + 4 + length);
                    return response;
                }
            }
            let read = client.read_buf(bytes).await;
            let text = String::from_utf8_lossy(bytes);
            assert!(matches!(read, Ok(1..)), "{read:?} instead of a response, after {text:?}");
        }
    };
    within("a response", read).await
}

/// Returns whether the response has `Connection: close`. If so, the connection must be closed.
async fn is_closed(client: &mut TcpStream, response: &Response) -> bool {
    let says_close = response.field("connection").is_some_and(|option| option.eq_ignore_ascii_case("close"));
    if says_close {
        let end = within("the end of the connection", client.read(&mut [0])).await;
        assert_eq!(end.unwrap(), 0, "after {}", response.head);
    }
    says_close
}

#[tokio::test]
async fn an_upload_takes_no_upstream_connection_until_it_is_complete() {
    for (head, pieces) in [
        ("content-length: 5", ["h", "e", "l", "l", "o"]),
        ("transfer-encoding: chunked", ["5\r\n", "hel", "lo\r\n", "0\r\n", "\r\n"]),
    ] {
        let upstream = Upstream::playing([ok("got"), ok("posted")]).await;
        let service =
            gateway(upstream.address, &[&LONG_BUFFER_TIME[..], &["--upstream-max-connections", "1"]].concat()).await;
        let mut client = connect(service.address).await;
        client.write_all(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n").as_bytes()).await.unwrap();
        for piece in &pieces[..4] {
            sleep(PAUSE).await;
            client.write_all(piece.as_bytes()).await.unwrap();
        }
        sleep(PAUSE).await;
        assert_eq!(get(service.address).await.text(), "got", "{head}");
        client.write_all(pieces[4].as_bytes()).await.unwrap();
        assert_eq!(response(&mut client, &mut Vec::new()).await.text(), "posted", "{head}");
        assert!(upstream.received()[1].body().contains("hello"), "{head}");
    }
}

#[tokio::test]
async fn an_upload_over_http2_takes_no_upstream_connection_until_it_is_complete() {
    let upstream = Upstream::playing([ok("got"), ok("posted")]).await;
    let service =
        gateway(upstream.address, &[&LONG_BUFFER_TIME[..], &["--upstream-max-connections", "1"]].concat()).await;
    let mut client = Peer::connect(service.address).await;
    client.request(0, 1, "POST", "/", &[]).await;
    for piece in ["hel", "l"] {
        sleep(PAUSE).await;
        client.send(DATA, 0, 1, piece.as_bytes()).await;
    }
    sleep(PAUSE).await;
    assert_eq!(get(service.address).await.text(), "got");
    client.send(DATA, END_STREAM, 1, b"o").await;
    assert_eq!(complete_body(&client.rest_of(1).await, 1), "posted");
    assert!(upstream.received()[1].body().contains("hello"));
}

#[tokio::test]
async fn slow_uploads_take_at_most_half_of_the_upstream_connections() {
    let upstream = Upstream::playing([ok("got")]).await;
    let limits = ["--request-buffer-time", "10ms", "--upstream-max-connections", "2"];
    let service = gateway(upstream.address, &limits).await;
    let mut uploads = Vec::new();
    for head in ["content-length: 100\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        for _ in 0..2 {
            let mut client = connect(service.address).await;
            client.write_all(format!("POST / HTTP/1.1\r\nhost: a\r\n{head}").as_bytes()).await.unwrap();
            uploads.push(client);
        }
    }
    sleep(4 * PAUSE).await;
    assert_eq!(get(service.address).await.text(), "got");
}

#[tokio::test]
async fn a_stalled_upload_is_forwarded_after_the_buffer_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &["--request-buffer-time", "50ms"]).await;
    let mut client = connect(service.address).await;
    client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel").await.unwrap();
    let (mut server, _) = within("a connection", listener.accept()).await.unwrap();
    read_until(&mut server, "\r\n\r\nhel").await;
}

#[tokio::test]
async fn an_upload_that_cannot_be_buffered_is_forwarded_at_once() {
    let body = "x".repeat(1001);
    for (flag, head, sent) in [
        ("--replay-limit", "content-length: 2000", body.clone()),
        ("--replay-limit", "content-length: 1001", body[..10].to_owned()),
        ("--replay-limit", "transfer-encoding: chunked", format!("3e9\r\n{body}\r\n")),
        ("--replay-memory", "content-length: 2000", body.clone()),
        ("--replay-memory", "transfer-encoding: chunked", format!("3e9\r\n{body}\r\n")),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = gateway(listener.local_addr().unwrap(), &[&LONG_BUFFER_TIME[..], &[flag, "1000"]].concat()).await;
        let mut client = connect(service.address).await;
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n{sent}");
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut server, _) = within(format!("a connection: {flag}, {head}"), listener.accept()).await.unwrap();
        let mut received = String::new();
        while received.matches('x').count() < sent.matches('x').count() {
            let mut piece = vec![0; 4096];
            let read = within(format!("the body: {flag}, {head}"), server.read(&mut piece)).await.unwrap();
            assert!(read > 0, "{flag}, {head}: {received}");
            // Header names may contain an x as well.
            let text = received + std::str::from_utf8(&piece[..read]).unwrap();
            received = text.replace("x-", "");
        }
    }
}

/// The client sends each part of the body once it has the upstream's response to the previous one.
#[tokio::test]
async fn a_bidirectional_stream_works() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &[]).await;
    let mut client = connect(service.address).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.write_all(format!("{head}3\r\none\r\n").as_bytes()).await.unwrap();
    let (mut server, _) = within("a connection", listener.accept()).await.unwrap();
    read_until(&mut server, "\r\n3\r\none\r\n").await;
    server.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nONE\r\n").await.unwrap();
    let head = read_until(&mut client, "\r\n3\r\nONE\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    for (piece, reply) in [("3\r\ntwo\r\n", "3\r\nTWO\r\n"), ("0\r\n\r\n", "0\r\n\r\n")] {
        client.write_all(piece.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut server, piece).await, piece);
        server.write_all(reply.as_bytes()).await.unwrap();
        assert_eq!(read_until(&mut client, reply).await, reply);
    }
}

#[tokio::test]
async fn a_bidirectional_stream_works_over_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &["--upstream-http2"]).await;
    let mut client = Peer::connect(service.address).await;
    client.request(0, 1, "POST", "/", &[]).await;
    client.send(DATA, 0, 1, b"one").await;
    let mut server = Peer::accept(&listener).await;
    let stream = server.next_request().await;
    assert_eq!(data(&mut server, 3).await, b"one");
    server.send_fields(0, stream, &[(":status", "200")]).await;
    server.send(DATA, 0, stream, b"ONE").await;
    assert_eq!(data(&mut client, 3).await, b"ONE");
    client.send(DATA, END_STREAM, 1, b"two").await;
    assert_eq!(data(&mut server, 3).await, b"two");
    server.send(DATA, END_STREAM, stream, b"TWO").await;
    assert_eq!(data(&mut client, 3).await, b"TWO");
}

/// Reads this number of bytes of bodies.
async fn data(peer: &mut Peer, length: usize) -> Vec<u8> {
    let mut data = Vec::new();
    while data.len() < length {
        let frame = peer.frame().await.expect("part of a body");
        assert!(matches!(frame.kind, DATA | HEADERS), "{frame:?}");
        if frame.kind == DATA {
            data.extend(frame.payload);
        }
    }
    data
}

#[tokio::test]
async fn grpc_requests_are_not_buffered() {
    for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = gateway(listener.local_addr().unwrap(), &LONG_BUFFER_TIME).await;
        let head = format!("POST /s/m HTTP/1.1\r\nhost: a\r\nte: trailers\r\ncontent-type: {kind}\r\n");
        let mut client = connect(service.address).await;
        let request = format!("{head}transfer-encoding: chunked\r\n\r\n3\r\none\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut server, _) = within(format!("a connection for {kind}"), listener.accept()).await.unwrap();
        read_until(&mut server, "\r\n3\r\none\r\n").await;

        let mut client = Peer::connect(service.address).await;
        client.request(0, 1, "POST", "/s/m", &[("te", "trailers"), ("content-type", kind)]).await;
        let (mut server, _) = within(format!("a connection for {kind}"), listener.accept()).await.unwrap();
        client.send(DATA, 0, 1, b"one").await;
        read_until(&mut server, "\r\n3\r\none\r\n").await;
    }
}

#[tokio::test]
async fn a_body_that_is_sent_after_100_continue_is_not_buffered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(listener.local_addr().unwrap(), &LONG_BUFFER_TIME).await;
    let mut client = connect(service.address).await;
    let request = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut server, _) = within("a connection", listener.accept()).await.unwrap();
    read_until(&mut server, "\r\n\r\n").await;
    server.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 100 "));
    // In parts: each is forwarded at once.
    for piece in ["he", "llo"] {
        client.write_all(piece.as_bytes()).await.unwrap();
        read_until(&mut server, piece).await;
    }
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    assert_eq!(response(&mut client, &mut Vec::new()).await.text(), "ok");
}

/// Sends the head and part of the body. The response must have `Connection: close`.
async fn check_closes(address: SocketAddr, request: impl AsRef<[u8]>, status: u16) {
    let mut client = connect(address).await;
    client.write_all(request.as_ref()).await.unwrap();
    let response = response(&mut client, &mut Vec::new()).await;
    assert_eq!(response.status, status, "{}", response.head);
    assert!(is_closed(&mut client, &response).await, "{}", response.head);
}

#[tokio::test]
async fn a_rejection_that_closes_the_connection_says_so() {
    let upstream = Upstream::playing([ok("")]).await;
    let service = gateway(upstream.address, &["--max-body-size", "4"]).await;
    let mut cases = Vec::new();
    for (framing, body) in [
        ("content-length: 5", ""),
        ("content-length: 5", "he"),
        ("content-length: 1000000", "he"),
        ("transfer-encoding: chunked", "5\r\nhello\r\n"),
        ("transfer-encoding: chunked", "3\r\nhel\r\n2\r\nlo\r\n"),
    ] {
        cases.push((format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{body}"), 413));
        cases.push((format!("GET / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{body}"), 413));
    }
    for framing in ["content-length: 4", "transfer-encoding: chunked"] {
        cases.push((format!("POST / HTTP/1.1\r\nhost: a\r\nexpect: magic\r\n{framing}\r\n\r\n"), 417));
        cases.push((format!("POST * HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n"), 400));
        cases.push((format!("CONNECT b:1 HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n"), 501));
    }
    for (request, status) in cases {
        check_closes(service.address, &request, status).await;
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn a_failure_with_an_unread_upload_closes_the_connection() {
    let (address, _socket) = refusing();
    for time in ["1s", "0s"] {
        let service = gateway(address, &["--outage-wait", "off", "--request-buffer-time", time]).await;
        let part = "x".repeat(100_000);
        let requests = [
            format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n{part}"),
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n{part}\r\n"),
        ];
        for request in requests {
            check_closes(service.address, request, 502).await;
        }
    }
}

/// Reads and discards a request whose head is in the buffer. The next request may follow it in the buffer.
async fn skip_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), std::io::Error> {
    const END: &[u8] = b"\r\n0\r\n\r\n";
    let head = position(bytes, b"\r\n\r\n").unwrap() + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let is_chunked = !fields(&text, "transfer-encoding").is_empty();
    let mut left = fields(&text, "content-length").first().map_or(0, |length| length.parse().unwrap());
    bytes.drain(..head);
    bytes.reserve(65_536);
    loop {
        if is_chunked {
            if let Some(end) = position(bytes, END) {
                bytes.drain(..end + END.len());
                return Ok(());
            }
            bytes.drain(..bytes.len().saturating_sub(END.len()));
        } else {
            let now = bytes.len().min(left);
            bytes.drain(..now);
            left -= now;
            if left == 0 {
                return Ok(());
            }
        }
        if stream.read_buf(bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// An upstream that rejects a request as soon as it has the head. It reads the body, or else reads nothing more from the
/// connection.
async fn rejecting_early(reads: bool) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            connections.spawn(async move {
                let mut bytes = Vec::new();
                loop {
                    while position(&bytes, b"\r\n\r\n").is_none() {
                        if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                            return;
                        }
                    }
                    let option = if reads { "" } else { "connection: close\r\n" };
                    let response = format!("HTTP/1.1 401 Unauthorized\r\n{option}content-length: 3\r\n\r\nno!");
                    if stream.write_all(response.as_bytes()).await.is_err() {
                        return;
                    }
                    if !reads {
                        std::future::pending::<()>().await;
                    }
                    if skip_request(&mut stream, &mut bytes).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, tasks)
}

/// The head of a large request, and the first part of its body.
fn start_of_upload() -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n{}", "x".repeat(100_000))
}

#[tokio::test]
async fn an_early_rejection_by_the_upstream_closes_the_connection() {
    for reads in [false, true] {
        let (address, _tasks) = rejecting_early(reads).await;
        let service = gateway(address, &[]).await;
        for _ in 0..20 {
            let mut client = connect(service.address).await;
            client.write_all(start_of_upload().as_bytes()).await.unwrap();
            let response = response(&mut client, &mut Vec::new()).await;
            let received = (response.status, response.field("connection"), response.text());
            assert_eq!(received, (401, Some("close"), "no!".to_owned()), "{reads}");
        }
    }
}

/// The client has the response, and keeps sending a byte of the body now and then.
#[tokio::test]
async fn a_rejected_slow_upload_holds_no_connections() {
    for reads in [false, true] {
        let (address, _tasks) = rejecting_early(reads).await;
        let mut service = gateway(address, &["--admin", "127.0.0.1:0"]).await;
        let admin = service.admin().await;
        let mut client = connect(service.address).await;
        client.write_all(start_of_upload().as_bytes()).await.unwrap();
        assert_eq!(response(&mut client, &mut Vec::new()).await.status, 401);
        let (_reading, mut writing) = client.into_split();
        let _drip = JoinSet::from_iter([async move {
            while writing.write_all(b"x").await.is_ok() {
                sleep(PAUSE).await;
            }
        }]);
        until_zero(admin, "retry_service_upstream_connections").await;
        until_zero(admin, "retry_service_connections").await;
    }
}

#[tokio::test]
async fn a_rejected_slow_upload_over_http2_holds_no_upstream_connection() {
    for reads in [false, true] {
        let (address, _tasks) = rejecting_early(reads).await;
        let mut service = gateway(address, &["--admin", "127.0.0.1:0"]).await;
        let admin = service.admin().await;
        let mut client = Peer::connect(service.address).await;
        client.request(0, 1, "POST", "/", &[]).await;
        client.send(DATA, 0, 1, b"hello").await;
        let mut received = Vec::new();
        while !received.ends_with(b"no!") {
            let frame = client.frame().await.expect("the response");
            received.extend(frame.payload);
        }
        let drip = async {
            loop {
                client.send(DATA, 0, 1, b"x").await;
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = drip => {}
            () = until_zero(admin, "retry_service_upstream_connections") => {}
        }
    }
}

/// The client sends the complete body before it reads. It must not wait longer than `--timeout`.
#[tokio::test]
async fn an_upstream_that_rejects_and_reads_nothing_does_not_block_the_client() {
    const LENGTH: usize = 32 << 20;
    let (address, _tasks) = rejecting_early(false).await;
    let mut service = gateway(address, &["--timeout", "500ms", "--admin", "127.0.0.1:0"]).await;
    let admin = service.admin().await;
    let mut client = connect(service.address).await;
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n");
    let request = [head.into_bytes(), vec![b'x'; LENGTH]].concat();
    // The body is sent completely, or the connection is closed.
    let _ = within("the end of the upload", client.write_all(&request)).await;
    until_zero(admin, "retry_service_upstream_connections").await;
    until_zero(admin, "retry_service_connections").await;
}

#[tokio::test]
async fn a_connection_is_reused_after_a_failure_if_the_request_was_read() {
    for (framing, body) in [
        ("content-length: 5", "hello"),
        ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        ("content-length: 0", ""),
        ("transfer-encoding: chunked", "0\r\n\r\n"),
    ] {
        let (address, socket) = refusing();
        let service = gateway(address, &["--outage-wait", "off"]).await;
        let (mut client, mut bytes) = (connect(service.address).await, Vec::new());
        let request = format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n{body}");
        for _ in 0..2 {
            client.write_all(request.as_bytes()).await.unwrap();
            let response = response(&mut client, &mut bytes).await;
            assert_eq!((response.status, response.field("connection")), (502, None), "{framing} {body:?}");
        }
        let listener = socket.listen(10).unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut server, _) = within("a connection", listener.accept()).await.unwrap();
        within("a request", read_request(&mut server, &mut Vec::new())).await.unwrap();
        server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine").await.unwrap();
        assert_eq!(response(&mut client, &mut bytes).await.text(), "fine", "{framing} {body:?}");
    }
}

#[tokio::test]
async fn small_bodies_in_separate_packets_get_their_error_responses() {
    let (address, _socket) = refusing();
    for time in ["1s", "0s"] {
        let service = gateway(address, &["--outage-wait", "off", "--request-buffer-time", time]).await;
        for framing in ["content-length: 3", "transfer-encoding: chunked"] {
            let body = if framing.starts_with("content") { "abc" } else { "3\r\nabc\r\n0\r\n\r\n" };
            let (mut client, mut bytes) = (connect(service.address).await, Vec::new());
            for round in 0..50 {
                let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
                client.write_all(head.as_bytes()).await.unwrap();
                if round % 4 > 0 {
                    sleep(Duration::from_millis(round % 4 * 4)).await;
                }
                let what = format!("{time}, {framing}, round {round}");
                let (first, rest) = body.split_at(body.len() / 2);
                client.write_all(first.as_bytes()).await.expect(&what);
                if round % 3 > 0 {
                    sleep(Duration::from_millis(round % 3)).await;
                }
                client.write_all(rest.as_bytes()).await.expect(&what);
                let response = response(&mut client, &mut bytes).await;
                assert_eq!(response.status, 502, "{what}");
                if is_closed(&mut client, &response).await {
                    client = connect(service.address).await;
                }
            }
        }
    }
}

/// Each client sends the complete request before it reads, in several writes, so that a reset of the connection is not
/// missed.
async fn check_all_get(clients: usize, address: SocketAddr, request: &str, status: u16) {
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let request = request.to_owned();
        tasks.spawn(async move {
            let mut client = connect(address).await;
            let write = async {
                for piece in request.as_bytes().chunks(65_536) {
                    client.write_all(piece).await?;
                    sleep(Duration::from_millis(2)).await;
                }
                Ok::<_, std::io::Error>(())
            };
            let written = within("the end of the request", write).await;
            let mut received = Vec::new();
            // The connection may stay open.
            while position(&received, b"}").is_none() && position(&received, b"no!").is_none() {
                match within("a response", client.read_buf(&mut received)).await {
                    Ok(1..) => {}
                    end => return Err(format!("{written:?}, {end:?} after {:?}", String::from_utf8_lossy(&received))),
                }
            }
            written.map_err(|error| error.to_string())?;
            Ok(Response::parse(&received).status)
        });
    }
    let outcomes = tasks.join_all().await;
    let lost: Vec<_> = outcomes.iter().filter(|outcome| **outcome != Ok(status)).collect();
    assert!(lost.is_empty(), "{} of {clients}, such as {:?}", lost.len(), lost[0]);
}

/// A request with a body of a megabyte.
fn large(framing: &str) -> String {
    let (length, body) = (1_000_000, "x".repeat(1_000_000));
    match framing {
        "chunked" => {
            format!("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n")
        }
        _ => format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}"),
    }
}

#[tokio::test]
async fn a_rejection_of_a_large_body_arrives() {
    let upstream = Upstream::playing([ok("")]).await;
    let service = gateway(upstream.address, &["--max-body-size", "1000"]).await;
    for framing in ["length", "chunked"] {
        check_all_get(30, service.address, &large(framing), 413).await;
    }
}

#[tokio::test]
async fn a_failure_of_a_large_request_arrives() {
    let (address, _socket) = refusing();
    let service = gateway(address, &["--outage-wait", "off"]).await;
    for framing in ["length", "chunked"] {
        check_all_get(30, service.address, &large(framing), 502).await;
    }
}

#[tokio::test]
async fn an_early_rejection_of_a_large_request_arrives() {
    let (address, _tasks) = rejecting_early(true).await;
    let service = gateway(address, &[]).await;
    for framing in ["length", "chunked"] {
        check_all_get(30, service.address, &large(framing), 401).await;
    }
}

/// The body of the response on a stream, which must be complete and not reset.
#[track_caller]
fn complete_body(frames: &[Frame], stream: u32) -> String {
    let bad = frames.iter().find(|frame| matches!(frame.kind, RST_STREAM | GOAWAY));
    assert!(bad.is_none(), "{bad:?} among {:?}", frames.iter().map(|frame| frame.kind).collect::<Vec<_>>());
    let of_stream = || frames.iter().filter(|frame| frame.stream == stream);
    assert!(of_stream().next().is_some_and(|frame| frame.kind == HEADERS), "{stream}: {frames:?}");
    assert!(of_stream().next_back().is_some_and(Frame::ends_stream), "{stream}: {frames:?}");
    String::from_utf8(body_of(frames, stream)).unwrap()
}

/// A client that has received a response, so that its flow-control windows are in force.
async fn connect_http2(address: SocketAddr) -> Peer {
    let mut client = Peer::connect(address).await;
    client.request(END_STREAM, 1, "GET", "/", &[]).await;
    complete_body(&client.rest_of(1).await, 1);
    client
}

/// Sends a POST with a body of a megabyte, with or without a length.
async fn send_large(client: &mut Peer, stream: u32, has_length: bool) {
    let body = vec![b'x'; 1_000_000];
    let length: &[_] = if has_length { &[("content-length", "1000000")] } else { &[] };
    client.request(0, stream, "POST", "/", length).await;
    let mut pieces = body.chunks(16_384).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_STREAM } else { 0 };
        within("the end of the request", client.send(DATA, flags, stream, piece)).await;
    }
}

/// Each client sends the complete request before it reads. Its connection can be used for another request.
async fn check_all_get_over_http2(clients: usize, address: SocketAddr, part: &'static str) {
    for has_length in [true, false] {
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            tasks.spawn(async move {
                let mut client = connect_http2(address).await;
                send_large(&mut client, 3, has_length).await;
                let body = complete_body(&client.rest_of(3).await, 3);
                assert!(body.contains(part), "{body}");
                client.request(END_STREAM, 5, "GET", "/", &[]).await;
                complete_body(&client.rest_of(5).await, 5);
            });
        }
        within("all clients", tasks.join_all()).await;
    }
}

#[tokio::test]
async fn a_rejection_of_a_large_body_arrives_over_http2() {
    let upstream = Upstream::playing([ok("")]).await;
    let service = gateway(upstream.address, &["--max-body-size", "1000"]).await;
    check_all_get_over_http2(10, service.address, "\"status\":413").await;
}

#[tokio::test]
async fn a_failure_of_a_large_request_arrives_over_http2() {
    let (address, _socket) = refusing();
    let service = gateway(address, &["--outage-wait", "off"]).await;
    check_all_get_over_http2(10, service.address, "\"status\":502").await;
}

#[tokio::test]
async fn an_early_rejection_of_a_large_request_arrives_over_http2() {
    for reads in [true, false] {
        let (address, _tasks) = rejecting_early(reads).await;
        let service = gateway(address, &[]).await;
        check_all_get_over_http2(10, service.address, "no!").await;
    }
}

/// The response head arrives before the client has sent the complete request.
#[tokio::test]
async fn an_unfinished_request_over_http2_is_not_reset() {
    let (address, _tasks) = rejecting_early(true).await;
    let small = gateway(address, &["--max-body-size", "4"]).await;
    let any = gateway(address, &["--request-buffer-time", "0s"]).await;
    let cases = [
        (&small, &[("content-length", "6")][..], "\"status\":413"),
        (&small, &[("expect", "magic")], "\"status\":417"),
        (&any, &[("content-length", "6")], "no!"),
        (&any, &[], "no!"),
    ];
    for (service, fields, part) in cases {
        let mut client = connect_http2(service.address).await;
        client.request(0, 3, "POST", "/", fields).await;
        let head = within(format!("{fields:?}, {part}"), client.frame()).await.expect("the head of the response");
        assert_eq!((head.kind, head.stream), (HEADERS, 3), "{head:?}");
        let mut frames = vec![head];
        for (flags, piece) in [(0, b"hel"), (END_STREAM, b"lo!")] {
            client.send(DATA, flags, 3, piece).await;
            sleep(PAUSE).await;
        }
        frames.extend(client.rest_of(3).await);
        let body = complete_body(&frames, 3);
        assert!(body.contains(part), "{fields:?}: {body}");
        // A late reset would arrive before the next response.
        client.request(END_STREAM, 5, "GET", "/", &[]).await;
        complete_body(&client.rest_of(5).await, 5);
    }
}

#[tokio::test]
async fn small_bodies_in_separate_frames_get_their_error_responses() {
    let (address, _socket) = refusing();
    for time in ["1s", "0s"] {
        let service = gateway(address, &["--outage-wait", "off", "--request-buffer-time", time]).await;
        let mut client = Peer::connect(service.address).await;
        let mut frames = Vec::new();
        for (round, stream) in (1..).step_by(2).take(50).enumerate() {
            client.request(0, stream, "POST", "/", &[]).await;
            sleep(Duration::from_millis(round as u64 % 4 * 4)).await;
            client.send(DATA, END_STREAM, stream, b"abc").await;
            frames.extend(client.rest_of(stream).await);
            let body = complete_body(&frames, stream);
            assert!(body.contains("\"status\":502"), "{time}, round {round}: {body}");
        }
    }
}

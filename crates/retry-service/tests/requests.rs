//! Requests on their way to the upstream: they keep their meaning, or are rejected.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response, header::HOST};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use support::{
    QUICK, Service, backend, gateway, gateway_and_upstream,
    http2::{DATA, END_STREAM, Frame, HEADERS, Peer, RST_STREAM, body_of},
    message::{exchange, exchange_bytes, get, read_until, send},
    refusing,
    upstream::{Reply, Upstream, ok, read_request},
    within,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    process::Command,
    time::sleep,
};

#[tokio::test]
async fn transfer_codings_other_than_chunked_get_a_501() {
    let (upstream, service) = gateway_and_upstream(&[]).await;
    for codings in ["gzip, chunked", "chunked, chunked", "gzip\r\ntransfer-encoding: chunked", "gzip;q=\"1,\", chunked"]
    {
        let head = format!("POST / HTTP/1.1\r\ntransfer-encoding: {codings}");
        let response = send(service.address, &head, "5\r\nhello\r\n0\r\n\r\n").await;
        assert_eq!(response.status, 501, "{codings:?}");
    }
    assert_eq!(upstream.received().len(), 0);
}

#[tokio::test]
async fn every_spelling_of_chunked_is_forwarded_as_chunked() {
    for coding in ["chunked", "Chunked", " chunked\t"] {
        let (upstream, service) = gateway_and_upstream(&[]).await;
        let head = format!("POST / HTTP/1.1\r\ntransfer-encoding: {coding}");
        let response = send(service.address, &head, "5\r\nhello\r\n0\r\n\r\n").await;
        assert_eq!(response.status, 200, "{coding:?}");
        let request = upstream.only();
        assert_eq!(request.fields("transfer-encoding"), ["chunked"], "{coding:?}");
        assert_eq!(request.body(), "5\r\nhello\r\n0\r\n\r\n", "{coding:?}");
    }
}

const METHODS: [&str; 7] = ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "POST", "REPORT"];

#[tokio::test]
async fn a_chunked_body_is_forwarded_with_every_method() {
    for method in METHODS {
        let (upstream, service) = gateway_and_upstream(&[]).await;
        let head = format!("{method} / HTTP/1.1\r\ntransfer-encoding: chunked");
        assert_eq!(send(service.address, &head, "5\r\nhello\r\n0\r\n\r\n").await.status, 200, "{method}");
        let request = upstream.only();
        assert_eq!(request.fields("transfer-encoding"), ["chunked"], "{method}: {request:?}");
        assert_eq!(request.body(), "5\r\nhello\r\n0\r\n\r\n", "{method}");
    }
}

#[tokio::test]
async fn a_body_of_unknown_length_from_an_http2_client_is_forwarded_with_every_method() {
    for method in METHODS {
        let (upstream, service) = gateway_and_upstream(&[]).await;
        let mut client = Peer::connect(service.address).await;
        client.request(0, 1, method, "/", &[]).await;
        client.send(DATA, END_STREAM, 1, b"hello").await;
        client.rest_of(1).await;
        let request = upstream.only();
        assert_eq!(request.fields("transfer-encoding"), ["chunked"], "{method}: {request:?}");
        assert_eq!(request.body(), "5\r\nhello\r\n0\r\n\r\n", "{method}");
    }
}

#[tokio::test]
async fn a_chunked_body_is_forwarded_over_http2_with_every_method() {
    let backend = backend("ok").await;
    let service = gateway(backend.address(), &["--upstream-http2"]).await;
    for method in ["GET", "DELETE", "POST"] {
        let head = format!("{method} /echo HTTP/1.1\r\ntransfer-encoding: chunked");
        let echo = send(service.address, &head, "5\r\nhello\r\n0\r\n\r\n").await.text();
        assert!(echo.starts_with(&format!("{method} /echo HTTP/2")) && echo.ends_with("hello"), "{echo}");
    }
}

#[tokio::test]
async fn a_request_that_ends_with_an_empty_data_frame_is_forwarded_without_a_body() {
    let (upstream, service) = gateway_and_upstream(&[]).await;
    let mut client = Peer::connect(service.address).await;
    for (round, method) in (0..).zip(["GET", "HEAD", "GET"]) {
        let stream = 2 * round + 1;
        client.request(0, stream, method, "/", &[]).await;
        sleep(Duration::from_millis(10)).await;
        client.send(DATA, END_STREAM, stream, b"").await;
        client.rest_of(stream).await;
        let received = upstream.received();
        let request = received.last().expect("a request");
        assert_eq!(received.len(), stream as usize / 2 + 1);
        assert!(request.line().starts_with(method), "{request:?}");
        assert!(request.fields("transfer-encoding").is_empty() && request.body().is_empty(), "{request:?}");
    }
}

/// Sends a POST over HTTP/2 that ends only after `pause`. Returns the frames of the response and of that to a second
/// request, and checks that there is no reset among them.
async fn post_with_late_end(
    address: SocketAddr,
    fields: &[(&str, &str)],
    body: &str,
    pause: impl Future<Output = ()>,
) -> Vec<Frame> {
    let mut client = Peer::connect(address).await;
    client.request(0, 1, "POST", "/", fields).await;
    client.send(DATA, 0, 1, body.as_bytes()).await;
    pause.await;
    client.send(DATA, END_STREAM, 1, b"").await;
    let mut frames = client.rest_of(1).await;
    // A late reset would arrive before the second response.
    client.request(END_STREAM, 3, "GET", "/", &[]).await;
    frames.extend(client.rest_of(3).await);
    let resets: Vec<_> = frames.iter().filter(|frame| frame.kind == RST_STREAM).collect();
    assert!(resets.is_empty(), "{fields:?}, {body:?}: {resets:?}");
    frames
}

/// Some clients do this, httpx for example.
#[tokio::test]
async fn a_request_that_ends_after_its_response_is_not_reset() {
    let upstream = Upstream::playing([ok("done")]).await;
    let service = gateway(upstream.address, &[]).await;
    for round in 1..=3 {
        let response_sent = async {
            let request_received = async {
                while upstream.received().len() < 2 * round - 1 {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            within("the request to the upstream", request_received).await;
            sleep(Duration::from_millis(50)).await;
        };
        let frames = post_with_late_end(service.address, &[("content-length", "5")], "hello", response_sent).await;
        let head = frames.iter().find(|frame| frame.kind == HEADERS && frame.stream == 1);
        assert_eq!(head.expect("a response").payload[0], 0x88, "200, and not {head:?}");
        assert_eq!(body_of(&frames, 1), b"done");
    }
}

/// Whether the response is the upstream's or the gateway's own.
#[tokio::test]
async fn a_request_that_ends_after_any_kind_of_response_is_not_reset() {
    let chunks =
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndone\r\n0\r\nx-sum: 4\r\n\r\n";
    let upstream = Upstream::playing([Reply::new(chunks)]).await;
    let service = gateway(upstream.address, &["--max-body-size", "10"]).await;
    for (what, body, fields, status) in [
        ("trailers", "hello", &[("te", "trailers")][..], "200"),
        ("trailers after a length", "hello", &[("te", "trailers"), ("content-length", "5")], "200"),
        ("too large", "hello, hello", &[], "413"),
        ("too large by its length", "hello, hello", &[("content-length", "12")], "413"),
        ("no authority", "hello", &[(":authority", "a:99999")], "400"),
        ("an expectation", "hello", &[("expect", "tea")], "417"),
    ] {
        let frames = post_with_late_end(service.address, fields, body, sleep(Duration::from_millis(50))).await;
        let mut heads = frames.iter().filter(|frame| frame.kind == HEADERS && frame.stream == 1);
        assert_eq!(status_of(heads.next().expect(what)), status, "{what}");
        assert_eq!(heads.next().is_some(), status == "200", "{what}: trailers");
        assert!(frames.iter().any(|frame| frame.stream == 1 && frame.ends_stream()), "{what}: {frames:?}");
    }
}

/// The status in a response head: RFC 7541, section 2.3.2 and appendix A.
fn status_of(head: &Frame) -> String {
    match &head.payload[..] {
        [0x88, ..] => "200".to_owned(),
        [0x8c, ..] => "400".to_owned(),
        // A literal with an indexed name and Huffman coding (appendix B): five or six bits per digit.
        [0x48, coded, rest @ ..] if coded & 0x80 != 0 => {
            let bits: String = rest[..usize::from(coded & 0x7f)].iter().map(|byte| format!("{byte:08b}")).collect();
            let mut rest = &bits[..];
            let digits =
                ["00000", "00001", "00010", "011001", "011010", "011011", "011100", "011101", "011110", "011111"];
            let digit = |rest: &mut &str| {
                let (digit, code) = (0..).zip(digits).find(|(_, code)| rest.starts_with(code)).expect(&bits);
                *rest = &rest[code.len()..];
                digit.to_string()
            };
            (0..3).map(|_| digit(&mut rest)).collect()
        }
        [0x48, 3, a, b, c, ..] => [*a, *b, *c].into_iter().map(char::from).collect(),
        other => panic!("no status: {other:?}"),
    }
}

#[tokio::test]
async fn a_request_that_never_ends_gets_its_response() {
    let upstream = Upstream::playing([ok("done")]).await;
    let service = gateway(upstream.address, &[]).await;
    let mut client = Peer::connect(service.address).await;
    client.request(0, 1, "POST", "/", &[("content-length", "5")]).await;
    client.send(DATA, 0, 1, b"hello").await;
    let frames = client.rest_of(1).await;
    assert_eq!(body_of(&frames, 1), b"done", "{frames:?}");
}

#[tokio::test]
async fn every_target_is_forwarded_in_origin_form() {
    for (sent, expected) in [
        ("GET http://a.example?x", "GET /?x"),
        ("GET http://a.example", "GET /"),
        ("GET http://a.example/", "GET /"),
        ("GET http://a.example/b?c", "GET /b?c"),
        ("GET http://a.example:80/b", "GET /b"),
        ("GET http://a.example#f", "GET /"),
        ("GET http://a.example?x#f", "GET /?x"),
        ("GET /b#f", "GET /b"),
        ("GET /b?", "GET /b?"),
        ("OPTIONS http://a.example", "OPTIONS /"),
        ("OPTIONS http://a.example?x", "OPTIONS /?x"),
        ("OPTIONS *", "OPTIONS *"),
        ("OPTIONS /b", "OPTIONS /b"),
    ] {
        let (upstream, service) = gateway_and_upstream(&[]).await;
        let request = format!("{sent} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
        assert_eq!(exchange(service.address, request).await.status, 200, "{sent}");
        assert_eq!(upstream.only().line(), format!("{expected} HTTP/1.1"), "{sent}");
    }
}

#[tokio::test]
async fn options_of_the_whole_server_is_forwarded_as_such_over_http2() {
    let (upstream, service) = gateway_and_upstream(&[]).await;
    let mut client = Peer::connect(service.address).await;
    client.request(END_STREAM, 1, "OPTIONS", "*", &[]).await;
    client.rest_of(1).await;
    assert_eq!(upstream.only().line(), "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn queries_are_not_logged_at_any_level() {
    let upstream = Upstream::playing([Reply::new("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")]).await;
    let (refusing, _socket) = refusing();
    for upstream in [upstream.address, refusing] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
        command.env("RUST_LOG", "trace").args(QUICK).args(["--listen", "127.0.0.1:0", "--access-log"]);
        command.args(["--outage-wait", "100ms", "--upstream", &format!("http://{upstream}")]);
        let mut service = Service::spawn(command).await;
        let targets = [
            "GET http://a.example?secret",
            "GET http://a.example/b?secret",
            "GET /b?secret",
            "GET ?secret",
            "GET http:?secret",
            "GET a.example?secret",
            "GET *?secret",
            "OPTIONS *?secret",
            "OPTIONS http://a.example?secret",
            "CONNECT a.example?secret",
            "CONNECT a.example:80/?secret",
        ];
        for target in targets {
            let request = format!("{target} HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n");
            exchange_bytes(service.address, request).await;
        }
        let log = service.stop().await.join("\n");
        assert!(log.contains(" GET /b 50"), "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
}

#[tokio::test]
async fn the_host_in_the_target_takes_precedence() {
    let (upstream, service) = gateway_and_upstream(&["--host", "keep"]).await;
    let request = "GET http://good.example/ HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    assert_eq!(exchange(service.address, request).await.status, 200);
    let mut client = Peer::connect(service.address).await;
    client.request(END_STREAM, 1, "GET", "/", &[(":authority", "good.example"), ("host", "evil.example")]).await;
    client.rest_of(1).await;
    let received = upstream.received();
    // Over HTTP/2 a contradiction may be rejected instead.
    assert!(!received.is_empty());
    for request in received {
        assert_eq!(request.fields("host"), ["good.example"]);
        assert_eq!(request.fields("x-forwarded-host"), ["good.example"]);
    }
}

#[tokio::test]
async fn a_password_in_the_target_is_not_part_of_the_host() {
    let (upstream, service) = gateway_and_upstream(&["--host", "keep"]).await;
    let request = "GET http://u:p@good.example/ HTTP/1.1\r\nhost: good.example\r\nconnection: close\r\n\r\n";
    let status = exchange(service.address, request).await.status;
    assert!(status == 200 || status == 400, "{status}");
    let mut client = Peer::connect(service.address).await;
    client.request(END_STREAM, 1, "GET", "/", &[(":authority", "u:p@good.example")]).await;
    client.rest_of(1).await;
    for request in upstream.received() {
        assert!(!request.text.contains("u:p"), "{request:?}");
        assert_eq!(request.fields("host"), ["good.example"]);
    }
}

#[tokio::test]
async fn an_invalid_host_is_rejected() {
    let (upstream, service) = gateway_and_upstream(&[]).await;
    let invalid: [&[u8]; 12] = [
        b"a b",
        b"<script>",
        b"evil/../",
        b"\xff",
        b"a\xe4.example",
        b"u:p@h",
        b"@h",
        b"a:x",
        b"a:99999",
        b"a, b",
        b"[::1",
        b"a?b",
    ];
    for host in invalid {
        let request = [b"GET / HTTP/1.1\r\nconnection: close\r\nhost: ", host, b"\r\n\r\n"].concat();
        let shown = String::from_utf8_lossy(host);
        assert_eq!(exchange(service.address, request).await.status, 400, "{shown:?}");
        assert_eq!(upstream.received().len(), 0, "{shown:?}");
    }
    for (number, host) in (1..).zip(["", "a", "a_b.example:8080", "[::1]:80", "[::1]", "127.0.0.1", "xn--4ca.example"])
    {
        let request = format!("GET / HTTP/1.1\r\nconnection: close\r\nhost: {host}\r\n\r\n");
        assert_eq!(exchange(service.address, request).await.status, 200, "{host:?}");
        assert_eq!(upstream.received().len(), number, "{host:?}");
    }
}

#[tokio::test]
async fn a_request_is_forwarded_with_one_canonical_length_or_rejected() {
    let body = "x".repeat(36);
    for lengths in [
        "content-length: 036",
        "content-length: 36\r\ncontent-length: 36",
        "content-length: 36, 36",
        "content-length: 36\r\ncontent-length: 036",
        "content-length: 36\r\ncontent-length: 36, 36",
    ] {
        let (upstream, service) = gateway_and_upstream(&[]).await;
        let response = send(service.address, &format!("POST / HTTP/1.1\r\n{lengths}"), &body).await;
        if response.status == 400 {
            assert_eq!(upstream.received().len(), 0, "{lengths:?}");
        } else {
            assert_eq!(response.status, 200, "{lengths:?}");
            assert_eq!(upstream.only().fields("content-length"), ["36"], "{lengths:?}");
        }
    }
}

#[tokio::test]
async fn a_request_over_http2_is_forwarded_with_one_canonical_length_or_rejected() {
    let (upstream, service) = gateway_and_upstream(&[]).await;
    for lengths in [&["05"][..], &["5", "5"], &["5, 5"], &["5", "6"], &["+5"]] {
        let mut client = Peer::connect(service.address).await;
        let lengths: Vec<_> = lengths.iter().map(|length| ("content-length", *length)).collect();
        client.request(0, 1, "POST", "/", &lengths).await;
        client.send(DATA, END_STREAM, 1, b"hello").await;
        client.rest_of(1).await;
        for request in upstream.received() {
            assert_eq!((request.fields("content-length"), request.body()), (vec!["5"], "hello"), "{lengths:?}");
        }
    }
}

/// A gateway that sends a password to its upstream.
async fn with_password(upstream: SocketAddr) -> Service {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.args(QUICK).args(["--listen", "127.0.0.1:0", "--upstream", &format!("http://user:pw@{upstream}")]);
    Service::spawn(command).await
}

#[tokio::test]
async fn trace_is_forwarded_without_the_password_of_the_upstream() {
    let upstream = Upstream::playing([ok("")]).await;
    let service = with_password(upstream.address).await;
    for method in ["TRACE", "GET"] {
        send(service.address, &format!("{method} / HTTP/1.1"), "").await;
    }
    let received = upstream.received();
    assert_eq!(received[0].fields("authorization"), [""; 0]);
    assert_eq!(received[1].fields("authorization"), ["Basic dXNlcjpwdw=="]);
}

#[tokio::test]
async fn max_forwards_is_decremented_for_trace_and_options() {
    for (line, sent, expected) in [
        ("TRACE /", "5", "4"),
        ("OPTIONS /", "1", "0"),
        ("OPTIONS *", "10", "9"),
        // Other methods ignore it.
        ("GET /", "5", "5"),
        ("GET /", "0", "0"),
    ] {
        let (upstream, service) = gateway_and_upstream(&[]).await;
        send(service.address, &format!("{line} HTTP/1.1\r\nmax-forwards: {sent}"), "").await;
        assert_eq!(upstream.only().fields("max-forwards"), [expected], "{line}");
    }
}

#[tokio::test]
async fn the_gateway_responds_when_max_forwards_is_zero() {
    let upstream = Upstream::playing([ok("not this")]).await;
    let service = with_password(upstream.address).await;
    let head = "TRACE /here HTTP/1.1\r\nmax-forwards: 0\r\nx-mine: 1\r\nauthorization: Basic c2VjcmV0\r\n\
                proxy-authorization: Basic c2VjcmV0\r\ncookie: secret=1";
    let response = send(service.address, head, "").await;
    assert_eq!((response.status, response.field("content-type")), (200, Some("message/http")));
    let trace = response.text().to_ascii_lowercase();
    assert!(trace.starts_with("trace /here http/1.1\r\n"), "{trace}");
    assert!(trace.contains("x-mine: 1\r\n") && trace.contains("host: shop.example\r\n"), "{trace}");
    assert!(!trace.contains("authorization") && !trace.contains("cookie"), "{trace}");
    for target in ["/", "*"] {
        let response = send(service.address, &format!("OPTIONS {target} HTTP/1.1\r\nmax-forwards: 0"), "").await;
        assert_eq!(response.status, 204, "{target}");
        assert!(response.field("allow").is_some_and(|allow| allow.contains("OPTIONS")), "{}", response.head);
    }
    assert_eq!(upstream.received().len(), 0);
}

#[tokio::test]
async fn the_response_has_the_id_that_the_upstream_got() {
    for more in ["connection: x-request-id", "connection: X-Request-Id, x-forwarded-for, via", "x-request-id: second"] {
        for flags in [&[][..], &["--trusted-proxies", "127.0.0.1"]] {
            let (upstream, service) = gateway_and_upstream(flags).await;
            let response = send(service.address, &format!("GET / HTTP/1.1\r\nx-request-id: first\r\n{more}"), "").await;
            let request = upstream.only();
            let id = response.field("x-request-id").expect("an id");
            assert_eq!(request.fields("x-request-id"), [id], "{more}, {flags:?}");
            assert_eq!((request.fields("via").len(), request.fields("x-forwarded-for").len()), (1, 1), "{more}");
        }
    }
}

#[tokio::test]
async fn an_element_added_to_forwarded_is_outside_an_unclosed_quote() {
    for sent in ["for=\"unclosed", "for=1.1.1.1, for=\"unclosed", "for=\"a\\", "for=1.1.1.1;host=\"x, for=2.2.2.2"] {
        let upstream = Upstream::playing([ok("")]).await;
        let flags = ["--forwarded", "forwarded", "--trusted-proxies", "127.0.0.1"];
        let service = gateway(upstream.address, &flags).await;
        send(service.address, &format!("GET / HTTP/1.1\r\nforwarded: {sent}"), "").await;
        let request = upstream.only();
        let forwarded = request.fields("forwarded").join(", ");
        assert!(forwarded.contains("for=127.0.0.1;"), "{sent}: {forwarded}");
        assert_eq!(forwarded.matches('"').count() % 2, 0, "{sent}: {forwarded}");
        assert!(!forwarded.contains("unclosed"), "{sent}: {forwarded}");
    }
}

#[tokio::test]
async fn values_from_an_http2_client_are_trimmed() {
    let (upstream, service) = gateway_and_upstream(&[]).await;
    let mut client = Peer::connect(service.address).await;
    client.request(END_STREAM, 1, "GET", "/", &[("x-a", " b\t"), ("x-c", "d"), ("x-e", "  ")]).await;
    client.rest_of(1).await;
    // The request may be rejected instead.
    if let [request] = &upstream.received()[..] {
        assert_eq!(request.fields("x-a"), ["b"], "{request:?}");
        assert_eq!(request.fields("x-c"), ["d"], "{request:?}");
        assert_eq!(request.fields("x-e"), [""], "{request:?}");
    }
}

#[tokio::test]
async fn pseudo_headers_in_trailers_are_not_forwarded() {
    let (upstream, service) = gateway_and_upstream(&[]).await;
    let mut client = Peer::connect(service.address).await;
    client.request(0, 1, "POST", "/", &[("te", "trailers"), ("trailer", "x-sum")]).await;
    client.send(DATA, 0, 1, b"hello").await;
    client.send_fields(END_STREAM, 1, &[("x-sum", "1"), (":path", "/evil")]).await;
    client.rest_of(1).await;
    // The request may be rejected instead.
    for request in upstream.received() {
        assert!(!request.text.contains("evil") && !request.text.contains(":path"), "{request:?}");
    }
}

#[tokio::test]
async fn the_upstream_gets_the_host_of_the_client() {
    let (upstream, service) = gateway_and_upstream(&[]).await;
    get(service.address).await;
    assert_eq!(upstream.only().fields("host"), ["shop.example"]);
}

/// An HTTP/2 upstream whose responses contain the `:authority` and `Host` of the request.
async fn echoing_the_authority() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = async |request: Request<Incoming>| {
        let hosts: Vec<_> = request.headers().get_all(HOST).iter().collect();
        let authority = request.uri().authority();
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(format!("{authority:?} {hosts:?}"))))
    };
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service_fn(echo)));
        }
    });
    address
}

#[tokio::test]
async fn an_http2_upstream_gets_the_host_of_the_client_as_authority() {
    let upstream = echoing_the_authority().await;
    let service = gateway(upstream, &["--upstream-http2"]).await;
    assert_eq!(get(service.address).await.text(), "Some(shop.example) []");
    let service = gateway(upstream, &["--upstream-http2", "--host", "rewrite"]).await;
    assert_eq!(get(service.address).await.text(), format!("Some({upstream}) []"));
}

#[tokio::test]
async fn via_can_be_disabled() {
    for (flags, expected) in [(&["--via", "off"][..], 0), (&["--via", "on"], 1), (&[], 1)] {
        let (upstream, service) = gateway_and_upstream(flags).await;
        let response = get(service.address).await;
        assert_eq!(response.fields("via").len(), expected, "{flags:?}");
        assert_eq!(upstream.only().fields("via").len(), expected, "{flags:?}");
    }
}

const EXPECTING: &str =
    "PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_body_that_the_upstream_rejects_by_the_head_is_not_requested() {
    for status in ["417 Expectation Failed", "401 Unauthorized"] {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = gateway(upstream.local_addr().unwrap(), &[]).await;
        let client = tokio::spawn(exchange_bytes(service.address, EXPECTING));
        let (mut server, _) = within("a connection", upstream.accept()).await.unwrap();
        let head = read_until(&mut server, "\r\n\r\n").await;
        assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
        let response = format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!");
        server.write_all(response.as_bytes()).await.unwrap();
        let got = String::from_utf8(client.await.unwrap()).unwrap();
        assert!(got.starts_with(&format!("HTTP/1.1 {status}\r\n")) && got.ends_with("no!"), "{got}");
    }
}

#[tokio::test]
async fn a_100_continue_of_the_upstream_is_passed_on() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(upstream.local_addr().unwrap(), &[]).await;
    let mut client = TcpStream::connect(service.address).await.unwrap();
    client.write_all(EXPECTING.as_bytes()).await.unwrap();
    let (mut server, _) = within("a connection", upstream.accept()).await.unwrap();
    let head = read_until(&mut server, "\r\n\r\n").await;
    assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
    server.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    assert_eq!(read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").await.unwrap();
    assert_eq!(read_until(&mut server, "hello").await, "hello");
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
    let got = read_until(&mut client, "done").await;
    assert!(got.starts_with("HTTP/1.1 200 OK\r\n"), "{got}");
}

#[tokio::test]
async fn the_client_gets_a_100_continue_after_a_second_without_one_from_the_upstream() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = gateway(upstream.local_addr().unwrap(), &[]).await;
    let mut client = TcpStream::connect(service.address).await.unwrap();
    client.write_all(EXPECTING.as_bytes()).await.unwrap();
    let (mut server, _) = within("a connection", upstream.accept()).await.unwrap();
    assert_eq!(read_until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"hello").await.unwrap();
    let request = within("a request", read_request(&mut server, &mut Vec::new())).await.unwrap();
    assert!(request.ends_with("hello"), "{request}");
}

#[tokio::test]
async fn the_case_of_header_names_can_be_preserved() {
    let reply = "HTTP/1.1 200 OK\r\nX-Odd-CASE: 1\r\nContent-Length: 0\r\n\r\n";
    for (flags, in_request, in_response) in [
        (&[][..], "x-mixed-case: 1", "x-odd-case: 1"),
        (&["--preserve-header-case"], "X-Mixed-CASE: 1", "X-Odd-CASE: 1"),
    ] {
        let upstream = Upstream::playing([Reply::new(reply)]).await;
        let service = gateway(upstream.address, flags).await;
        let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Mixed-CASE: 1\r\nConnection: close\r\n\r\n";
        let response = String::from_utf8(exchange_bytes(service.address, request).await).unwrap();
        assert!(response.lines().any(|line| line == in_response), "{response}");
        let received = upstream.only().text;
        assert!(received.lines().any(|line| line == in_request), "{received}");
    }
}

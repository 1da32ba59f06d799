//! Every behavior over HTTP/1.1: the bytes that a client receives.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the message")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::Duration;

use delayed_backend::{Backend, Script, known_byte};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

mod support;
use support::{exchange, read_response, request, watch};

const GET: &str = "GET /hello HTTP/1.1\r\nhost: test\r\n\r\n";
const HELLO: &str = "Hello World!!!";

/// If a connection sends nothing for this long, nothing more is expected from it.
const QUIET_PERIOD: Duration = Duration::from_millis(250);

/// How an exchange ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The server closed with a FIN.
    Fin,
    /// The server closed with a RST.
    Rst,
    /// The connection stayed open, and nothing more was sent.
    Silence,
}

async fn backend(script: &str) -> Backend {
    watch();
    Backend::start(script.parse().unwrap()).await.unwrap()
}

async fn send(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Returns all bytes, and how the connection ended. The limit for the first byte allows for a busy machine.
async fn read_to_end(stream: &mut TcpStream) -> (String, End) {
    let mut bytes = Vec::new();
    let end = loop {
        let limit = if bytes.is_empty() { Duration::from_secs(60) } else { QUIET_PERIOD };
        match timeout(limit, stream.read_buf(&mut bytes)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => break End::Fin,
            Err(_) => break End::Silence,
            Ok(Err(error)) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                break End::Rst;
            }
        }
    };
    (String::from_utf8_lossy(&bytes).into_owned(), end)
}

async fn assert_silent(stream: &mut TcpStream) {
    assert!(timeout(QUIET_PERIOD, stream.read(&mut [0; 1])).await.is_err());
}

/// Returns the response to `/hello`, and how the connection ended. The client keeps it open.
async fn response_to(script: &str) -> (String, End) {
    let backend = backend(script).await;
    read_to_end(&mut send(backend.address(), GET).await).await
}

#[tokio::test]
async fn ok_responds_and_keeps_the_connection_open() {
    let (response, end) = response_to("ok").await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with(HELLO), "{response}");
    assert_eq!(end, End::Silence);
}

#[tokio::test]
async fn delay_waits_before_the_response() {
    let backend = backend("delay=100ms").await;
    let start = Instant::now();
    let response = exchange(backend.address(), &request("GET", "/hello")).await;
    assert!(response.ends_with(HELLO), "{response}");
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn hang_never_responds() {
    let backend = backend("hang").await;
    let mut stream = send(backend.address(), GET).await;
    assert_silent(&mut stream).await;
    assert_eq!(backend.received(), 1);
}

#[tokio::test]
async fn status_sets_status_and_body() {
    let (response, end) = response_to("status=503;retry-after=1").await;
    assert!(response.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{response}");
    assert!(response.contains("retry-after: 1\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nService Unavailable"), "{response}");
    assert_eq!(end, End::Silence);
}

#[tokio::test]
async fn status_can_have_a_date_in_retry_after() {
    let (response, _) = response_to("status=503;retry-after=\"Fri, 31 Dec 1999 23:59:59 GMT\"").await;
    assert!(response.contains("retry-after: Fri, 31 Dec 1999 23:59:59 GMT\r\n"), "{response}");
}

#[tokio::test]
async fn status_204_has_no_content() {
    let (response, end) = response_to("status=204").await;
    assert!(response.starts_with("HTTP/1.1 204 No Content\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\n"), "{response}");
    assert_eq!(end, End::Silence);
}

#[tokio::test]
async fn status_can_be_unregistered() {
    let (response, _) = response_to("status=599;body=odd").await;
    assert!(response.starts_with("HTTP/1.1 599 ") && response.ends_with("\r\n\r\nodd"), "{response}");
}

#[tokio::test]
async fn reset_sends_nothing_but_a_rst() {
    assert_eq!(response_to("reset").await, (String::new(), End::Rst));
}

#[tokio::test]
async fn close_sends_nothing_but_a_fin() {
    assert_eq!(response_to("close").await, (String::new(), End::Fin));
}

#[tokio::test]
async fn a_fault_can_be_delayed() {
    let backend = backend("close;delay=100ms").await;
    let start = Instant::now();
    let mut stream = send(backend.address(), GET).await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn reset_after_sends_the_given_number_of_bytes() {
    assert_eq!(response_to("reset-after=12").await, ("HTTP/1.1 200".into(), End::Rst));
}

#[tokio::test]
async fn close_after_sends_the_given_number_of_bytes() {
    assert_eq!(response_to("close-after=12").await, ("HTTP/1.1 200".into(), End::Fin));
}

#[tokio::test]
async fn close_after_can_end_a_long_body() {
    let backend = backend("close-after=100000").await;
    let request = request("GET", "/bytes/1000000");
    let (response, end) = read_to_end(&mut send(backend.address(), &request).await).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 1000000"), "{head}");
    assert_eq!(response.len(), 100_000);
    assert!(body.bytes().eq((0..body.len() as u64).map(known_byte)));
    assert_eq!(end, End::Fin);
}

#[tokio::test]
async fn stall_after_sends_the_given_number_of_bytes() {
    assert_eq!(response_to("stall-after=12").await, ("HTTP/1.1 200".into(), End::Silence));
}

#[tokio::test]
async fn a_fault_beyond_the_end_of_the_response_has_no_effect() {
    let backend = backend("reset-after=200,ok").await;
    let mut stream = send(backend.address(), GET).await;
    read_response(&mut stream, HELLO).await;
    stream.write_all(b"GET /requests HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    read_response(&mut stream, "]}").await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    read_response(&mut stream, HELLO).await;
}

/// Returns whether the fault of the only request is recorded as missed.
fn is_missed(backend: &Backend) -> bool {
    backend.requests().iter().all(|request| request.fault_missed)
}

#[tokio::test]
async fn a_fault_after_the_end_of_the_response_is_recorded_as_missed() {
    let (full, _) = response_to("ok").await;
    let after = |bytes: usize| format!("stall-after={}", full.len() + bytes);
    for script in
        [&after(0), &after(1), "reset-after=5000", "truncate=14", "status=204;bad-chunk", "body=\"\";truncate"]
    {
        let backend = backend(script).await;
        let mut stream = send(backend.address(), GET).await;
        read_to_end(&mut stream).await;
        assert!(is_missed(&backend), "{script}");
    }
    let last_byte_missing = format!("stall-after={}", full.len() - 1);
    for script in [&last_byte_missing, "reset-after=5", "truncate=13", "truncate", "bad-chunk", "chunked;truncate=99"] {
        let backend = backend(script).await;
        let mut stream = send(backend.address(), GET).await;
        read_to_end(&mut stream).await;
        drop(stream);
        assert!(!is_missed(&backend), "{script}");
    }
}

#[tokio::test]
async fn truncate_sends_only_the_start_of_the_body() {
    for (script, body) in [("truncate", "Hello W"), ("truncate=0", ""), ("truncate=5", "Hello")] {
        let (response, end) = response_to(script).await;
        assert!(response.contains("content-length: 14\r\n"), "{response}");
        assert!(response.ends_with(&format!("\r\n\r\n{body}")), "{script}: {response}");
        assert_eq!(end, End::Fin);
    }
}

#[tokio::test]
async fn truncate_leaves_a_short_body_complete() {
    for script in ["truncate=14", "truncate=99", "status=204;truncate", "status=200;body=\"\";truncate"] {
        let (response, end) = response_to(script).await;
        assert!(response.starts_with("HTTP/1.1 20"), "{script}: {response}");
        assert_eq!(end, End::Silence, "{script}: {response}");
    }
}

#[tokio::test]
async fn the_text_of_a_status_is_long_enough_to_be_cut_off() {
    for (script, length) in [("status=503;truncate=50000", 50_000), ("status=503;truncate=19", 19)] {
        let (response, end) = response_to(script).await;
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{script}: {head}");
        assert_eq!((body.len(), end), (length, End::Fin), "{script}: {head}");
    }
    let (response, _) = response_to("status=503;truncate=9").await;
    assert!(response.ends_with("\r\n\r\nService U"), "{response}");
}

#[tokio::test]
async fn nothing_is_truncated_without_content() {
    for script in ["status=204;truncate", "status=304;truncate"] {
        let (response, end) = response_to(script).await;
        assert!(!response.contains("content-length"), "{script}: {response}");
        assert!(response.ends_with("\r\n\r\n"), "{script}: {response}");
        assert_eq!(end, End::Silence, "{script}: {response}");
    }
}

#[tokio::test]
async fn drip_pauses_between_bytes() {
    let backend = backend("drip=1ms").await;
    let start = Instant::now();
    let mut stream = send(backend.address(), GET).await;
    let response = read_response(&mut stream, HELLO).await;
    assert!(start.elapsed() >= Duration::from_millis(response.len() as u64 - 1), "{response}");
}

#[tokio::test]
async fn garbage_is_not_http() {
    let (response, end) = response_to("garbage").await;
    assert!(response.starts_with("This is not HTTP") && !response.contains("200"), "{response}");
    assert_eq!(end, End::Fin);
}

#[tokio::test]
async fn huge_headers_have_the_given_size() {
    let (response, end) = response_to("huge-headers=100000").await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n") && response.ends_with(HELLO));
    assert_eq!(response.matches("xx").count(), 50_000);
    assert_eq!(end, End::Silence);
}

/// `HELLO` in chunked encoding.
const CHUNKS: &str = "7\r\nHello W\r\n7\r\norld!!!\r\n0\r\n\r\n";

/// Returns the head and the body of a response. Checks that it is chunked and has no length.
#[track_caller]
fn split_chunked(response: &str) -> (&str, &str) {
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert_eq!(head.matches("transfer-encoding: chunked").count(), 1, "{response}");
    assert!(!head.contains("content-length"), "{response}");
    (head, body)
}

/// Returns the body of a chunked `/hello` with a fault after `after` bytes of the body.
async fn body_with_fault(fault: &str, after: usize) -> (String, End) {
    let (complete, _) = response_to("chunked").await;
    let (response, end) = response_to(&format!("chunked;{fault}={}", complete.len() - CHUNKS.len() + after)).await;
    let (_, body) = split_chunked(&response);
    (body.to_owned(), end)
}

#[tokio::test]
async fn chunked_sends_no_length() {
    let (response, end) = response_to("chunked").await;
    let (head, body) = split_chunked(&response);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!((body, end), (CHUNKS, End::Silence));
}

#[tokio::test]
async fn chunked_keeps_the_connection_open() {
    let backend = backend("chunked,ok").await;
    let mut stream = send(backend.address(), GET).await;
    read_response(&mut stream, CHUNKS).await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    let response = read_response(&mut stream, HELLO).await;
    assert!(response.contains("content-length: 14\r\n"), "{response}");
}

#[tokio::test]
async fn chunked_can_have_a_status() {
    let (response, end) = response_to("status=503;retry-after=1;chunked").await;
    let (head, body) = split_chunked(&response);
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 1\r\n"), "{response}");
    assert_eq!((body, end), ("A\r\nService Un\r\n9\r\navailable\r\n0\r\n\r\n", End::Silence));
    for script in ["status=200;body=\"\";chunked", "status=205;chunked"] {
        let (response, end) = response_to(script).await;
        assert_eq!((split_chunked(&response).1, end), ("0\r\n\r\n", End::Silence), "{script}");
    }
}

#[tokio::test]
async fn chunked_can_be_combined_with_other_behaviors() {
    for (script, expected) in [
        ("chunked;delay=1ms", End::Silence),
        ("huge-headers=100000;chunked", End::Silence),
        ("chunked;early", End::Silence),
        ("chunked;goaway", End::Fin),
    ] {
        let (response, end) = response_to(script).await;
        assert_eq!((split_chunked(&response).1, end), (CHUNKS, expected), "{script}");
    }
}

#[tokio::test]
async fn chunked_and_truncated_has_no_last_chunk() {
    for (script, expected) in [
        ("chunked;truncate", "7\r\nHello W\r\n"),
        ("chunked;truncate=0", ""),
        ("chunked;truncate=9", "7\r\nHello W\r\n2\r\nor\r\n"),
        ("chunked;truncate=14", "7\r\nHello W\r\n7\r\norld!!!\r\n"),
        ("chunked;truncate=99", "7\r\nHello W\r\n7\r\norld!!!\r\n"),
        ("status=200;body=\"\";chunked;truncate", ""),
        ("status=503;body=odd;chunked;truncate=1", "1\r\no\r\n"),
    ] {
        let (response, end) = response_to(script).await;
        assert_eq!((split_chunked(&response).1, end), (expected, End::Fin), "{script}");
    }
}

#[tokio::test]
async fn chunked_can_have_a_fault_in_the_body() {
    for (fault, expected) in [("close-after", End::Fin), ("reset-after", End::Rst), ("stall-after", End::Silence)] {
        let (body, end) = body_with_fault(fault, 17).await;
        assert_eq!((&*body, end), ("7\r\nHello W\r\n7\r\nor", expected), "{fault}");
    }
    let (body, end) = body_with_fault("close-after", CHUNKS.len()).await;
    assert_eq!((&*body, end), (CHUNKS, End::Silence));
}

#[tokio::test]
async fn chunked_drip_pauses_between_bytes() {
    let backend = backend("chunked;drip=1ms").await;
    let start = Instant::now();
    let mut stream = send(backend.address(), GET).await;
    let response = read_response(&mut stream, CHUNKS).await;
    split_chunked(&response);
    assert!(start.elapsed() >= Duration::from_millis(response.len() as u64 - 1), "{response}");
}

#[tokio::test]
async fn nothing_is_chunked_without_content() {
    let mut cases = vec![("HEAD", "chunked"), ("HEAD", "chunked;truncate")];
    for script in ["status=204;chunked", "status=204;chunked;truncate", "status=304;chunked"] {
        cases.push(("GET", script));
    }
    for (method, script) in cases {
        let backend = backend(&format!("{script},ok")).await;
        let text = format!("{method} /bytes/10 HTTP/1.1\r\nhost: test\r\n\r\n");
        let mut stream = send(backend.address(), &text).await;
        let response = read_response(&mut stream, "").await;
        assert!(response.ends_with("\r\n\r\n"), "{method} {script}: {response}");
        assert!(
            !response.contains("transfer-encoding") && !response.contains("content-length"),
            "{script}: {response}"
        );
        stream.write_all(GET.as_bytes()).await.unwrap();
        read_response(&mut stream, HELLO).await;
    }
}

#[tokio::test]
async fn an_http_1_0_body_ends_when_the_connection_is_closed() {
    let backend = backend("chunked").await;
    let text = "GET /hello HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    let (response, end) = read_to_end(&mut send(backend.address(), text).await).await;
    assert!(!response.contains("transfer-encoding") && !response.contains("content-length"), "{response}");
    assert!(response.ends_with(&format!("\r\n\r\n{HELLO}")), "{response}");
    assert_eq!(end, End::Fin);
}

#[tokio::test]
async fn early_responds_before_the_body_arrives() {
    let backend = backend("status=413;early").await;
    let head = "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 1000000\r\n\r\n";
    let mut stream = send(backend.address(), head).await;
    let response = read_response(&mut stream, "Payload Too Large").await;
    assert!(response.starts_with("HTTP/1.1 413"), "{response}");
    assert_eq!(backend.requests()[0].body, None);
}

#[tokio::test]
async fn goaway_sends_connection_close() {
    let (response, end) = response_to("goaway").await;
    assert!(response.contains("connection: close\r\n") && response.ends_with(HELLO), "{response}");
    assert_eq!(end, End::Fin);
}

#[tokio::test]
async fn goaway_after_a_number_of_responses_closes_the_connection() {
    let backend = backend("goaway=2").await;
    let mut stream = send(backend.address(), GET).await;
    assert!(!read_response(&mut stream, HELLO).await.contains("connection: close"));
    stream.write_all(GET.as_bytes()).await.unwrap();
    let (response, end) = read_to_end(&mut stream).await;
    assert!(response.contains("connection: close\r\n") && response.ends_with(HELLO), "{response}");
    assert_eq!(end, End::Fin);
}

#[tokio::test]
async fn close_idle_does_not_close_a_connection_with_a_request() {
    let backend = backend("close-idle=1s,delay=1500ms").await;
    let mut stream = send(backend.address(), GET).await;
    read_response(&mut stream, HELLO).await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    read_response(&mut stream, HELLO).await;
}

#[tokio::test]
async fn a_blackhole_delays_other_connections_and_new_ones() {
    let backend = backend("ok,blackhole=1s,ok").await;
    let mut other = send(backend.address(), GET).await;
    read_response(&mut other, HELLO).await;
    let start = Instant::now();
    let mut stream = send(backend.address(), GET).await;
    while backend.received() < 2 {
        tokio::task::yield_now().await;
    }
    other.write_all(GET.as_bytes()).await.unwrap();
    read_response(&mut other, HELLO).await;
    read_response(&mut stream, HELLO).await;
    assert!(start.elapsed() >= Duration::from_secs(1));
    exchange(backend.address(), &request("GET", "/hello")).await;
}

#[tokio::test]
async fn the_filler_of_a_blackhole_is_not_counted() {
    let backend = backend("blackhole=200ms,ok").await;
    for number in 1..=4 {
        exchange(backend.address(), &request("GET", "/hello")).await;
        assert_eq!(backend.requests().last().unwrap().connection, number);
    }
}

#[tokio::test]
async fn the_end_of_a_blackhole_closes_no_connection() {
    let backend = backend("ok,blackhole=1h,ok").await;
    let mut other = send(backend.address(), GET).await;
    read_response(&mut other, HELLO).await;
    let mut stream = send(backend.address(), GET).await;
    while backend.received() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.write_all(GET.as_bytes()).await.unwrap();
    assert!(timeout(QUIET_PERIOD, other.read_u8()).await.is_err());
    backend.down(Duration::ZERO);
    read_response(&mut other, HELLO).await;
    read_response(&mut stream, HELLO).await;
    exchange(backend.address(), &request("GET", "/hello")).await;
}

#[tokio::test]
async fn an_outage_without_a_length_closes_all_connections_and_refuses_none() {
    let backend = backend("ok,down=0,ok*2").await;
    let mut idle = send(backend.address(), GET).await;
    read_response(&mut idle, HELLO).await;
    let mut stream = send(backend.address(), GET).await;
    assert_eq!(read_to_end(&mut stream).await, (String::new(), End::Fin));
    assert_eq!(read_to_end(&mut idle).await, (String::new(), End::Fin));
    for _ in 0..2 {
        exchange(backend.address(), &request("GET", "/hello")).await;
    }
}

#[tokio::test]
async fn goaway_reads_the_body() {
    let backend = backend("goaway").await;
    let text = "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 4\r\n\r\nbody";
    let (response, end) = read_to_end(&mut send(backend.address(), text).await).await;
    assert!(response.ends_with("\r\n\r\nbody"), "{response}");
    assert_eq!(end, End::Fin);
}

#[tokio::test]
async fn refused_stream_closes_the_connection() {
    assert_eq!(response_to("refused-stream").await, (String::new(), End::Fin));
}

#[tokio::test]
async fn down_refuses_connections_until_the_outage_ends() {
    let backend = backend("down=1s,ok").await;
    let start = Instant::now();
    let mut idle = TcpStream::connect(backend.address()).await.unwrap();
    let mut stream = send(backend.address(), GET).await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
    let error = TcpStream::connect(backend.address()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    while TcpStream::connect(backend.address()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(start.elapsed() >= Duration::from_secs(1));
    let response = exchange(backend.address(), &request("GET", "/hello")).await;
    assert!(response.ends_with(HELLO), "{response}");
    assert_eq!(backend.received(), 2);
}

#[tokio::test]
async fn the_request_body_is_read_before_the_fault() {
    for (script, end) in [("close", End::Fin), ("refused-stream", End::Fin), ("reset", End::Rst)] {
        let backend = backend(script).await;
        let body = "x".repeat(1 << 20);
        let text = format!("PUT /echo HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let mut stream = send(backend.address(), &text).await;
        assert_eq!(read_to_end(&mut stream).await, (String::new(), end));
        let requests = backend.requests();
        assert_eq!(requests[0].body.as_ref().unwrap().length, 1 << 20);
        assert_eq!(requests[0].behavior, script);
    }
}

#[tokio::test]
async fn trailers_are_recorded() {
    let backend = backend("ok").await;
    let head = "POST /echo HTTP/1.1\r\nhost: test\r\nconnection: close\r\n";
    let body = "transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n";
    exchange(backend.address(), &format!("{head}{body}")).await;
    let requests = backend.requests();
    let body = requests[0].body.as_ref().unwrap();
    assert_eq!((body.length, &body.trailers[..]), (3, &["x-sum: 6".to_owned()][..]));
}

#[tokio::test]
async fn a_backend_can_be_restarted_on_the_same_address() {
    let first = backend("ok").await;
    let address = first.address();
    exchange(address, &request("GET", "/hello")).await;
    drop(first);
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let second = Backend::start_on(listener, Script::default()).unwrap();
    assert_eq!((second.address(), second.received()), (address, 0));
}

#[tokio::test]
async fn an_incomplete_body_is_not_recorded() {
    let backend = backend("ok").await;
    let head = "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nabc";
    let mut stream = send(backend.address(), head).await;
    stream.shutdown().await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    assert_eq!(backend.requests()[0].body, None);
}

#[tokio::test]
async fn responses_to_head_have_a_length_and_no_body() {
    for script in ["ok", "truncate"] {
        let backend = backend(script).await;
        let response = exchange(backend.address(), &request("HEAD", "/bytes/10")).await;
        assert!(response.contains("content-length: 10\r\n"), "{response}");
        assert!(response.ends_with("\r\n\r\n"), "{response}");
    }
}

#[tokio::test]
async fn requests_are_recorded_with_the_number_of_their_connection() {
    let backend = backend("ok").await;
    let mut stream = send(backend.address(), GET).await;
    read_response(&mut stream, HELLO).await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    read_response(&mut stream, HELLO).await;
    exchange(backend.address(), &request("GET", "/hello")).await;
    let connections: Vec<u64> = backend.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [1, 1, 2]);
}

#[tokio::test]
async fn requests_get_the_behaviors_of_the_script() {
    let script: Script = "ok*3,close,reset,status=503,truncate".parse().unwrap();
    let script = script.with_seed(11);
    watch();
    let backend = Backend::start(script.clone()).await.unwrap();
    for number in (1..=100).filter_map(NonZeroU64::new) {
        let behavior = script.behavior(number).to_string();
        let (response, end) = read_to_end(&mut send(backend.address(), &request("GET", "/hello")).await).await;
        let (start, expected) = match behavior.as_str() {
            "close" => ("", End::Fin),
            "reset" => ("", End::Rst),
            "status=503" => ("HTTP/1.1 503", End::Fin),
            _ => ("HTTP/1.1 200", End::Fin),
        };
        assert!(response.starts_with(start) && response.is_empty() == start.is_empty(), "{response}");
        assert_eq!(end, expected, "{behavior}");
        assert_eq!(backend.requests().last().unwrap().behavior, behavior);
    }
}

#[tokio::test]
async fn dropping_a_backend_closes_its_listener_and_connections() {
    let backend = backend("hang").await;
    let address = backend.address();
    let mut stream = send(address, GET).await;
    while backend.received() == 0 {
        tokio::task::yield_now().await;
    }
    drop(backend);
    assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1..)));
    assert!(TcpStream::connect(address).await.is_err());
}

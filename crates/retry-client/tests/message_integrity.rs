//! Messages are complete and unchanged, or the call fails: what the library guarantees without the gateway.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

mod common;

use std::{net::SocketAddr, sync::atomic::Ordering::SeqCst, time::Duration};

use bytes::Bytes;
use common::{Reply, Server, quick, raw_server, read_head, watch};
use http::{Method, Request, Version};
use http_body_util::{BodyExt, StreamBody, channel::Channel};
use retry_client::{Body, Client, EndReason, ErrorKind, History};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

const LONG_TIMEOUT: Duration = Duration::from_secs(30);

fn leak(bytes: Vec<u8>) -> &'static [u8] {
    bytes.leak()
}

fn response(head: &str, body: &[u8]) -> &'static [u8] {
    leak([head.as_bytes(), b"\r\netag: \"v1\"\r\n\r\n", body].concat())
}

/// Returns 200,000 bytes that differ.
fn complete() -> Vec<u8> {
    (0..200_000_u32).map(|place| (place % 251) as u8).collect()
}

fn part(range: std::ops::Range<usize>) -> &'static [u8] {
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {}-{}/200000\r\ncontent-length: {}",
        range.start,
        range.end - 1,
        range.len()
    );
    response(&head, &complete()[range])
}

fn resuming(address: SocketAddr) -> Client {
    Client::builder(format!("http://{address}")).policy(quick(3)).resume(true).build().unwrap()
}

#[tokio::test]
async fn a_body_is_resumed_until_its_announced_length_has_arrived() {
    let chunk = [b"186a0\r\n", &complete()[..100_000], b"\r\n"].concat();
    for begin in [
        response("HTTP/1.1 200 OK\r\ncontent-length: 200000", &complete()[..100_000]),
        response("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked", &chunk),
    ] {
        let (address, connections, _server) =
            raw_server(vec![begin, part(100_000..150_000), part(150_000..200_000)]).await;
        let response = resuming(address).get("/").await.unwrap();
        let body = timeout(LONG_TIMEOUT, response.into_body().bytes()).await.unwrap().unwrap();
        assert!(body == complete(), "{} bytes", body.len());
        assert_eq!(connections.load(SeqCst), 3);
    }
}

#[tokio::test]
async fn a_part_that_is_longer_than_its_range_is_an_error() {
    let begin = response("HTTP/1.1 200 OK\r\ncontent-length: 200000", &complete()[..100_000]);
    let range = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 100000-199999/200000";
    let chunks = [b"19a28\r\n", &vec![0; 105_000][..], b"\r\n0\r\n\r\n"].concat();
    for long in [
        response(&format!("{range}\r\ncontent-length: 105000"), &vec![0; 105_000]),
        response(&format!("{range}\r\ntransfer-encoding: chunked"), &chunks),
        // The end of the connection is the end of the part.
        response(range, &vec![0; 105_000]),
    ] {
        let (address, _, _server) = raw_server(vec![begin, long]).await;
        let response = resuming(address).get("/").await.unwrap();
        let error = timeout(LONG_TIMEOUT, response.into_body().bytes()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadResponse, "{error}");
    }
}

#[tokio::test]
async fn progress_resets_the_number_of_resumes() {
    // Each connection sends a tenth and closes: ten connections, but only three retries.
    let tenth = |number: usize| {
        let from = number * 20_000;
        let head = if number == 0 {
            "HTTP/1.1 200 OK\r\ncontent-length: 200000".to_owned()
        } else {
            format!(
                "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-199999/200000\r\ncontent-length: {}",
                200_000 - from
            )
        };
        response(&head, &complete()[from..from + 20_000])
    };
    let (address, connections, _server) = raw_server((0..10).map(tenth).collect()).await;
    // 64 KiB arrive over four connections, which resets the number of resumes.
    let client = Client::builder(format!("http://{address}")).policy(quick(4)).resume(true).build().unwrap();
    let response = client.get("/").await.unwrap();
    let body = timeout(LONG_TIMEOUT, response.into_body().bytes()).await.unwrap().unwrap();
    assert!(body == complete());
    assert_eq!(connections.load(SeqCst), 10);

    let (address, connections, _server) = raw_server((0..10).map(tenth).collect()).await;
    let client = Client::builder(format!("http://{address}")).policy(quick(2)).resume(true).build().unwrap();
    let response = client.get("/").await.unwrap();
    timeout(LONG_TIMEOUT, response.into_body().bytes()).await.unwrap().unwrap_err();
    assert_eq!(connections.load(SeqCst), 1 + 2, "without progress the number of resumes is limited");
}

#[tokio::test]
async fn an_ambiguous_head_is_an_error_after_one_attempt() {
    for head in [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: gzip\r\n\r\nhello",
        "content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "x-a : b\r\ncontent-length: 0\r\n\r\n",
        "x-a: b\r\n c\r\ncontent-length: 0\r\n\r\n",
    ] {
        let response = leak(format!("HTTP/1.1 200 OK\r\n{head}").into_bytes());
        let (address, connections, _server) = raw_server(vec![response]).await;
        let client = Client::builder(format!("http://{address}")).policy(quick(3)).build().unwrap();
        let error = client.get("/").await.unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::BadResponse, Some(EndReason::Permanent)), "{head:?}");
        assert_eq!(connections.load(SeqCst), 1, "{head:?}");
    }
}

#[tokio::test]
async fn a_content_length_is_one_canonical_number() {
    for length in ["content-length: 005", "content-length: 5\r\ncontent-length: 5", "content-length: 5, 5"] {
        let response = leak(format!("HTTP/1.1 200 OK\r\n{length}\r\n\r\nhello").into_bytes());
        let (address, _, _server) = raw_server(vec![response]).await;
        let client = Client::new(format!("http://{address}")).unwrap();
        let response = client.get("/").await.unwrap();
        let lengths: Vec<_> = response.headers().get_all("content-length").iter().cloned().collect();
        assert_eq!(lengths, ["5"], "{length}");
        assert_eq!(response.into_body().text().await.unwrap(), "hello");
    }
}

/// Returns a body without an announced length.
fn of_unknown_length(text: &'static str) -> Body {
    let (mut sender, body) = Channel::<Bytes>::new(1);
    tokio::spawn(async move { sender.send_data(Bytes::from(text)).await });
    Body::new(body.map_err(|never| match never {}))
}

#[tokio::test]
async fn a_body_of_unknown_length_arrives_whatever_the_method() {
    for http2 in [false, true] {
        let server = Server::start([Reply::Ok("fine")]).await;
        let client = server.client().http2_prior_knowledge(http2).build().unwrap();
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::PUT, Method::OPTIONS] {
            let mut request = Request::new(of_unknown_length("a query"));
            *request.method_mut() = method.clone();
            *request.uri_mut() = "/".parse().unwrap();
            client.execute(request).await.unwrap();
            let seen = server.seen().pop().unwrap();
            assert_eq!((&seen.method, &*seen.body), (&method, &b"a query"[..]), "{:?}", seen.version);
            assert_eq!(seen.version, if http2 { Version::HTTP_2 } else { Version::HTTP_11 });
        }
    }
}

#[tokio::test]
async fn credentials_of_the_base_url_are_not_sent_with_trace() {
    let server = Server::start([Reply::Ok("fine")]).await;
    let client = Client::new(format!("http://me:secret@{}", server.address)).unwrap();
    for (method, expected) in [("GET", true), ("TRACE", false)] {
        let request = Request::builder().method(method).uri("/").body(Body::empty()).unwrap();
        client.execute(request).await.unwrap();
        assert_eq!(server.seen().pop().unwrap().headers.contains_key("authorization"), expected, "{method}");
    }
}

#[tokio::test]
async fn a_fragment_is_an_error() {
    let client = Client::new("http://localhost").unwrap();
    let error = client.get("/a?secret#f").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert_eq!(error.to_string(), "path '/a': expected no fragment: it is never sent");
}

/// The only connection is in use, so the attempt of a POST times out before anything was sent.
#[tokio::test]
async fn a_post_that_times_out_before_it_was_sent_is_retried() {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(format!("http://{}", listener.local_addr().unwrap()))
        .policy(quick(1000))
        .attempt_timeout(Duration::from_millis(50))
        .pool_max_connections(1)
        .build()
        .unwrap();
    let other = client.clone();
    // Its head arrives before the attempt timeout, which does not apply to the body.
    let holder = tokio::spawn(async move { other.get("/holder").await });
    let (mut held, _) = listener.accept().await.unwrap();
    read_head(&mut held).await;
    held.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
    let response = timeout(LONG_TIMEOUT, holder).await.unwrap().unwrap().unwrap();
    let post = tokio::spawn(async move { client.post("/post").body("x").await });
    // Some attempts time out meanwhile.
    tokio::time::sleep(Duration::from_millis(200)).await;
    held.write_all(b"ok").await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "ok");
    read_head(&mut held).await;
    held.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let response = timeout(LONG_TIMEOUT, post).await.unwrap().unwrap().unwrap();
    assert!(response.extensions().get::<History>().unwrap().attempts() > 1);
}

/// The server responds to the head of a request, and closes without reading the body.
#[tokio::test]
async fn a_response_that_was_received_is_returned_although_the_upload_fails() {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            let rejection = "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 5\r\n\r\nlarge";
            stream.write_all(rejection.as_bytes()).await.unwrap();
        }
    });
    for _ in 0..50 {
        let body = StreamBody::new(futures_stream(10, vec![0; 16 * 1024]));
        let response = timeout(LONG_TIMEOUT, client.post("/").body(Body::new(body))).await.unwrap().unwrap();
        assert_eq!(response.status(), 413);
        assert_eq!(response.into_body().text().await.unwrap(), "large");
    }
}

/// A stream of this many frames.
fn futures_stream(
    pieces: usize,
    piece: Vec<u8>,
) -> impl futures_util::Stream<Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>> + Send + 'static {
    struct Pieces(usize, Bytes);
    impl futures_util::Stream for Pieces {
        type Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            let left = self.0.checked_sub(1);
            std::task::Poll::Ready(left.map(|left| {
                self.0 = left;
                Ok(http_body::Frame::data(self.1.clone()))
            }))
        }
    }
    Pieces(pieces, piece.into())
}

#[tokio::test]
async fn a_body_waits_for_100_continue_if_the_request_expects_it() {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client =
        Client::builder(format!("http://{}", listener.local_addr().unwrap())).policy(quick(0)).build().unwrap();
    let send = async || {
        let client = client.clone();
        let request = Request::post("/").header("expect", "100-continue").body(Body::from("hello")).unwrap();
        let call = tokio::spawn(async move { client.execute(request).await });
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        (call, stream)
    };
    let (call, mut stream) = send().await;
    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    let mut body = [0; 5];
    timeout(LONG_TIMEOUT, stream.read_exact(&mut body)).await.unwrap().unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(call.await.unwrap().unwrap().status(), 200);

    let (call, mut stream) = send().await;
    stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(call.await.unwrap().unwrap().status(), 401);
    let mut rest = Vec::new();
    timeout(LONG_TIMEOUT, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"", "a rejected body is not sent, and the connection is not reused");
}

/// The quota is too small to reserve the body a second time as it arrives.
#[tokio::test]
async fn a_response_of_known_length_is_reserved_once() {
    let body = &complete()[..100];
    let half = response("HTTP/1.1 200 OK\r\ncontent-length: 100", &body[..50]);
    let (address, connections, _server) =
        raw_server(vec![half, response("HTTP/1.1 200 OK\r\ncontent-length: 100", body)]).await;
    let client = Client::builder(format!("http://{address}")).policy(quick(3));
    let client = client.response_buffer(1000).replay_memory(120).build().unwrap();
    let response = timeout(LONG_TIMEOUT, client.get("/")).await.unwrap().unwrap();
    assert_eq!(timeout(LONG_TIMEOUT, response.into_body().bytes()).await.unwrap().unwrap(), body);
    assert_eq!(connections.load(SeqCst), 2);
}

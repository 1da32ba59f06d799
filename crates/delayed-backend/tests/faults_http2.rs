//! Every behavior over HTTP/2: what a client library reports.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the message")]

use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use delayed_backend::{Backend, known_byte};
use h2::Reason;
use http::{Method, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

#[path = "support/watchdog.rs"]
mod watchdog;

const HELLO: &str = "Hello World!!!";
/// If nothing happens for this long, nothing more is expected to happen.
const QUIET_PERIOD: Duration = Duration::from_millis(150);

/// A client with one connection to a backend.
struct Client {
    backend: Backend,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    async fn of(script: &str) -> Self {
        Self::with(script, &Builder::new(TokioExecutor::new())).await
    }

    async fn with(script: &str, protocol: &Builder<TokioExecutor>) -> Self {
        watchdog::watch();
        let backend = Backend::start(script.parse().unwrap()).await.unwrap();
        let stream = TcpStream::connect(backend.address()).await.unwrap();
        let (sender, connection) = protocol.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { backend, sender }
    }

    fn send(&mut self, method: Method, path: &str) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let uri = format!("{}{path}", self.backend.url());
        let body = Full::from(if method == Method::POST { "body" } else { "" });
        let request = Request::builder().method(method).uri(uri).body(body).unwrap();
        self.sender.send_request(request)
    }

    async fn hello(&mut self) -> hyper::Result<Response<Incoming>> {
        self.send(Method::GET, "/hello").await
    }

    async fn text(&mut self) -> hyper::Result<Bytes> {
        Ok(self.hello().await?.into_body().collect().await?.to_bytes())
    }
}

/// Returns the content of all non-empty DATA frames, and the error after them, if there is one.
async fn frames(response: Response<Incoming>) -> (Vec<Bytes>, Option<hyper::Error>) {
    let mut body = response.into_body();
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => frames.extend(frame.into_data().ok().filter(|data| !data.is_empty())),
            Err(error) => return (frames, Some(error)),
        }
    }
    (frames, None)
}

#[track_caller]
fn assert_no_length(response: &Response<Incoming>) {
    let headers = response.headers();
    assert!(!headers.contains_key("content-length") && !headers.contains_key("transfer-encoding"), "{headers:?}");
}

/// Checks that the peer reset the stream with INTERNAL_ERROR.
#[track_caller]
fn assert_stream_reset(error: &hyper::Error) {
    let protocol = cause::<h2::Error>(error).unwrap();
    assert!(protocol.is_remote() && protocol.is_reset(), "{error:?}");
    assert_eq!(protocol.reason(), Some(Reason::INTERNAL_ERROR), "{error:?}");
}

/// Returns the first error of this type in the chain.
fn cause<E: Error + 'static>(error: &hyper::Error) -> Option<&E> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[track_caller]
fn assert_connection_lost(error: &hyper::Error) {
    let protocol = cause::<h2::Error>(error);
    let lost = protocol.is_none_or(h2::Error::is_io);
    let io = cause::<io::Error>(error).is_some() || error.is_canceled() || error.is_closed();
    assert!(lost || io, "{error:?}");
    assert!(protocol.is_none_or(|error| !error.is_go_away() && !error.is_reset()), "{error:?}");
}

#[tokio::test]
async fn ok_status_and_delay_affect_only_the_response() {
    let mut client = Client::of("ok,status=503;retry-after=2,delay=100ms").await;
    assert_eq!(client.text().await.unwrap(), HELLO);
    let response = client.hello().await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "2");
    let start = Instant::now();
    assert_eq!(client.text().await.unwrap(), HELLO);
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn status_without_content_has_no_body() {
    for script in ["status=204", "status=205", "status=304;body=x"] {
        assert_eq!(Client::of(script).await.text().await.unwrap(), "", "{script}");
    }
}

#[tokio::test]
async fn hang_affects_only_its_own_stream() {
    let mut client = Client::of("hang,ok").await;
    let hanging = client.send(Method::GET, "/hello");
    assert_eq!(client.text().await.unwrap(), HELLO);
    assert!(timeout(QUIET_PERIOD, hanging).await.is_err());
}

#[tokio::test]
async fn reset_close_and_garbage_end_the_connection() {
    for script in ["reset", "close", "reset-after=5", "close-after=5"] {
        let mut client = Client::of(script).await;
        assert_connection_lost(&client.text().await.unwrap_err());
    }
    let error = Client::of("garbage").await.text().await.unwrap_err();
    assert!(cause::<h2::Error>(&error).is_some(), "{error:?}");
}

#[tokio::test]
async fn close_after_can_end_a_body() {
    let mut client = Client::of("close-after=5000").await;
    let response = client.send(Method::GET, "/bytes/10000").await.unwrap();
    assert_eq!(response.headers()["content-length"], "10000");
    assert_connection_lost(&response.into_body().collect().await.unwrap_err());
}

#[tokio::test]
async fn stall_after_leaves_the_body_incomplete() {
    let mut client = Client::of("stall-after=5000").await;
    let response = client.send(Method::GET, "/bytes/10000").await.unwrap();
    assert!(timeout(QUIET_PERIOD, response.into_body().collect()).await.is_err());
}

#[tokio::test]
async fn a_fault_after_the_end_of_the_response_is_recorded_as_missed() {
    let mut client = Client::of("stall-after=5000,truncate=14,truncate=13,reset-after=0").await;
    for _ in 0..3 {
        let response = client.hello().await.unwrap();
        frames(response).await;
    }
    client.hello().await.unwrap_err();
    let missed: Vec<_> = client.backend.requests().iter().map(|request| request.fault_missed).collect();
    assert_eq!(missed, [true, true, false, false]);
}

#[tokio::test]
async fn truncate_ends_the_stream_only() {
    let mut client = Client::of("truncate=5,ok").await;
    let response = client.hello().await.unwrap();
    assert_eq!(response.headers()["content-length"], "14");
    let error = response.into_body().collect().await.unwrap_err();
    let protocol = cause::<h2::Error>(&error).unwrap();
    assert_eq!(protocol.reason(), Some(Reason::PROTOCOL_ERROR), "{error:?}");
    assert_eq!(client.text().await.unwrap(), HELLO);
}

#[tokio::test]
async fn chunked_has_no_length() {
    let mut client = Client::of("chunked,status=503;retry-after=2;chunked,chunked;early,ok").await;
    for (status, expected) in
        [(200, ["Hello W", "orld!!!"]), (503, ["Service Un", "available"]), (200, ["Hello W", "orld!!!"])]
    {
        let response = client.hello().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
        assert_no_length(&response);
        let (frames, error) = frames(response).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(frames, expected);
    }
    assert_eq!(client.hello().await.unwrap().headers()["content-length"], "14");
}

#[tokio::test]
async fn chunked_and_truncated_resets_only_the_stream() {
    for (script, status, expected) in [
        ("chunked;truncate,ok", 200, "Hello W"),
        ("chunked;truncate=0,ok", 200, ""),
        ("chunked;truncate=9,ok", 200, "Hello Wor"),
        ("chunked;truncate=14,ok", 200, HELLO),
        ("chunked;truncate=99,ok", 200, HELLO),
        ("status=503;chunked;truncate=1,ok", 503, "S"),
        ("status=200;body=\"\";chunked;truncate,ok", 200, ""),
    ] {
        let mut client = Client::of(script).await;
        let response = client.hello().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{script}");
        assert_no_length(&response);
        let (frames, error) = frames(response).await;
        assert_eq!(frames.concat(), expected.as_bytes(), "{script}");
        assert_stream_reset(&error.unwrap());
        assert_eq!(client.text().await.unwrap(), HELLO);
        let connections: Vec<u64> = client.backend.requests().iter().map(|request| request.connection).collect();
        assert_eq!(connections, [1, 1]);
    }
}

#[tokio::test]
async fn everything_before_the_reset_arrives_through_a_small_window() {
    let mut protocol = Builder::new(TokioExecutor::new());
    protocol.initial_stream_window_size(1000);
    let mut client = Client::with("chunked;truncate=100000", &protocol).await;
    let (frames, error) = frames(client.send(Method::GET, "/bytes/1000000").await.unwrap()).await;
    assert!(frames.concat().into_iter().eq((0..100_000).map(known_byte)));
    assert_stream_reset(&error.unwrap());
}

#[tokio::test]
async fn chunked_can_have_a_fault_in_the_body() {
    let mut client = Client::of("chunked;close-after=5000").await;
    let response = client.send(Method::GET, "/bytes/10000").await.unwrap();
    assert_no_length(&response);
    assert_connection_lost(&response.into_body().collect().await.unwrap_err());

    let mut client = Client::of("chunked;reset-after=5000").await;
    // A client may notice the RST before it has read the head.
    let error = match client.send(Method::GET, "/bytes/10000").await {
        Ok(response) => response.into_body().collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert_connection_lost(&error);

    let mut client = Client::of("chunked;stall-after=5000").await;
    let response = client.send(Method::GET, "/bytes/10000").await.unwrap();
    assert_no_length(&response);
    assert!(timeout(QUIET_PERIOD, response.into_body().collect()).await.is_err());
}

#[tokio::test]
async fn chunked_drip_pauses_between_bytes() {
    let mut client = Client::of("chunked;drip=1ms").await;
    let start = Instant::now();
    let response = client.hello().await.unwrap();
    assert_no_length(&response);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), HELLO);
    assert!(start.elapsed() >= Duration::from_millis(HELLO.len() as u64));
}

#[tokio::test]
async fn chunked_goaway_sends_goaway() {
    let error = Client::of("chunked;goaway").await.hello().await.unwrap_err();
    assert!(cause::<h2::Error>(&error).unwrap().is_go_away(), "{error:?}");
}

#[tokio::test]
async fn nothing_is_chunked_or_truncated_without_content() {
    let mut cases = vec![(Method::HEAD, "chunked"), (Method::HEAD, "chunked;truncate")];
    for script in ["status=204;chunked", "status=204;chunked;truncate", "status=304;chunked", "status=204;truncate"] {
        cases.push((Method::GET, script));
    }
    for (method, script) in cases {
        let response = Client::of(script).await.send(method, "/bytes/10").await.unwrap();
        assert_no_length(&response);
        assert!(response.body().is_end_stream(), "{script}");
    }
}

#[tokio::test]
async fn drip_pauses_between_bytes() {
    let mut client = Client::of("drip=1ms").await;
    let start = Instant::now();
    assert_eq!(client.text().await.unwrap(), HELLO);
    assert!(start.elapsed() >= Duration::from_millis(HELLO.len() as u64));
}

#[tokio::test]
async fn huge_headers_exceed_the_limit_of_a_client() {
    let error = Client::of("huge-headers").await.text().await.unwrap_err();
    assert!(cause::<h2::Error>(&error).is_some(), "{error:?}");
}

#[tokio::test]
async fn early_responds_without_reading_the_body() {
    let mut client = Client::of("early").await;
    assert_eq!(client.send(Method::POST, "/echo").await.unwrap().status(), StatusCode::OK);
    assert_eq!(client.backend.requests()[0].body, None);
}

#[tokio::test]
async fn refused_stream_keeps_the_connection_open() {
    let mut client = Client::of("refused-stream,ok").await;
    let error = client.send(Method::POST, "/echo").await.unwrap_err();
    let protocol = cause::<h2::Error>(&error).unwrap();
    assert!(protocol.is_remote() && protocol.is_reset(), "{error:?}");
    assert_eq!(protocol.reason(), Some(Reason::REFUSED_STREAM));
    assert_eq!(client.text().await.unwrap(), HELLO);
    let connections: Vec<u64> = client.backend.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections, [1, 1]);
}

#[tokio::test]
async fn goaway_excludes_its_own_request() {
    let mut client = Client::of("ok,goaway").await;
    assert_eq!(client.text().await.unwrap(), HELLO);
    let error = client.send(Method::POST, "/echo").await.unwrap_err();
    let protocol = cause::<h2::Error>(&error).unwrap();
    assert!(protocol.is_remote() && protocol.is_go_away(), "{error:?}");
    assert_eq!(protocol.reason(), Some(Reason::NO_ERROR));
}

#[tokio::test]
async fn goaway_does_not_exclude_earlier_requests() {
    let mut client = Client::of("hang,goaway").await;
    let before = tokio::spawn(client.send(Method::POST, "/echo"));
    while client.backend.received() == 0 {
        tokio::task::yield_now().await;
    }
    let error = client.send(Method::POST, "/echo").await.unwrap_err();
    assert!(cause::<h2::Error>(&error).unwrap().is_go_away(), "{error:?}");
    assert_connection_lost(&before.await.unwrap().unwrap_err());
}

#[tokio::test]
async fn nothing_is_counted_on_a_connection_after_goaway() {
    let mut client = Client::of("goaway;delay=100ms,ok").await;
    let first = client.send(Method::GET, "/hello");
    let second = client.send(Method::GET, "/hello");
    let (first, second) = tokio::join!(first, second);
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert!(cause::<h2::Error>(&error).unwrap().is_go_away(), "{error:?}");
    }
    assert_eq!(client.backend.received(), 1);
}

#[tokio::test]
async fn goaway_after_a_number_of_responses_accepts_them() {
    let mut client = Client::of("goaway=2").await;
    for _ in 0..2 {
        assert_eq!(client.text().await.unwrap(), HELLO);
    }
    // The client learns of the GOAWAY right after the response, or with the next request.
    while let Ok(sent) = timeout(QUIET_PERIOD, client.hello()).await {
        assert!(sent.is_err());
        if client.sender.is_closed() {
            break;
        }
    }
    assert_eq!(client.backend.received(), 2);
}

#[tokio::test]
async fn the_window_of_no_window_is_never_opened_again() {
    watchdog::watch();
    for (script, is_opened) in [("hang", true), ("no-window", false)] {
        let backend = Backend::start(script.parse().unwrap()).await.unwrap();
        let stream = TcpStream::connect(backend.address()).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("{}/echo", backend.url())).body(()).unwrap();
        let (_response, mut body) = sender.send_request(request, false).unwrap();
        let mut sent = 0;
        let opened = loop {
            body.reserve_capacity(1 << 16);
            match timeout(Duration::from_secs(2), poll_fn(|cx| body.poll_capacity(cx))).await {
                Ok(capacity) => {
                    let capacity = capacity.unwrap().unwrap();
                    body.send_data(Bytes::from(vec![0; capacity]), false).unwrap();
                    sent += capacity;
                }
                Err(_) => break false,
            }
            // The initial window is 1 MiB.
            if sent > 2 << 20 {
                break true;
            }
        };
        assert_eq!(opened, is_opened, "{script}: {sent} bytes");
    }
}

#[tokio::test]
async fn down_closes_the_connection() {
    let mut client = Client::of("down=100ms,ok").await;
    client.hello().await.unwrap_err();
    while TcpStream::connect(client.backend.address()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn responses_to_head_have_a_length_and_no_body() {
    let mut client = Client::of("ok,truncate").await;
    for _ in 0..2 {
        let response = client.send(Method::HEAD, "/bytes/10").await.unwrap();
        assert_eq!(response.headers()["content-length"], "10");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
    }
}

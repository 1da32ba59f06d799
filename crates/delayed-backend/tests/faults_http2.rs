//! Every behaviour over HTTP/2, as a client library tells of it.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the message")]

use std::error::Error;
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
const A_WHILE: Duration = Duration::from_millis(150);

/// One connection to a backend that plays a script.
struct Caller {
    backend: Backend,
    sender: SendRequest<Full<Bytes>>,
}

impl Caller {
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

/// The content of all DATA frames that have any, and the error after them.
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

/// Whether the peer reset the stream, in so many words.
#[track_caller]
fn assert_stream_reset(error: &hyper::Error) {
    let protocol = cause::<h2::Error>(error).unwrap();
    assert!(protocol.is_remote() && protocol.is_reset(), "{error:?}");
    assert_eq!(protocol.reason(), Some(Reason::INTERNAL_ERROR), "{error:?}");
}

/// What the first error in the chain of this type is.
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
fn assert_connection_broke(error: &hyper::Error) {
    let protocol = cause::<h2::Error>(error);
    let broke = protocol.is_none_or(h2::Error::is_io);
    let io = cause::<io::Error>(error).is_some() || error.is_canceled() || error.is_closed();
    assert!(broke || io, "{error:?}");
    assert!(protocol.is_none_or(|error| !error.is_go_away() && !error.is_reset()), "{error:?}");
}

#[tokio::test]
async fn ok_status_and_delay() {
    let mut caller = Caller::of("ok,status=503;retry-after=2,delay=100ms").await;
    assert_eq!(caller.text().await.unwrap(), HELLO);
    let response = caller.hello().await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["retry-after"], "2");
    let start = Instant::now();
    assert_eq!(caller.text().await.unwrap(), HELLO);
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn status_without_content() {
    for script in ["status=204", "status=205", "status=304;body=x"] {
        assert_eq!(Caller::of(script).await.text().await.unwrap(), "", "{script}");
    }
}

#[tokio::test]
async fn hang_holds_up_nobody_else() {
    let mut caller = Caller::of("hang,ok").await;
    let hanging = caller.send(Method::GET, "/hello");
    assert_eq!(caller.text().await.unwrap(), HELLO);
    assert!(timeout(A_WHILE, hanging).await.is_err());
}

#[tokio::test]
async fn reset_close_and_garbage_break_the_connection() {
    for script in ["reset", "close", "reset-after=5", "close-after=5"] {
        let mut caller = Caller::of(script).await;
        assert_connection_broke(&caller.text().await.unwrap_err());
    }
    let error = Caller::of("garbage").await.text().await.unwrap_err();
    assert!(cause::<h2::Error>(&error).is_some(), "{error:?}");
}

#[tokio::test]
async fn close_in_the_middle_of_a_body() {
    let mut caller = Caller::of("close-after=5000").await;
    let response = caller.send(Method::GET, "/bytes/10000").await.unwrap();
    assert_eq!(response.headers()["content-length"], "10000");
    assert_connection_broke(&response.into_body().collect().await.unwrap_err());
}

#[tokio::test]
async fn stall_after_some_bytes() {
    let mut caller = Caller::of("stall-after=5000").await;
    let response = caller.send(Method::GET, "/bytes/10000").await.unwrap();
    assert!(timeout(A_WHILE, response.into_body().collect()).await.is_err());
}

#[tokio::test]
async fn truncate_ends_the_stream_only() {
    let mut caller = Caller::of("truncate=5,ok").await;
    let response = caller.hello().await.unwrap();
    assert_eq!(response.headers()["content-length"], "14");
    let error = response.into_body().collect().await.unwrap_err();
    let protocol = cause::<h2::Error>(&error).unwrap();
    assert_eq!(protocol.reason(), Some(Reason::PROTOCOL_ERROR), "{error:?}");
    assert_eq!(caller.text().await.unwrap(), HELLO);
}

#[tokio::test]
async fn chunked_has_no_length() {
    let mut caller = Caller::of("chunked,status=503;retry-after=2;chunked,chunked;early,ok").await;
    for (status, expected) in
        [(200, ["Hello W", "orld!!!"]), (503, ["Service Un", "available"]), (200, ["Hello W", "orld!!!"])]
    {
        let response = caller.hello().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
        assert_no_length(&response);
        let (frames, error) = frames(response).await;
        assert!(error.is_none(), "{error:?}");
        assert_eq!(frames, expected);
    }
    assert_eq!(caller.hello().await.unwrap().headers()["content-length"], "14");
}

#[tokio::test]
async fn chunked_and_truncated_is_a_reset_of_the_stream_only() {
    for (script, status, expected) in [
        ("chunked;truncate,ok", 200, "Hello W"),
        ("chunked;truncate=0,ok", 200, ""),
        ("chunked;truncate=9,ok", 200, "Hello Wor"),
        ("chunked;truncate=14,ok", 200, HELLO),
        ("chunked;truncate=99,ok", 200, HELLO),
        ("status=503;chunked;truncate=1,ok", 503, "S"),
        ("status=200;body=\"\";chunked;truncate,ok", 200, ""),
    ] {
        let mut caller = Caller::of(script).await;
        let response = caller.hello().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{script}");
        assert_no_length(&response);
        let (frames, error) = frames(response).await;
        assert_eq!(frames.concat(), expected.as_bytes(), "{script}");
        assert_stream_reset(&error.unwrap());
        assert_eq!(caller.text().await.unwrap(), HELLO);
        let connections: Vec<u64> = caller.backend.requests().iter().map(|record| record.connection).collect();
        assert_eq!(connections, [1, 1]);
    }
}

#[tokio::test]
async fn what_comes_before_the_reset_arrives_however_small_the_window() {
    let mut protocol = Builder::new(TokioExecutor::new());
    protocol.initial_stream_window_size(1000);
    let mut caller = Caller::with("chunked;truncate=100000", &protocol).await;
    let (frames, error) = frames(caller.send(Method::GET, "/bytes/1000000").await.unwrap()).await;
    assert!(frames.concat().into_iter().eq((0..100_000).map(known_byte)));
    assert_stream_reset(&error.unwrap());
}

#[tokio::test]
async fn chunked_and_cut_off_in_the_body() {
    let mut caller = Caller::of("chunked;close-after=5000").await;
    let response = caller.send(Method::GET, "/bytes/10000").await.unwrap();
    assert_no_length(&response);
    assert_connection_broke(&response.into_body().collect().await.unwrap_err());

    let mut caller = Caller::of("chunked;reset-after=5000").await;
    // A client may notice the RST before it has read the head.
    let error = match caller.send(Method::GET, "/bytes/10000").await {
        Ok(response) => response.into_body().collect().await.unwrap_err(),
        Err(error) => error,
    };
    assert_connection_broke(&error);

    let mut caller = Caller::of("chunked;stall-after=5000").await;
    let response = caller.send(Method::GET, "/bytes/10000").await.unwrap();
    assert_no_length(&response);
    assert!(timeout(A_WHILE, response.into_body().collect()).await.is_err());
}

#[tokio::test]
async fn chunked_drip_takes_its_time() {
    let mut caller = Caller::of("chunked;drip=1ms").await;
    let start = Instant::now();
    let response = caller.hello().await.unwrap();
    assert_no_length(&response);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), HELLO);
    assert!(start.elapsed() >= Duration::from_millis(HELLO.len() as u64));
}

#[tokio::test]
async fn chunked_goaway_is_goaway() {
    let error = Caller::of("chunked;goaway").await.hello().await.unwrap_err();
    assert!(cause::<h2::Error>(&error).unwrap().is_go_away(), "{error:?}");
}

#[tokio::test]
async fn nothing_is_chunked_or_truncated_without_content() {
    let mut cases = vec![(Method::HEAD, "chunked"), (Method::HEAD, "chunked;truncate")];
    for script in ["status=204;chunked", "status=204;chunked;truncate", "status=304;chunked", "status=204;truncate"] {
        cases.push((Method::GET, script));
    }
    for (method, script) in cases {
        let response = Caller::of(script).await.send(method, "/bytes/10").await.unwrap();
        assert_no_length(&response);
        assert!(response.body().is_end_stream(), "{script}");
    }
}

#[tokio::test]
async fn drip_takes_its_time() {
    let mut caller = Caller::of("drip=1ms").await;
    let start = Instant::now();
    assert_eq!(caller.text().await.unwrap(), HELLO);
    assert!(start.elapsed() >= Duration::from_millis(HELLO.len() as u64));
}

#[tokio::test]
async fn huge_headers_are_more_than_a_client_takes() {
    let error = Caller::of("huge-headers").await.text().await.unwrap_err();
    assert!(cause::<h2::Error>(&error).is_some(), "{error:?}");
}

#[tokio::test]
async fn early_answers_come_before_the_body() {
    let mut caller = Caller::of("early").await;
    assert_eq!(caller.send(Method::POST, "/echo").await.unwrap().status(), StatusCode::OK);
    assert_eq!(caller.backend.requests()[0].body, None);
}

#[tokio::test]
async fn refused_stream_spares_the_connection() {
    let mut caller = Caller::of("refused-stream,ok").await;
    let error = caller.send(Method::POST, "/echo").await.unwrap_err();
    let protocol = cause::<h2::Error>(&error).unwrap();
    assert!(protocol.is_remote() && protocol.is_reset(), "{error:?}");
    assert_eq!(protocol.reason(), Some(Reason::REFUSED_STREAM));
    assert_eq!(caller.text().await.unwrap(), HELLO);
    let connections: Vec<u64> = caller.backend.requests().iter().map(|record| record.connection).collect();
    assert_eq!(connections, [1, 1]);
}

#[tokio::test]
async fn goaway_disowns_the_request_it_meets() {
    let mut caller = Caller::of("ok,goaway").await;
    assert_eq!(caller.text().await.unwrap(), HELLO);
    let error = caller.send(Method::POST, "/echo").await.unwrap_err();
    let protocol = cause::<h2::Error>(&error).unwrap();
    assert!(protocol.is_remote() && protocol.is_go_away(), "{error:?}");
    assert_eq!(protocol.reason(), Some(Reason::NO_ERROR));
}

#[tokio::test]
async fn goaway_disowns_nothing_that_came_before() {
    let mut caller = Caller::of("hang,goaway").await;
    let before = tokio::spawn(caller.send(Method::POST, "/echo"));
    while caller.backend.received() == 0 {
        tokio::task::yield_now().await;
    }
    let error = caller.send(Method::POST, "/echo").await.unwrap_err();
    assert!(cause::<h2::Error>(&error).unwrap().is_go_away(), "{error:?}");
    assert_connection_broke(&before.await.unwrap().unwrap_err());
}

#[tokio::test]
async fn nothing_is_counted_on_a_connection_that_goes_away() {
    let mut caller = Caller::of("goaway;delay=100ms,ok").await;
    let first = caller.send(Method::GET, "/hello");
    let second = caller.send(Method::GET, "/hello");
    let (first, second) = tokio::join!(first, second);
    for error in [first.unwrap_err(), second.unwrap_err()] {
        assert!(cause::<h2::Error>(&error).unwrap().is_go_away(), "{error:?}");
    }
    assert_eq!(caller.backend.received(), 1);
}

#[tokio::test]
async fn down_closes_the_connection() {
    let mut caller = Caller::of("down=100ms,ok").await;
    caller.hello().await.unwrap_err();
    while TcpStream::connect(caller.backend.address()).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn head_has_a_length_and_no_body() {
    let mut caller = Caller::of("ok,truncate").await;
    for _ in 0..2 {
        let response = caller.send(Method::HEAD, "/bytes/10").await.unwrap();
        assert_eq!(response.headers()["content-length"], "10");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
    }
}

//! Every behaviour over HTTP/2, as a client library tells of it.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the message")]

use std::error::Error;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use delayed_backend::Backend;
use h2::Reason;
use http::{Method, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const HELLO: &str = "Hello World!!!";
const A_WHILE: Duration = Duration::from_millis(150);

/// One connection to a backend that plays a script.
struct Caller {
    backend: Backend,
    sender: SendRequest<Full<Bytes>>,
}

impl Caller {
    async fn of(script: &str) -> Self {
        let backend = Backend::start(script.parse().unwrap()).await.unwrap();
        let stream = TcpStream::connect(backend.address()).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
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

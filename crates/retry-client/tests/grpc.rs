//! gRPC calls: which status codes are retried, and that streams pass as they are.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

mod common;

use std::{
    convert::Infallible,
    fmt::Debug,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use common::{LIMIT, quick, watch};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt, channel::Channel};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo},
};
use retry_client::{
    Body, Client, ClientBuilder, EndpointState, ErrorKind, GrpcCode, History, ResponseBody, RetryConfig, RetryLayer,
    ServerHint,
};
use tokio::{net::TcpListener, sync::Notify, task::JoinSet, time::timeout};
use tower::{Layer, ServiceExt};

/// An hour, so that nothing else ends the buffering of a response.
const HOUR: Duration = Duration::from_secs(3600);

/// A part of a response after its head.
#[derive(Clone, Debug)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Waits for the test.
    Wait(Arc<Notify>),
}

/// A response of the server.
#[derive(Clone, Debug)]
struct Reply {
    status: u16,
    head: HeaderMap,
    parts: Vec<Part>,
}

fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// Returns a message with its prefix.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat().into()
}

impl Reply {
    fn new() -> Self {
        Self { status: 200, head: fields(&[("content-type", "application/grpc+proto")]), parts: Vec::new() }
    }

    fn head(mut self, name: &'static str, value: &'static str) -> Self {
        self.head.insert(name, HeaderValue::from_static(value));
        self
    }

    fn data(mut self, data: impl Into<Bytes>) -> Self {
        self.parts.push(Part::Data(data.into()));
        self
    }

    fn trailers(mut self, code: &'static str) -> Self {
        self.parts.push(Part::Trailers(fields(&[("grpc-status", code), ("x-last", "1")])));
        self
    }

    fn wait(mut self, notify: &Arc<Notify>) -> Self {
        self.parts.push(Part::Wait(Arc::clone(notify)));
        self
    }

    /// A unary response.
    fn ok() -> Self {
        Self::new().data(message("hello")).trailers("0")
    }

    /// An error without a body.
    fn trailers_only(code: &'static str) -> Self {
        Self::new().head("grpc-status", code)
    }

    async fn play(self) -> Response<Channel<Bytes, Infallible>> {
        let (mut sender, body) = Channel::new(1);
        let mut response = Response::new(if self.parts.is_empty() { Channel::new(1).1 } else { body });
        *response.status_mut() = self.status.try_into().unwrap();
        *response.headers_mut() = self.head;
        tokio::spawn(async move {
            for part in self.parts {
                let sent = match part {
                    Part::Data(data) => sender.send_data(data).await.is_ok(),
                    Part::Trailers(trailers) => sender.send_trailers(trailers).await.is_ok(),
                    Part::Wait(notify) => {
                        notify.notified().await;
                        true
                    }
                };
                if !sent {
                    break;
                }
            }
        });
        response
    }
}

/// A server that replies by a script and repeats the last reply. It stops when it is dropped.
struct Server {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(script: impl IntoIterator<Item = Reply>) -> Self {
        watch();
        let script: Arc<[Reply]> = script.into_iter().collect();
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, count) = (Arc::clone(&script), Arc::clone(&count));
                let service = service_fn(move |request: Request<Incoming>| {
                    let reply = script[count.fetch_add(1, SeqCst).min(script.len() - 1)].clone();
                    async move {
                        if request.headers().contains_key("x-read") {
                            let _ = request.into_body().collect().await;
                        }
                        Ok::<_, Infallible>(reply.play().await)
                    }
                });
                let connection =
                    http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move {
                    let _ = connection.await;
                });
            }
        });
        Self { address, calls, _tasks: tasks }
    }

    /// Returns a builder for a client that retries UNAVAILABLE and buffers responses.
    fn client(&self) -> ClientBuilder {
        Client::builder(format!("http://{}", self.address))
            .http2_prior_knowledge(true)
            .policy(quick(3))
            .grpc_status_codes([GrpcCode::Unavailable])
            .response_buffer(64 * 1024)
            .response_buffer_time(HOUR)
    }
}

fn call(body: impl Into<Body>) -> Request<Body> {
    let request =
        Request::post("/test.Calls/Unary").header("te", "trailers").header("content-type", "application/grpc");
    request.header("x-read", "1").body(body.into()).unwrap()
}

async fn send(client: &Client, request: Request<Body>) -> Response<ResponseBody> {
    timeout(LIMIT, client.execute(request)).await.unwrap().unwrap()
}

/// Reads a response to its end. Returns its messages, and the status in its head or its trailers.
async fn read(response: Response<impl http_body::Body<Data = Bytes, Error: Debug>>) -> (Bytes, Option<GrpcCode>) {
    let (head, body) = response.into_parts();
    let body = timeout(LIMIT, body.collect()).await.unwrap().unwrap();
    let in_trailers = body.trailers().inspect(|trailers| assert_eq!(trailers["x-last"], "1")).and_then(GrpcCode::of);
    (body.to_bytes(), in_trailers.or_else(|| GrpcCode::of(&head.headers)))
}

/// Sends a call. Returns what [`read`] does, and the number of attempts.
async fn outcome(client: ClientBuilder, server: &Server) -> (Bytes, Option<GrpcCode>, usize) {
    let response = send(&client.build().unwrap(), call(message("hi"))).await;
    let (body, code) = read(response).await;
    (body, code, server.calls.load(SeqCst))
}

const UNAVAILABLE: &str = "14";

#[tokio::test]
async fn a_listed_code_is_retried_wherever_it_is() {
    for failure in [
        Reply::trailers_only(UNAVAILABLE),
        Reply::new().trailers(UNAVAILABLE),
        Reply::new().data(message("hello")).trailers(UNAVAILABLE),
        Reply::new().data(message("")).data("").trailers(UNAVAILABLE),
    ] {
        let server = Server::start([failure.clone(), failure.clone(), Reply::ok()]).await;
        let expected = (message("hello"), Some(GrpcCode::Ok), 3);
        assert_eq!(outcome(server.client(), &server).await, expected, "{failure:?}");
    }
}

#[tokio::test]
async fn without_a_buffer_a_code_counts_only_in_the_head() {
    for (failure, expected) in [
        (Reply::trailers_only(UNAVAILABLE), (message("hello"), Some(GrpcCode::Ok), 2)),
        (Reply::new().trailers(UNAVAILABLE), (Bytes::new(), Some(GrpcCode::Unavailable), 1)),
    ] {
        let server = Server::start([failure, Reply::ok()]).await;
        assert_eq!(outcome(server.client().response_buffer(0), &server).await, expected);
    }
}

#[tokio::test]
async fn what_is_not_listed_is_returned() {
    let check = async |reply: Reply, codes: &[GrpcCode], expected| {
        let server = Server::start([reply.clone(), Reply::ok()]).await;
        let client = server.client().grpc_status_codes(codes.iter().copied());
        let (_, code, attempts) = outcome(client, &server).await;
        assert_eq!((code, attempts), (Some(expected), 1), "{reply:?}");
    };
    let unavailable = [GrpcCode::Unavailable];
    for code in ["13", "4"] {
        let expected = if code == "13" { GrpcCode::Internal } else { GrpcCode::DeadlineExceeded };
        check(Reply::trailers_only(code), &unavailable, expected).await;
        check(Reply::new().trailers(code), &unavailable, expected).await;
    }
    for reply in [Reply::trailers_only(UNAVAILABLE), Reply::new().trailers(UNAVAILABLE)] {
        check(reply.clone(), &[], GrpcCode::Unavailable).await;
        check(reply, &[GrpcCode::Internal], GrpcCode::Unavailable).await;
    }
}

#[tokio::test]
async fn the_head_and_the_trailers_may_forbid_a_retry() {
    let with = |reply: Reply, trailer| Reply {
        parts: vec![Part::Trailers(fields(&[("grpc-status", UNAVAILABLE), ("x-last", "1"), trailer]))],
        ..reply
    };
    let (yes, no, pushback) = (("x-should-retry", "true"), ("x-should-retry", "false"), "grpc-retry-pushback-ms");
    for (reply, attempts) in [
        (Reply::new().head(no.0, no.1).trailers(UNAVAILABLE), 1),
        (Reply::new().head(pushback, "-1").trailers(UNAVAILABLE), 1),
        (with(Reply::new(), no), 1),
        (with(Reply::new().head(no.0, no.1), yes), 1),
        (with(Reply::new().head(yes.0, yes.1), (pushback, "-1")), 1),
        (with(Reply::new().head(yes.0, yes.1), (pushback, "1")), 2),
        (Reply::trailers_only(UNAVAILABLE).head(pushback, "-1"), 1),
    ] {
        let server = Server::start([reply.clone(), Reply::ok()]).await;
        let client = server.client().server_hints([ServerHint::ShouldRetry, ServerHint::GrpcRetryPushback]);
        assert_eq!(outcome(client, &server).await.2, attempts, "{reply:?}");
    }
}

#[tokio::test]
async fn other_requests_have_no_grpc_status() {
    let server = Server::start([Reply::trailers_only(UNAVAILABLE)]).await;
    let client = server.client().build().unwrap();
    for (number, media_type) in (1..).zip(["application/grpc-web+proto", "application/json"]) {
        let mut request = call("");
        request.headers_mut().insert("content-type", HeaderValue::from_static(media_type));
        send(&client, request).await;
        assert_eq!(server.calls.load(SeqCst), number, "{media_type}");
    }
}

#[tokio::test]
async fn after_the_last_attempt_the_response_is_returned_with_its_trailers() {
    let server = Server::start([Reply::new().trailers(UNAVAILABLE)]).await;
    assert_eq!(outcome(server.client(), &server).await, (Bytes::new(), Some(GrpcCode::Unavailable), 4));
}

#[tokio::test]
async fn a_call_without_a_status_follows_the_rules_for_http() {
    let unavailable = Reply { status: 503, head: fields(&[("content-type", "text/html")]), parts: Vec::new() };
    let server = Server::start([unavailable, Reply::ok()]).await;
    let client = server.client().status_codes([503]).build().unwrap();
    let response = send(&client, call("")).await;
    assert_eq!((response.status().as_u16(), server.calls.load(SeqCst)), (503, 1), "it may have been processed");
}

#[tokio::test]
async fn a_response_that_is_not_grpc_is_returned() {
    let half = Bytes::copy_from_slice(&message("hello")[..7]);
    let without_type = Reply { head: HeaderMap::new(), ..Reply::ok() };
    for (reply, expected) in [
        (Reply::new().data(half.clone()), (half, None)),
        (Reply::new().data(message("hello")), (message("hello"), None)),
        (Reply::new().data("hello").trailers("0"), (Bytes::from("hello"), Some(GrpcCode::Ok))),
        (without_type, (message("hello"), Some(GrpcCode::Ok))),
    ] {
        let server = Server::start([reply]).await;
        let (body, code, attempts) = outcome(server.client(), &server).await;
        assert_eq!((body, code, attempts), (expected.0, expected.1, 1));
    }
}

#[tokio::test]
async fn the_messages_of_a_stream_arrive_while_it_is_open() {
    let open = Arc::new(Notify::new());
    let long = [&[0, 0, 2, 0, 0][..], &[b'x'; 100]].concat();
    for (first, rest) in [
        // Nothing follows for now.
        (Reply::new().data(message("one")), message("two")),
        // A second message has begun.
        (Reply::new().data([message("one"), Bytes::from_static(&[0])].concat()), Bytes::from_static(&[0, 0, 0, 0])),
        (Reply::new().data(message("one")).data(message("two")), message("three")),
        // A message is longer than what is buffered.
        (Reply::new().data(long), Bytes::from_static(&[b'x'; 131_072 - 100])),
    ] {
        let expected: Vec<u8> = first
            .parts
            .iter()
            .flat_map(|part| if let Part::Data(data) = part { data.to_vec() } else { panic!() })
            .collect();
        let server = Server::start([first.wait(&open).data(rest.clone()).trailers(UNAVAILABLE), Reply::ok()]).await;
        let mut response = send(&server.client().build().unwrap(), call("")).await;
        let mut received = Vec::new();
        while received.len() < expected.len() {
            let frame = timeout(LIMIT, response.body_mut().frame()).await.unwrap().unwrap().unwrap();
            received.extend(frame.into_data().unwrap());
        }
        assert_eq!(received, expected);
        open.notify_one();
        assert_eq!(read(response).await, (rest, Some(GrpcCode::Unavailable)), "what was returned is not retried");
        assert_eq!(server.calls.load(SeqCst), 1);
    }
}

#[tokio::test]
async fn the_head_of_a_stream_arrives_after_the_buffer_time() {
    let open = Arc::new(Notify::new());
    let server = Server::start([Reply::new().wait(&open).data(message("one")).trailers("0")]).await;
    let client = server.client().response_buffer_time(Duration::from_millis(20)).build().unwrap();
    let response = send(&client, call("")).await;
    assert!(!response.body().is_end_stream());
    open.notify_one();
    assert_eq!(read(response).await, (message("one"), Some(GrpcCode::Ok)));
}

#[tokio::test]
async fn a_call_whose_client_is_still_sending_is_not_buffered() {
    let open = Arc::new(Notify::new());
    let server = Server::start([Reply::new().wait(&open).trailers(UNAVAILABLE), Reply::ok()]).await;
    let (mut sender, body) = Channel::<Bytes>::new(1);
    sender.send_data(message("one")).await.unwrap();
    let response = send(&server.client().build().unwrap(), unread(Body::new(body))).await;
    open.notify_one();
    assert_eq!(read(response).await, (Bytes::new(), Some(GrpcCode::Unavailable)));
    assert_eq!(server.calls.load(SeqCst), 1);
    drop(sender);
}

/// A call to which the server replies before it has read the request.
fn unread(body: Body) -> Request<Body> {
    let mut request = call(body);
    request.headers_mut().remove("x-read");
    request
}

#[tokio::test]
async fn a_call_that_fails_before_its_request_was_read_is_repeated_with_all_of_it() {
    for (limit, attempts) in [(64, 2), (4, 1)] {
        let server = Server::start([Reply::trailers_only(UNAVAILABLE), Reply::ok()]).await;
        let client = server.client().replay_limit(limit).build().unwrap();
        let (mut sender, body) = Channel::<Bytes>::new(2);
        sender.send_data(message("one")).await.unwrap();
        read(send(&client, unread(Body::new(body))).await).await;
        assert_eq!(server.calls.load(SeqCst), attempts, "{limit}");
        drop(sender);
    }
}

#[tokio::test]
async fn a_layer_retries_a_code_in_the_head() {
    for (failure, expected) in [
        (Reply::trailers_only(UNAVAILABLE), (message("hello"), Some(GrpcCode::Ok), 2)),
        // It buffers no responses.
        (Reply::new().trailers(UNAVAILABLE), (Bytes::new(), Some(GrpcCode::Unavailable), 1)),
        (Reply::trailers_only("13"), (Bytes::new(), Some(GrpcCode::Internal), 1)),
    ] {
        let server = Server::start([failure.clone(), Reply::ok()]).await;
        let http = legacy::Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>();
        let config = RetryConfig::new(quick(3)).grpc_status_codes([GrpcCode::Unavailable]);
        let service = RetryLayer::new(config).unwrap().layer(http);
        let mut request = call(message("hi"));
        *request.uri_mut() = format!("http://{}/test.Calls/Unary", server.address).parse().unwrap();
        let response = timeout(LIMIT, service.oneshot(request)).await.unwrap().unwrap();
        let history = response.extensions().get::<History>().unwrap().clone();
        let (body, code) = read(response).await;
        assert_eq!((body, code, server.calls.load(SeqCst)), expected, "{failure:?}");
        assert_eq!(history.attempts() as usize, expected.2, "{history}");
    }
}

#[tokio::test]
async fn an_upgrade_is_not_repeated_for_its_code() {
    let server = Server::start([Reply::trailers_only(UNAVAILABLE), Reply::ok()]).await;
    let mut request = call(message("hi"));
    request.headers_mut().insert("upgrade", HeaderValue::from_static("other"));
    send(&server.client().build().unwrap(), request).await;
    assert_eq!(server.calls.load(SeqCst), 1);
}

#[tokio::test]
async fn a_response_that_announces_its_length_counts_towards_the_quota_too() {
    for (memory, attempts) in [(10_000, 2), (100, 1)] {
        for announced in [true, false] {
            let mut failure = Reply::new().data(message(&"x".repeat(1000))).trailers(UNAVAILABLE);
            if announced {
                failure = failure.head("content-length", "1005");
            }
            let server = Server::start([failure, Reply::ok()]).await;
            let client = server.client().replay_memory(memory);
            assert_eq!(outcome(client, &server).await.2, attempts, "{memory} {announced}");
        }
    }
}

#[tokio::test]
async fn a_streamed_request_is_repeated_if_it_was_read_and_buffered() {
    for (limit, attempts) in [(64, 2), (4, 1)] {
        let server = Server::start([Reply::new().trailers(UNAVAILABLE), Reply::ok()]).await;
        let (mut sender, body) = Channel::<Bytes>::new(2);
        sender.send_data(message("one")).await.unwrap();
        drop(sender);
        let client = server.client().replay_limit(limit).build().unwrap();
        read(send(&client, call(Body::new(body))).await).await;
        assert_eq!(server.calls.load(SeqCst), attempts, "{limit}");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_calls_is_ejected() {
    let forbid = |reply: Reply| reply.head("grpc-retry-pushback-ms", "-1");
    for failure in [
        Reply::trailers_only(UNAVAILABLE),
        Reply::new().trailers(UNAVAILABLE),
        forbid(Reply::trailers_only(UNAVAILABLE)),
        forbid(Reply::new().trailers(UNAVAILABLE)),
    ] {
        let (failing, other) = (Server::start([failure.clone()]).await, Server::start([Reply::ok()]).await);
        for buffer in [0, 64 * 1024] {
            let client = failing.client().endpoint(format!("http://{}", other.address));
            let client = client.server_hints([ServerHint::GrpcRetryPushback]);
            let client = client.response_buffer(buffer).eject_after(3).build().unwrap();
            let is_ejected = || client.endpoints()[0].state == EndpointState::Ejected;
            for _ in 0..200 {
                read(send(&client, call("")).await).await;
                if is_ejected() {
                    break;
                }
            }
            assert!(is_ejected(), "{failure:?} with a buffer of {buffer} bytes");
        }
    }
}

#[test]
fn ok_is_not_retried() {
    let error = Client::builder("http://a").grpc_status_codes([GrpcCode::Ok]).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadInput);
    assert_eq!(error.to_string(), "grpc_status_codes has OK: expected codes of errors");
}

#[tokio::test]
async fn buffering_may_have_no_limit_in_time() {
    let server = Server::start([Reply::new().trailers(UNAVAILABLE), Reply::ok()]).await;
    let client = server.client().response_buffer_time(Duration::MAX);
    assert_eq!(outcome(client, &server).await, (message("hello"), Some(GrpcCode::Ok), 2));
}

//! The client with real sockets: what is retried, what is returned, and the messages of errors.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the test's message"
)]

mod common;

use std::{io, net::SocketAddr, sync::atomic::Ordering::SeqCst, time::Duration};

use bytes::Bytes;
use common::{Reply, Server, quick, raw_server, read_head, watch};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, StreamBody, channel::Channel};
use retry_client::{Body, Client, EndReason, ErrorKind, RetryMethods, RetryPolicy, retry_core::Jitter};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket},
    task::JoinSet,
    time::Instant,
};

/// Returns an address that refuses connections, and the socket that reserves it.
fn refusing() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap(), socket)
}

#[test]
fn debug_output_contains_no_password() {
    let builder = Client::builder("http://me:hush@h:1/x");
    let shown = format!("{builder:?}");
    assert!(shown.contains("url: http://***@h:1/x") && !shown.contains("hush"), "{shown}");
    let client = builder.build().unwrap();
    let refused = Client::builder("http://me:hush@h:x").build().unwrap_err();
    let shown = format!("{client:?} {refused:?}");
    assert!(!shown.contains("hush") && !shown.contains("bWU6"), "{shown}");
}

#[tokio::test]
async fn parity_refused_connections_are_retried_for_every_method() {
    let (address, _socket) = refusing();
    let client = Client::builder(format!("http://{address}")).policy(quick(3)).build().unwrap();
    let refused = client.post("/hello").body("x").await.unwrap_err();
    assert_eq!((refused.kind(), refused.reason()), (ErrorKind::Connect, Some(EndReason::Exhausted)));
    assert_eq!(refused.history().unwrap().attempts(), 4);
    assert!(refused.message().starts_with("cannot connect to 127.0.0.1:"), "{refused}");
    let cause = refused.root_cause();
    assert_eq!(cause.to_string(), "Connection refused (os error 111)");
    assert_eq!(cause.downcast_ref::<io::Error>().unwrap().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn parity_an_unknown_host_is_retried() {
    let client = Client::builder("http://no-such-host.invalid").policy(quick(1)).build().unwrap();
    let unknown = client.get("/").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Connect);
    assert_eq!(unknown.history().unwrap().attempts(), 2);
}

#[tokio::test]
async fn parity_connecting_has_its_own_limit() {
    // Connecting to a listener whose backlog is full hangs.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(address)).await
    {
        queued.push(stream);
    }
    let client = Client::builder(format!("http://{address}"))
        .policy(quick(0))
        .timeout(Duration::from_millis(50)) // starts when the connection is ready, so never here
        .connect_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let error = client.get("/").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
}

#[tokio::test]
async fn parity_any_other_response_is_returned_4xx_and_5xx_too() {
    for status in [301, 404, 500, 503] {
        let server = Server::start([Reply::Status(status, "as it is")]).await;
        let response = server.client().build().unwrap().get("/").await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.into_body().text().await.unwrap(), "as it is");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn parity_timeouts_repeat_idempotent_methods_only_unless_told() {
    let attempts = async |methods, post| {
        let server = Server::start([Reply::Hang]).await;
        let client = server
            .client()
            .policy(quick(1))
            .timeout(Duration::from_millis(100))
            .retry_methods(methods)
            .build()
            .unwrap();
        let error = if post { client.post("/").body("x").await } else { client.get("/").await }.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(error.message(), "idle timeout: nothing was read or written for 100ms");
        (server.seen().len(), error.reason().unwrap())
    };
    assert_eq!(attempts(RetryMethods::Idempotent, false).await, (2, EndReason::Exhausted));
    assert_eq!(attempts(RetryMethods::Idempotent, true).await, (1, EndReason::NotSafeToRepeat));
    assert_eq!(attempts(RetryMethods::All, true).await, (2, EndReason::Exhausted));
}

#[tokio::test]
async fn parity_the_timeout_is_idle_not_total() {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        // Four bytes every 100 ms: in total more than twice the timeout.
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".chunks(4) {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.write_all(byte).await.unwrap();
        }
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let timeout = Duration::from_millis(400);
    let client = Client::builder(format!("http://{address}")).policy(quick(0)).timeout(timeout).build().unwrap();
    let begin = Instant::now();
    assert_eq!(client.get("/").text().await.unwrap(), "ok");
    assert!(begin.elapsed() > timeout);
}

#[tokio::test]
async fn parity_a_body_that_breaks_or_stalls_is_retried_when_the_exchange_ends_in_a_string() {
    let incomplete: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\nHello";
    let fine: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\nHello World!!!";
    let (address, connections, _server) = raw_server(vec![incomplete, incomplete, fine]).await;
    let client = Client::builder(format!("http://{address}")).policy(quick(3)).build().unwrap();
    assert_eq!(client.get("/hello").text().await.unwrap(), "Hello World!!!");
    assert_eq!(connections.load(SeqCst), 3);

    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut stalled = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(if stalled.len() < 2 { incomplete } else { fine }).await.unwrap();
            stalled.push(stream);
        }
    });
    let stalling = Client::builder(format!("http://{address}")).policy(quick(3)).timeout(Duration::from_millis(300));
    assert_eq!(stalling.build().unwrap().get("/hello").text().await.unwrap(), "Hello World!!!");
}

#[tokio::test]
async fn a_streamed_body_that_stalls_is_an_error_while_it_is_read() {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(format!("http://{}", listener.local_addr().unwrap()))
        .timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
        stream
    };
    let (response, _stream) = tokio::join!(client.get("/"), server);
    let error = response.unwrap().into_body().bytes().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn incomplete_responses_are_retried_for_get_and_not_for_post() {
    let fine: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    for incomplete in [b"".as_slice(), b"HTTP/1.1", b"!@#$ no http\r\n\r\n"] {
        let (address, connections, _server) = raw_server(vec![incomplete, incomplete, incomplete, fine]).await;
        let client = Client::builder(format!("http://{address}")).policy(quick(3)).build().unwrap();
        assert_eq!(client.get("/").await.unwrap().status(), 200, "{incomplete:?}");
        assert_eq!(connections.load(SeqCst), 4);

        let (address, connections, _server) = raw_server(vec![incomplete, fine]).await;
        let client = Client::builder(format!("http://{address}")).policy(quick(3)).build().unwrap();
        let error = client.post("/").body("x").await.unwrap_err();
        assert_eq!((connections.load(SeqCst), error.reason()), (1, Some(EndReason::NotSafeToRepeat)), "{incomplete:?}");
        assert!(matches!(error.kind(), ErrorKind::ConnectionClosed | ErrorKind::BadResponse), "{error}");
    }
}

#[tokio::test]
async fn parity_a_reset_before_any_byte_is_retried() {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 1.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            if number < 4 {
                // Closed with unread data: the kernel sends a reset.
                stream.readable().await.unwrap();
                continue;
            }
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    });
    let client = Client::builder(format!("http://{address}")).policy(quick(3)).build().unwrap();
    assert_eq!(client.get("/").text().await.unwrap(), "ok");
}

#[tokio::test]
async fn localhost_works_where_ipv6_is_refused_and_ipv4_listens() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = Client::new(format!("http://localhost:{}", server.address.port())).unwrap();
    assert_eq!(client.get("/").text().await.unwrap(), "ok");
}

#[tokio::test]
async fn a_status_other_than_2xx_is_an_error_of_text_with_the_response_inside() {
    let server = Server::start([Reply::Status(404, "nothing here")]).await;
    let error = server.client().build().unwrap().get("/").text().await.unwrap_err();
    assert_eq!((error.kind(), error.status_code()), (ErrorKind::Status, Some(StatusCode::NOT_FOUND)));
    assert_eq!(error.message(), "status 404 Not Found");
    let response = error.into_response().unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain");
    assert_eq!(response.into_body(), "nothing here");
}

#[tokio::test]
async fn parity_a_request_body_is_replayed_from_a_bounded_buffer() {
    let frames = || {
        let parts = ["one ", "two ", "three"].map(|part| Ok::<_, io::Error>(http_body::Frame::data(part.into())));
        Body::new(StreamBody::new(Parts(parts.into_iter())))
    };
    let server = Server::start([Reply::Hang, Reply::Ok("ok")]).await;
    let client = server.client().build().unwrap();
    assert_eq!(client.put("/").body(frames()).await.unwrap().status(), 200);
    assert!(server.seen().iter().all(|seen| seen.body == "one two three"));
    assert_eq!(server.seen().len(), 2);

    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().replay_limit(5).build().unwrap();
    assert_eq!(client.put("/").body(frames()).await.unwrap().status(), 200, "too large for the buffer, but sent once");

    let server = Server::start([Reply::Hang, Reply::Ok("ok")]).await;
    let client = server.client().replay_limit(5).build().unwrap();
    let error = client.put("/").body(frames()).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Some(EndReason::BodyNotReplayable)));
    let advice = "; the request body cannot be sent again, as it exceeds replay_limit or replay_memory";
    assert!(error.to_string().ends_with(advice), "{error}");
}

struct Parts<I>(I);

impl<I: Iterator + Unpin> futures_util::Stream for Parts<I> {
    type Item = I::Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<I::Item>> {
        std::task::Poll::Ready(self.0.next())
    }
}

#[tokio::test]
async fn listed_statuses_are_not_repeated_for_post() {
    let server = Server::start([Reply::Status(503, "busy"), Reply::Ok("ok")]).await;
    let client = server.client().status_codes([503]).build().unwrap();
    assert_eq!(client.post("/").body("x").await.unwrap().status(), 503);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn one_connection_serves_all_attempts() {
    let busy = Reply::Status(503, "busy, and saying so at some length");
    let server = Server::start([busy.clone(), busy.clone(), busy, Reply::Ok("ok")]).await;
    let client = server.client().status_codes([503]).build().unwrap();
    assert_eq!(client.get("/").text().await.unwrap(), "ok");
    let connections: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0; 4]);
}

#[tokio::test]
async fn ipv4_and_ipv6_work() {
    for host in ["127.0.0.1", "[::1]"] {
        let Ok(listener) = TcpListener::bind(format!("{host}:0")).await else {
            assert_eq!(host, "[::1]", "only IPv6 may be missing on this machine");
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        let server = Server::start_on(listener, [Reply::Ok("ok")], |_, stream| std::future::ready(Some(stream)));
        let client = Client::builder(format!("http://{host}:{port}")).build().unwrap();
        assert_eq!(client.get("/").text().await.unwrap(), "ok");
        assert_eq!(server.seen()[0].headers["host"], format!("{host}:{port}"));
    }
}

#[tokio::test]
async fn idle_connections_are_limited_in_number_and_time() {
    let connections = async |client: retry_client::ClientBuilder, server: &Server| {
        let client = client.build().unwrap();
        for _ in 0..3 {
            client.get("/").text().await.unwrap();
            // Long enough for an idle connection to expire, and to return to the pool.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>()
    };
    let server = Server::start([Reply::Ok("ok")]).await;
    assert_eq!(connections(server.client(), &server).await, [0, 0, 0]);
    let server = Server::start([Reply::Ok("ok")]).await;
    assert_eq!(connections(server.client().pool_max_idle(0), &server).await, [0, 1, 2]);
    let server = Server::start([Reply::Ok("ok")]).await;
    let short = server.client().pool_idle_timeout(Duration::from_millis(1));
    assert_eq!(connections(short, &server).await, [0, 1, 2]);
}

#[tokio::test]
async fn the_number_of_connections_is_limited() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().pool_max_connections(2).build().unwrap();
    assert_eq!(client.connections(), 0);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/").text().await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "ok");
    }
    assert!(server.seen().iter().all(|seen| seen.connection < 2));
    assert!((1..=2).contains(&client.connections()));

    let server = Server::start([Reply::Hang]).await;
    let client = server.client().pool_max_connections(1).policy(quick(0)).connect_timeout(Duration::from_millis(200));
    let client = client.no_timeout().build().unwrap();
    let hung = client.get("/");
    let refused = async {
        while client.connections() == 0 {
            tokio::task::yield_now().await;
        }
        client.get("/").await.unwrap_err()
    };
    let error = tokio::select! { _ = hung => panic!("it hangs"), error = refused => error };
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("no connection within 200ms"), "{error}");
}

#[tokio::test]
async fn forward_removes_hop_by_hop_headers() {
    let server = Server::start([Reply::Status(503, "busy"), Reply::Ok("ok")]).await;
    let client = server.client().status_codes([503]).build().unwrap();
    let inbound = Request::put("/inbound?a=b")
        .header("host", "outside.example")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("x-kept", "2")
        .body(Body::from("the body"))
        .unwrap();
    assert_eq!(client.forward("/hello?c=d", inbound).await.unwrap().status(), 200);
    for seen in server.seen() {
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str(), &seen.body[..]),
            ("PUT", "/hello?c=d", &b"the body"[..])
        );
        assert_eq!(seen.headers["host"], server.address.to_string().as_str());
        assert_eq!(seen.headers["x-kept"], "2");
        assert!(!seen.headers.contains_key("x-hop"));
    }
}

#[tokio::test]
async fn credentials_in_the_url_are_sent_as_authorization_and_not_displayed() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = Client::new(format!("http://me:secret@{}", server.address)).unwrap();
    client.get("/").await.unwrap();
    assert_eq!(server.seen()[0].headers["authorization"], "Basic bWU6c2VjcmV0");
    assert!(!format!("{client:?}").contains("secret"));
    let (absent, _socket) = refusing();
    let error = Client::builder(format!("http://me:secret@{absent}")).policy(quick(0)).build().unwrap().get("/").await;
    assert!(!format!("{:?}", error.unwrap_err()).contains("secret"));
}

#[tokio::test]
async fn bad_input_has_its_own_kind_and_nothing_is_sent() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().build().unwrap();
    let request = |uri| Request::get(uri).body(Body::empty()).unwrap();
    for error in [
        client.get("no-slash").await.unwrap_err(),
        client.execute(request("http://elsewhere/")).await.unwrap_err(),
        client.execute(Request::connect("/x").body(Body::empty()).unwrap()).await.unwrap_err(),
        server.client().timeout(Duration::ZERO).build().unwrap_err(),
        server.client().connect_timeout(Duration::ZERO).build().unwrap_err(),
        server.client().attempt_timeout(Duration::ZERO).build().unwrap_err(),
        server.client().status_codes([99]).build().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::BadInput, "{error}");
        assert!(error.reason().is_none());
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_request_body_that_fails_has_a_kind_of_its_own_and_is_sent_once() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let incomplete = StreamBody::new(Parts(std::iter::once(Err::<http_body::Frame<Bytes>, _>("disk on fire"))));
    let error = server.client().build().unwrap().put("/").body(Body::new(incomplete)).await.unwrap_err();
    assert_eq!((error.kind(), error.history().unwrap().attempts()), (ErrorKind::RequestBody, 1));
    assert_eq!(error.message(), "the request body failed: disk on fire");
    assert_eq!(error.root_cause().to_string(), "disk on fire");
}

#[tokio::test]
async fn attempt_timeout_limits_each_attempt_and_respects_idempotence() {
    let server = Server::start([Reply::Hang]).await;
    let client =
        server.client().policy(quick(1)).no_timeout().attempt_timeout(Duration::from_millis(100)).build().unwrap();
    assert_eq!(client.get("/").await.unwrap_err().history().unwrap().attempts(), 2);
    let error = client.post("/").body("x").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Some(EndReason::NotSafeToRepeat)));
}

#[tokio::test]
async fn dropping_a_call_stops_its_retries() {
    let server = Server::start([Reply::Status(503, "busy")]).await;
    let policy = RetryPolicy::builder().interval(Duration::from_millis(200)).jitter(Jitter::None).build().unwrap();
    let client = server.client().policy(policy).status_codes([503]).build().unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), client.get("/")).await.is_err());
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn responses_without_content_have_no_body() {
    let responses: Vec<&[u8]> = vec![
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nto the end",
    ];
    let (address, _, _server) = raw_server(responses).await;
    let client = Client::builder(format!("http://{address}")).policy(quick(0)).build().unwrap();
    for (status, body) in [(204, ""), (304, ""), (200, "to the end")] {
        let response = client.get("/").await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
    }
    let (address, _, _server) = raw_server(vec![b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"]).await;
    let client = Client::builder(format!("http://{address}")).policy(quick(0)).build().unwrap();
    assert_eq!(client.head("/").await.unwrap().into_body().text().await.unwrap(), "");
}

/// Sends a request whose response is not read before all of the body has arrived.
async fn upload_before_reading(request: impl FnOnce(usize) -> (Request<Body>, JoinSet<()>)) {
    const SIZE: usize = 16 * 1024 * 1024;
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client =
        Client::builder(format!("http://{}", listener.local_addr().unwrap())).policy(quick(0)).build().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
        stream.read_exact(&mut vec![0; SIZE]).await.unwrap();
        stream
    });
    let (request, _sending) = request(SIZE);
    let response = client.execute(request).await.unwrap();
    server.await.unwrap().write_all(b"ok").await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "ok");
}

#[tokio::test]
async fn an_upload_continues_while_nobody_reads_the_response() {
    upload_before_reading(|size| (Request::put("/").body(vec![b'x'; size].into()).unwrap(), JoinSet::new())).await;
    upload_before_reading(|size| {
        let (mut sender, body) = Channel::<Bytes, io::Error>::new(1);
        let sending = JoinSet::from_iter([async move {
            for _ in 0..size / 65_536 {
                sender.send_data(Bytes::from_static(&[b'x'; 65_536])).await.unwrap();
            }
        }]);
        (Request::put("/").header("content-length", size).body(Body::new(body)).unwrap(), sending)
    })
    .await;
}

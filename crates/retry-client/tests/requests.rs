//! The request builder, options of single requests, default headers, and response bodies that are read as a whole.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

mod common;

use std::{future::pending, sync::atomic::Ordering::SeqCst, time::Duration};

use common::{LIMIT, Reply, Server, quick, raw_server, read_head, watch};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header::AUTHORIZATION};
use http_body_util::BodyExt;
use hyper_util::{client::legacy, rt::TokioExecutor};
use retry_client::{
    Body, CallOptions, Client, ClientBuilder, EndReason, Error, ErrorKind, History, RequestBuilder, RetryBudget,
    RetryConfig, RetryLayer,
};
use tokio::{io::AsyncWriteExt, net::TcpListener, task::JoinSet, time::timeout};
use tower::{Layer, Service, ServiceExt};

const INCOMPLETE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"na";
const COMPLETE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"name\":\"tea\"}";

#[tokio::test]
async fn a_request_has_what_the_builder_was_given() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().build().unwrap();
    let response = client
        .post("/orders?a=b")
        .query("c", "d & é/~")
        .query("e", 1)
        .header("x-one", "1")
        .header("x-one", 2)
        .header(HeaderName::from_static("x-two"), HeaderValue::from_static("3"))
        .body("1 tea")
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.method, &*seen.target), (Method::POST, "/orders?a=b&c=d%20%26%20%C3%A9%2F~&e=1"));
    assert_eq!(seen.headers.get_all("x-one").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!((&seen.headers["x-two"], &*seen.body), (&HeaderValue::from_static("3"), &b"1 tea"[..]));

    let absolute = format!("http://{}/x", server.address);
    assert_eq!(client.request(Method::OPTIONS, &absolute).query("a", "b").text().await.unwrap(), "ok");
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.method, &*seen.target), (Method::OPTIONS, "/x?a=b"));
}

#[tokio::test]
async fn a_request_does_not_borrow_its_client() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().build().unwrap();
    let calls = [tokio::spawn(client.get("/").text()), tokio::spawn(client.post("/").body("x").text())];
    let response = tokio::spawn(client.get("/").send());
    drop(client);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "ok");
    }
    assert_eq!(response.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn invalid_input_is_one_line_when_the_request_is_sent() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().build().unwrap();
    let other =
        format!("this client is for http://{}: expected a path, or a URL that starts with this", server.address);
    for (request, expected) in [
        (client.get("x"), "path 'x': expected it to start with '/'"),
        (client.get("/a b?secret"), "path '/a b': it has a character that must be percent-encoded"),
        (client.get("http://elsewhere/x"), &*other),
        (client.get("/").header("a b", "1"), "header \"a b\": its name has a character that is not allowed"),
        (client.get("/").header("a", "secret\n"), "header \"a\": its value has a character that is not allowed"),
        (client.get("x").header("a b", "1"), "path 'x': expected it to start with '/'"),
        (client.get("/").query("q", "x".repeat(70_000)), "the URL is longer than 65,534 bytes"),
        (
            client.get("/").options(CallOptions::new().attempt_timeout(Duration::ZERO)),
            "attempt_timeout is 0: expected a time above zero",
        ),
    ] {
        let shown = format!("{request:?}");
        let error = request.send().await.unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::BadInput, expected.to_owned()));
        assert!(!shown.contains("secret"), "{shown}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_is_retried_if_it_is_read_as_a_whole() {
    let client = async || {
        let (address, connections, server) = raw_server(vec![INCOMPLETE, INCOMPLETE, COMPLETE]).await;
        (Client::builder(format!("http://{address}")).policy(quick(3)).build().unwrap(), connections, server)
    };
    let (text, connections, _server) = client().await;
    assert_eq!(text.get("/").text().await.unwrap(), "{\"name\":\"tea\"}");
    assert_eq!(connections.load(SeqCst), 3);
    let (bytes, _, _server) = client().await;
    assert_eq!(bytes.get("/").bytes().await.unwrap(), "{\"name\":\"tea\"}");
    let (post, connections, _server) = client().await;
    assert_eq!(post.post("/").text().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    assert_eq!(connections.load(SeqCst), 1, "the server may have processed it");
    let (streamed, _, _server) = client().await;
    let body = streamed.get("/").await.unwrap().into_body();
    assert_eq!(body.text().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    let (buffered, _, _server) = client().await;
    let response = buffered.get("/").options(CallOptions::new().response_buffer(100)).await.unwrap();
    assert_eq!(response.into_body().text().await.unwrap(), "{\"name\":\"tea\"}");
}

#[tokio::test]
async fn too_many_headers_are_an_error() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let many = |count: usize| {
        let names = (0..count).map(|number| HeaderName::try_from(format!("x-{number}")).unwrap());
        names.map(|name| (name, HeaderValue::from_static("1"))).collect::<HeaderMap>()
    };
    let expect = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::BadInput);
        assert!(error.to_string().ends_with(" headers: expected at most 16384"), "{error}");
    };
    let client = server.client().build().unwrap();
    let request = (0..40_000).fold(client.get("/"), |request, number| request.header(format!("x-{number}"), number));
    expect(request.send().await.unwrap_err());
    let request = || {
        let mut request = Request::new(Body::empty());
        // As many as there can be.
        *request.headers_mut() = many(24_576);
        request
    };
    expect(client.execute(request()).await.unwrap_err());
    expect(client.forward("/", request()).await.unwrap_err());
    let config = RetryConfig::default().add_idempotency_key(true).attempt_header(HeaderName::from_static("x-attempt"));
    let http = legacy::Client::builder(TokioExecutor::new()).build_http::<Body>();
    expect(RetryLayer::new(config).unwrap().layer(http).oneshot(request()).await.unwrap_err());
    let defaults = server.client().default_headers(many(10_000)).build().unwrap();
    expect(defaults.execute(request()).await.unwrap_err());
    expect(server.client().default_headers(many(24_576)).build().unwrap_err());
    assert!(server.seen().is_empty());
}

#[test]
fn a_default_header_is_not_the_key_of_a_request() {
    let key = (HeaderName::from_static("idempotency-key"), HeaderValue::from_static("1"));
    let error = Client::builder("http://a").default_headers(HeaderMap::from_iter([key])).build().unwrap_err();
    let expected = "default_headers has idempotency-key: expected a key for each request, by RequestBuilder::header or \
                    add_idempotency_key";
    assert_eq!((error.kind(), error.message()), (ErrorKind::BadInput, expected));
}

/// Starts a server that writes the next of `responses` to each connection, and keeps it open. Returns a builder for a
/// client that retries 503.
async fn stalling_server(responses: &'static [&'static [u8]]) -> (ClientBuilder, JoinSet<()>) {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(format!("http://{}", listener.local_addr().unwrap()));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = Vec::new();
        for response in responses {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(response).await.unwrap();
            open.push(stream);
        }
        pending::<()>().await;
    });
    (client.policy(quick(3)).status_codes([503]).no_timeout(), tasks)
}

/// Longer than what is drained, so that its connection is closed at once.
const STALLED_503: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 100000\r\n\r\nhalf";

#[tokio::test]
async fn a_listed_status_is_retried_without_waiting_for_its_body() {
    for buffer in [0, 1024 * 1024] {
        let (client, _server) = stalling_server(&[STALLED_503, STALLED_503, COMPLETE]).await;
        let client = client.response_buffer(buffer).build().unwrap();
        assert_eq!(timeout(LIMIT, client.get("/").text()).await.unwrap().unwrap(), "{\"name\":\"tea\"}");
    }
    let (client, _server) = stalling_server(&[STALLED_503, COMPLETE]).await;
    let client = client.response_buffer(1024 * 1024).build().unwrap();
    assert_eq!(timeout(LIMIT, client.get("/").send()).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn the_body_of_the_last_response_with_a_listed_status_is_read() {
    const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 5\r\n\r\nsorry";
    const BROKEN: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 5\r\n\r\nsor";
    let forbidden = || CallOptions::new().repeatable(false);
    for (options, attempts) in [(CallOptions::new(), 4), (forbidden(), 1)] {
        let (address, connections, _server) = raw_server(vec![BUSY]).await;
        let client = Client::builder(format!("http://{address}")).policy(quick(3)).status_codes([503]);
        let error = client.build().unwrap().get("/").options(options).text().await.unwrap_err();
        assert_eq!(error.into_response().unwrap().body(), "sorry");
        assert_eq!(connections.load(SeqCst), attempts);
    }
    // Before it is returned.
    let (address, _, _server) = raw_server(vec![BROKEN]).await;
    let client = Client::builder(format!("http://{address}")).policy(quick(1)).status_codes([503]);
    let client = client.response_buffer(100).build().unwrap();
    let error = client.get("/").send().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::ConnectionClosed, Some(EndReason::Exhausted)));
    assert_eq!(error.history().unwrap().attempts(), 2);
}

#[tokio::test]
async fn the_body_of_the_last_response_is_read_within_the_time_of_its_attempt() {
    let short = Duration::from_millis(50);
    for (options, reason) in [
        (CallOptions::new().attempt_timeout(short), EndReason::Exhausted),
        (CallOptions::new().deadline(short), EndReason::Deadline),
    ] {
        let (client, _server) = stalling_server(&[STALLED_503]).await;
        let client = client.policy(quick(0)).build().unwrap();
        let error = timeout(LIMIT, client.get("/").options(options).text()).await.unwrap().unwrap_err();
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Some(reason)));
    }
}

#[tokio::test]
async fn an_error_names_the_request_what_happened_and_why_there_was_no_other_attempt() {
    const CLOSED: &str = "connection error: connection closed before message completed";
    let (address, _, _server) = raw_server(vec![b""]).await;
    let client = Client::builder(format!("http://user:secret@{address}")).policy(quick(3)).build().unwrap();
    let check = async |request: RequestBuilder, expected: &str| {
        let error = request.send().await.unwrap_err();
        assert_eq!(error.to_string(), expected.replace("SERVER", &address.to_string()));
        assert_eq!(error.message(), CLOSED);
    };
    let order = || client.post("/orders?secret").body("1 tea");
    let advice = "not repeated, as it may have been processed: add an Idempotency-Key, or allow it by \
                  CallOptions::repeatable";
    check(order(), &format!("POST http://SERVER/orders: {CLOSED}; {advice}")).await;
    let forbidden = CallOptions::new().repeatable(false);
    check(order().options(forbidden), &format!("POST http://SERVER/orders: {CLOSED}; not safe to repeat")).await;
    check(client.get("/"), &format!("GET http://SERVER/: {CLOSED}; no retries left (4 attempts)")).await;
    let once = CallOptions::new().policy(quick(0));
    check(client.get("/").options(once), &format!("GET http://SERVER/: {CLOSED}; no retries left")).await;
}

#[tokio::test]
async fn the_error_of_a_response_names_its_request_too() {
    let server =
        Server::start([Reply::Status(503, "busy"), Reply::Status(404, "none"), Reply::Status(503, "busy")]).await;
    let client = server.client().status_codes([503]).build().unwrap();
    let url = format!("http://{}/", server.address);
    let error = client.get("/").text().await.unwrap_err();
    assert_eq!(error.to_string(), format!("GET {url}: status 404 Not Found (2 attempts)"));
    assert!(format!("{error:?}").contains("attempt 2 returned 404 Not Found"), "{error:?}");
    let error = client.post("/").text().await.unwrap_err();
    let expected = format!("POST {url}: status 503 Service Unavailable; not repeated, as it may have been processed: ");
    assert!(error.to_string().starts_with(&expected), "{error}");
    assert!(format!("{error:?}").contains(&expected), "{error:?}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_an_error_and_not_retried() {
    let announced: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n12345";
    let chunked: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n123\r\n2\r\n45\r\n0\r\n\r\n";
    for response in [announced, chunked] {
        let (address, connections, _server) = raw_server(vec![response]).await;
        let limited = |bytes| Client::builder(format!("http://{address}")).policy(quick(3)).response_limit(bytes);
        let (client, larger) = (limited(4).build().unwrap(), limited(5).build().unwrap());
        assert_eq!(larger.get("/").text().await.unwrap(), "12345");
        assert_eq!(larger.get("/").await.unwrap().into_body().text().await.unwrap(), "12345");
        let larger = || CallOptions::new().response_limit(5);
        assert_eq!(client.get("/").options(larger()).text().await.unwrap(), "12345");
        assert_eq!(client.get("/").options(larger()).await.unwrap().into_body().text().await.unwrap(), "12345");
        let before = connections.load(SeqCst);
        for error in [
            client.get("/").text().await.unwrap_err(),
            client.get("/").await.unwrap().into_body().text().await.unwrap_err(),
            client
                .get("/")
                .options(CallOptions::new().response_buffer(9))
                .await
                .unwrap()
                .into_body()
                .text()
                .await
                .unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert_eq!(error.message(), "the body of the response is longer than 4 bytes");
        }
        assert_eq!(connections.load(SeqCst), before + 3);
        let response = client.get("/").await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "12345", "a stream has no limit");
    }
    let failed: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\n\r\n12345";
    let (address, connections, _server) = raw_server(vec![failed]).await;
    let client = Client::builder(format!("http://{address}")).policy(quick(3)).status_codes([503]).response_limit(4);
    let error = client.build().unwrap().get("/").text().await.unwrap_err();
    assert_eq!((error.status_code().unwrap().as_u16(), connections.load(SeqCst)), (503, 4));
    assert!(error.into_response().is_ok());
}

#[tokio::test]
async fn json_is_sent_and_received() {
    use std::collections::HashMap;

    type Named = HashMap<String, String>;
    let server = Server::start([Reply::Ok("{\"name\":\"tea\"}"), Reply::Status(404, "{}"), Reply::Ok("tea")]).await;
    let client = server.client().build().unwrap();
    let order = Named::from([("name".to_owned(), "tea".to_owned())]);
    assert_eq!(client.post("/").json(&order).read_json::<Named>().await.unwrap(), order);
    let seen = server.seen().pop().unwrap();
    assert_eq!(
        (&*seen.body, &seen.headers["content-type"]),
        (&b"{\"name\":\"tea\"}"[..], &HeaderValue::from_static("application/json"))
    );
    assert_eq!(client.get("/").read_json::<Named>().await.unwrap_err().status_code().unwrap(), 404);
    let error = client.put("/").header("content-type", "x/y").json("tea").read_json::<Named>().await.unwrap_err();
    assert_eq!((error.kind(), error.history().unwrap().attempts()), (ErrorKind::BadResponse, 1));
    let expected = "the body of the response is not the JSON that was expected: expected ident at line 1 column 2";
    assert_eq!(error.message(), expected);
    let seen = server.seen().pop().unwrap();
    assert_eq!(seen.headers.get_all("content-type").iter().collect::<Vec<_>>(), ["x/y"]);
    let unnamed = HashMap::from([((1, 2), 3)]);
    let error = client.put("/").json(&unnamed).send().await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::BadInput, "the body as JSON: key must be a string"));

    let (address, connections, _server) = raw_server(vec![INCOMPLETE, COMPLETE]).await;
    let client = Client::builder(format!("http://{address}")).policy(quick(1)).build().unwrap();
    assert_eq!(client.get("/").read_json::<Named>().await.unwrap(), order);
    assert_eq!(connections.load(SeqCst), 2);
    let response = client.get("/").await.unwrap();
    assert_eq!(response.into_body().json::<Named>().await.unwrap(), order);
}

#[tokio::test]
async fn a_request_has_the_default_headers_that_it_does_not_set() {
    let server = Server::start([Reply::Hang, Reply::Ok("ok")]).await;
    let mut headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer secret"))]);
    headers.append("accept", HeaderValue::from_static("a"));
    headers.append("accept", HeaderValue::from_static("b"));
    let builder = server.client().default_headers(headers);
    assert!(!format!("{builder:?}").contains("secret"));
    let client = builder.build().unwrap().with_own_pool();
    assert!(!format!("{client:?}").contains("secret"));
    client.get("/").await.unwrap();
    client.execute(Request::get("/").header("accept", "c").body(Body::empty()).unwrap()).await.unwrap();
    let accepted = |seen: &common::Seen| seen.headers.get_all("accept").iter().cloned().collect::<Vec<_>>();
    let seen = server.seen();
    assert_eq!([accepted(&seen[0]), accepted(&seen[1])], [["a", "b"], ["a", "b"]]);
    assert_eq!(accepted(&seen[2]), ["c"]);
    assert!(seen.iter().all(|seen| seen.headers["authorization"] == "Bearer secret"));
}

/// A request with options that goes through a client, its service, and a layer; with the number of requests that arrived.
async fn everywhere(method: Method, script: &[Reply], options: &CallOptions) -> [(Result<u16, Error>, usize); 4] {
    let config = || RetryConfig::new(quick(3)).status_codes([503]);
    let request = |server: &Server| {
        let request = Request::builder().method(method.clone()).uri(format!("http://{}/x", server.address));
        request.extension(options.clone()).body(Body::from("x")).unwrap()
    };
    let start = async || {
        let server = Server::start(script.to_vec()).await;
        let client = server.client().retry_config(config()).build().unwrap();
        (server, client)
    };
    let builder = {
        let (server, client) = start().await;
        let response = client.request(method.clone(), "/x").body("x").options(options.clone()).await;
        (response.map(|response| response.status().as_u16()), server.seen().len())
    };
    let execute = {
        let (server, client) = start().await;
        let response = client.execute(request(&server)).await;
        (response.map(|response| response.status().as_u16()), server.seen().len())
    };
    let service = {
        let (server, mut client) = start().await;
        let response = client.ready().await.unwrap().call(request(&server)).await;
        (response.map(|response| response.status().as_u16()), server.seen().len())
    };
    let layer = {
        let (server, _) = start().await;
        let layer = RetryLayer::new(config()).unwrap();
        let service = layer.layer(legacy::Client::builder(TokioExecutor::new()).build_http::<Body>());
        let response = timeout(LIMIT, service.oneshot(request(&server))).await.unwrap();
        (response.map(|response| response.status().as_u16()), server.seen().len())
    };
    [builder, execute, service, layer]
}

#[tokio::test]
async fn options_replace_the_settings_of_one_request() {
    let busy = &[Reply::Status(503, "busy")];
    let new = CallOptions::new;
    for (method, script, options, status, received) in [
        (Method::GET, &busy[..], new(), 503, 4),
        (Method::GET, busy, new().policy(quick(1)), 503, 2),
        (Method::GET, busy, new().policy(quick(0)), 503, 1),
        (Method::GET, busy, new().budget(RetryBudget::tokens(0, 1)), 503, 1),
        (Method::PUT, busy, new().repeatable(false), 503, 1),
        (Method::POST, busy, new(), 503, 1),
        (Method::POST, busy, new().repeatable(true), 503, 4),
        (Method::GET, &[Reply::Hang, Reply::Ok("")], new().attempt_timeout(Duration::from_millis(50)), 200, 2),
    ] {
        for outcome in everywhere(method.clone(), script, &options).await {
            assert_eq!((outcome.0.unwrap(), outcome.1), (status, received), "{method} {options:?}");
        }
    }
    for options in
        [new().deadline(Duration::from_millis(100)), new().policy(quick(0).with_deadline(Duration::from_millis(100)))]
    {
        for (outcome, _) in everywhere(Method::GET, &[Reply::Hang], &options).await {
            let error = outcome.unwrap_err();
            assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Some(EndReason::Deadline)));
        }
    }
    for (outcome, _) in everywhere(Method::GET, &[Reply::Hang], &new().deadline(Duration::ZERO)).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout, "no time is left");
    }
}

#[tokio::test]
async fn a_budget_can_be_lifted_for_one_request() {
    let server = Server::start([Reply::Status(503, "busy")]).await;
    let budget = RetryBudget::tokens(0, 1);
    let client = server.client().status_codes([503]).budget(budget).build().unwrap();
    client.get("/").await.unwrap();
    assert_eq!(server.seen().len(), 1);
    client.get("/").options(CallOptions::new().budget(None)).await.unwrap();
    assert_eq!(server.seen().len(), 1 + 4);
}

#[tokio::test]
async fn options_apply_to_one_layer_only() {
    let server = Server::start([Reply::Status(503, "busy")]).await;
    let config = RetryConfig::new(quick(0)).status_codes([503]);
    let inner = server.client().retry_config(config.clone()).build().unwrap();
    let service = RetryLayer::new(config).unwrap().layer(inner);
    let options = CallOptions::new().policy(quick(1));
    let request = Request::get("/").extension(options).body(Body::empty()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 503);
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn a_request_that_must_not_be_repeated_is_not_resumed_either() {
    const BEGINNING: &[u8] = b"HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncontent-length: 6\r\n\r\nabc";
    const REST: &[u8] =
        b"HTTP/1.1 206 Partial Content\r\netag: \"v1\"\r\ncontent-range: bytes 3-5/6\r\ncontent-length: 3\r\n\r\ndef";
    for (options, expected) in [(CallOptions::new(), 2), (CallOptions::new().repeatable(false), 1)] {
        let (address, connections, _server) = raw_server(vec![BEGINNING, REST]).await;
        let client = Client::builder(format!("http://{address}")).policy(quick(3)).resume(true).build().unwrap();
        let body = client.get("/").options(options).await.unwrap().into_body();
        assert_eq!(body.bytes().await.is_ok(), expected == 2);
        assert_eq!(connections.load(SeqCst), expected);
    }
}

#[tokio::test]
async fn a_failed_response_that_is_not_retried_does_not_pay_for_retries() {
    let server = Server::start([Reply::Status(503, "busy")]).await;
    let budget = RetryBudget::tokens(10, 5);
    let client = server.client().status_codes([503]).policy(quick(1)).budget(budget.clone()).build().unwrap();
    client.get("/").await.unwrap();
    assert_eq!(budget.available(), 5.0);
    let response = client.post("/").await.unwrap();
    assert_eq!(response.extensions().get::<History>().unwrap().reason(), EndReason::NotSafeToRepeat);
    assert_eq!(budget.available(), 5.0, "the POST was no success");
}

#[tokio::test]
async fn a_request_that_is_declared_repeatable_gets_an_idempotency_key_too() {
    let server = Server::start([Reply::Hang, Reply::Ok("ok")]).await;
    let client = server.client().add_idempotency_key(true).build().unwrap();
    client.post("/").options(CallOptions::new().repeatable(true)).await.unwrap();
    client.post("/").options(CallOptions::new().repeatable(false)).await.unwrap();
    let keys: Vec<_> = server.seen().iter().map(|seen| seen.headers.get("idempotency-key").cloned()).collect();
    assert!(keys.len() == 3 && keys[0].is_some() && keys[0] == keys[1] && keys[2].is_none(), "{keys:?}");
}

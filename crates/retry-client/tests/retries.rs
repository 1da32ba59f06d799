//! The settings of retries, with the scripted backend.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

#[path = "../../delayed-backend/tests/support/watchdog.rs"]
mod watchdog;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use delayed_backend::Backend;
use http::{HeaderName, Method, Request};
use http_body_util::BodyExt;
use hyper_util::{client::legacy, rt::TokioExecutor};
use retry_client::{
    Body, Client, ClientBuilder, ErrorKind, History, Journal, Reason, RetryBudget, RetryConfig, RetryLayer,
    RetryMethods, RetryPolicy,
    retry_core::{Jitter, RetryPolicyBuilder},
};
use tokio::{io::AsyncWriteExt, net::TcpListener, time::Instant};
use tower::{Layer, Service, ServiceExt};

async fn backend(script: &str) -> Backend {
    watchdog::watch();
    Backend::start(script.parse().unwrap()).await.unwrap()
}

fn policy() -> RetryPolicyBuilder {
    RetryPolicy::builder().interval(Duration::from_millis(1)).jitter(Jitter::None)
}

fn client(backend: &Backend) -> ClientBuilder {
    Client::builder(backend.url())
        .policy(policy().build().unwrap())
        .status_codes([429, 502, 503])
        .timeout(Duration::from_millis(500))
}

#[tokio::test]
async fn retry_after_replaces_the_policys_wait() {
    let backend = backend("status=429;retry-after=1,ok").await;
    let client = client(&backend).policy(policy().interval(Duration::from_secs(3600)).build().unwrap());
    let begin = Instant::now();
    let response = client.build().unwrap().get("/hello").await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(begin.elapsed() >= Duration::from_secs(1));
    let journal = response.extensions().get::<Journal>().unwrap();
    assert_eq!(journal.iter().next().unwrap().wait, Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn retry_after_may_be_a_date() {
    let backend = backend("status=503;retry-after-date=2s,ok").await;
    let response = client(&backend).build().unwrap().get("/hello").await.unwrap();
    let waited = response.extensions().get::<Journal>().unwrap().iter().next().unwrap().wait.unwrap();
    assert!(waited <= Duration::from_secs(2) && waited > Duration::from_millis(500), "{waited:?}");
}

#[tokio::test]
async fn retry_after_beyond_its_limit_or_the_deadline_returns_the_response_at_once() {
    let check = async |policy: RetryPolicy, header| {
        let backend = backend(&format!("status=503;retry-after={header};body=busy")).await;
        let response = client(&backend).policy(policy).build().unwrap().get("/hello").await.unwrap();
        assert_eq!((response.status().as_u16(), backend.received()), (503, 1), "{header}");
        assert_eq!(response.into_body().text().await.unwrap(), "busy");
    };
    check(policy().max_retry_after(Duration::from_secs(5)).build().unwrap(), "6").await;
    check(policy().deadline(Duration::from_secs(5)).build().unwrap(), "6").await;
    check(policy().build().unwrap(), "9999999999").await;
}

#[tokio::test]
async fn a_post_with_an_idempotency_key_is_repeated() {
    let backend = backend("reset,hang,status=503,ok").await;
    let client = client(&backend).build().unwrap();
    let request = || Request::post("/echo").header("idempotency-key", "mine").body(Body::from("x")).unwrap();
    assert_eq!(client.execute(request()).await.unwrap().status(), 200);
    let keys: Vec<_> =
        backend.requests().into_iter().map(|request| request.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys, ["mine"; 4]);
}

#[tokio::test]
async fn an_added_key_is_the_same_for_each_attempt_and_another_for_each_call() {
    let backend = backend("reset,ok").await;
    let client = client(&backend).add_idempotency_key(true).build().unwrap();
    for _ in 0..2 {
        assert_eq!(client.post("/echo").body("x").await.unwrap().status(), 200);
    }
    let keys: Vec<_> =
        backend.requests().into_iter().map(|request| request.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys.len(), 4);
    assert!(keys[0] == keys[1] && keys[2] == keys[3] && keys[0] != keys[2], "{keys:?}");
    client.get("/hello").await.unwrap();
    assert_eq!(backend.requests().last().unwrap().headers.get("idempotency-key"), None, "a GET needs none");
}

#[tokio::test]
async fn the_attempt_header_has_the_number_of_the_attempt() {
    let backend = backend("status=503,ok").await;
    let header = HeaderName::from_static("x-attempt");
    let client = client(&backend).attempt_header(header).build().unwrap();
    let echoed = client.get("/echo").text().await.unwrap();
    assert!(echoed.contains("x-attempt: 2"), "{echoed}");
}

#[tokio::test]
async fn a_budget_is_shared_by_calls() {
    let backend = backend("status=503").await;
    let budget = RetryBudget::tokens(10, 5);
    let client = client(&backend).budget(budget.clone()).build().unwrap();
    client.get("/hello").await.unwrap();
    assert_eq!((backend.received(), budget.available()), (3, 0.0));
    client.get("/hello").await.unwrap();
    assert_eq!(backend.received(), 4);
}

#[tokio::test]
async fn an_observer_gets_each_failed_attempt_and_the_end() {
    let backend = backend("status=503,reset,ok").await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let client = client(&backend).observer(move |event| {
        let event = format!("{} {} {} {:?}", event.method, event.record.attempt, event.outcome, event.ended);
        log.lock().unwrap().push(event);
    });
    client.build().unwrap().get("/hello").await.unwrap();
    let events = events.lock().unwrap();
    assert_eq!(events[0], "GET 1 returned 503 Service Unavailable None");
    assert!(events[1].starts_with("GET 2 failed: connection error: "), "{events:?}");
    assert_eq!(events[2], "GET 3 returned 200 OK Some(Accepted)");
}

#[tokio::test]
async fn every_response_carries_its_journal() {
    let backend = backend("ok").await;
    let response = client(&backend).build().unwrap().get("/hello").await.unwrap();
    let journal = response.extensions().get::<Journal>().unwrap();
    assert!(journal.attempts() == 1 && journal.last().timing.is_some());
}

#[tokio::test]
async fn journal_and_history_have_the_last_16_attempts() {
    let backend = backend("status=503").await;
    let policy = policy().count(17).interval(Duration::ZERO).build().unwrap();
    let response = client(&backend).policy(policy).build().unwrap().get("/hello").await.unwrap();
    let journal = response.extensions().get::<Journal>().unwrap();
    let history = response.extensions().get::<History>().unwrap();
    let last_16: Vec<_> = (3..=18).collect();
    assert_eq!(journal.iter().map(|record| record.attempt).collect::<Vec<_>>(), last_16);
    assert_eq!(history.iter().map(|entry| entry.record.attempt).collect::<Vec<_>>(), last_16);
}

#[tokio::test]
async fn the_history_of_a_retried_call_is_one_line() {
    let backend = backend("status=503,reset,ok,ok,status=503").await;
    let client = client(&backend).build().unwrap();
    let response = client.get("/hello").await.unwrap();
    let history = response.extensions().get::<History>().unwrap();
    let outcomes: Vec<_> = history.iter().map(|step| step.outcome.to_string()).collect();
    assert_eq!((&*outcomes[0], &*outcomes[2]), ("returned 503 Service Unavailable", "returned 200 OK"));
    assert!(outcomes[1].starts_with("failed: connection error: "), "{history}");
    let line = history.to_string();
    assert!(line.starts_with("attempt 1 returned 503 Service Unavailable ("), "{line}");
    assert!(line.contains("s); waited 1ms; attempt 2 failed: connection error: "), "{line}");

    assert!(client.get("/hello").await.unwrap().extensions().get::<History>().is_none(), "one attempt has no history");
}

#[tokio::test]
async fn calls_in_backoff_are_counted_until_they_continue_or_are_dropped() {
    let backend = backend("status=503").await;
    let policy = policy().interval(Duration::from_secs(3600)).build().unwrap();
    let client = client(&backend).policy(policy).budget(RetryBudget::tokens(10, 5)).build().unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.get("/hello").await.map(drop) }
    });
    while client.calls_in_backoff() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((client.calls_in_backoff(), client.budget_available()), (1, Some(5.0)));
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(client.calls_in_backoff(), 0);
}

#[tokio::test]
async fn the_deadline_aborts_an_attempt() {
    let backend = backend("hang").await;
    let deadline = policy().deadline(Duration::from_millis(200)).build().unwrap();
    let error = client(&backend).policy(deadline).no_timeout().build().unwrap().get("/hello").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Some(Reason::Deadline)));
}

#[tokio::test]
async fn a_discarded_response_that_stalls_does_not_delay_the_retry() {
    let backend = backend("status=503;stall-after=200;body=\"a body that never ends\",ok").await;
    assert_eq!(client(&backend).build().unwrap().get("/hello").text().await.unwrap(), "Hello World!!!");
}

#[tokio::test]
async fn a_request_that_hangs_times_out_however_busy_its_http2_connection_is() {
    let backend = backend("hang,ok,ok,ok,ok,ok,ok,ok,ok,ok").await;
    let client = client(&backend).http2_prior_knowledge(true).policy(policy().count(0).build().unwrap());
    let client = client.build().unwrap();
    let others = async {
        while backend.received() == 0 {
            tokio::task::yield_now().await;
        }
        loop {
            // The tenth would hang like the first.
            if backend.received() % 10 != 0 {
                client.get("/hello").await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    };
    let hung = tokio::time::timeout(Duration::from_secs(20), client.get("/hello"));
    let error = tokio::select! { hung = hung => hung.unwrap().unwrap_err(), () = others => unreachable!("they go on") };
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

#[tokio::test]
async fn a_stalled_upload_is_not_a_stalled_server() {
    for http2 in [false, true] {
        let backend = backend("ok").await;
        let client = client(&backend).http2_prior_knowledge(http2).timeout(Duration::from_millis(100)).build().unwrap();
        let (sender, body) = http_body_util::channel::Channel::<bytes::Bytes, std::io::Error>::new(1);
        let upload = tokio::spawn(async move {
            let mut sender = sender;
            for part in ["slow", "ly"] {
                sender.send_data(part.into()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
        });
        let response = client.put("/echo").body(Body::new(body)).await.unwrap();
        assert_eq!(response.extensions().get::<Journal>().unwrap().attempts(), 1);
        assert!(response.into_body().text().await.unwrap().ends_with("slowly"));
        upload.await.unwrap();
    }
}

#[tokio::test]
async fn http2_refusals_are_retried_for_every_method() {
    for script in ["refused-stream,ok", "goaway,ok"] {
        let backend = backend(script).await;
        let client = client(&backend).http2_prior_knowledge(true).build().unwrap();
        let response = client.post("/echo").body("x").await.unwrap();
        assert_eq!(response.extensions().get::<Journal>().unwrap().attempts(), 2, "{script}");
    }
}

fn known_bytes(count: u64) -> Vec<u8> {
    (0..count).map(delayed_backend::known_byte).collect()
}

#[tokio::test]
async fn an_incomplete_body_is_resumed_and_no_byte_is_returned_twice() {
    for script in ["close-after=5000,ok", "reset-after=5000,stall-after=9000,close-after=700,ok", "truncate=10,ok"] {
        let backend = backend(script).await;
        let client = client(&backend).resume(true).build().unwrap();
        let body = client.get("/bytes/20000").await.unwrap().into_body();
        assert_eq!(body.bytes().await.unwrap(), known_bytes(20000), "{script}");

        let backend = self::backend(script).await;
        let body = self::client(&backend).build().unwrap().get("/bytes/20000").await.unwrap().into_body();
        assert!(body.bytes().await.is_err(), "off by default: {script}");
    }
}

#[tokio::test]
async fn an_observer_gets_each_resumed_body() {
    let backend = backend("close-after=5000,ok").await;
    let events = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&events);
    let client = client(&backend).resume(true).observer(move |event| {
        log.lock().unwrap().push(format!("{} {} {:?}", event.uri.path(), event.outcome, event.ended));
    });
    client.build().unwrap().get("/bytes/20000").await.unwrap().into_body().bytes().await.unwrap();
    let events = events.lock().unwrap();
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(events[0], "/bytes/20000 returned 200 OK Some(Accepted)");
    assert!(events[1].starts_with("/bytes/20000 was incomplete and is resumed: connection error: "), "{events:?}");
    assert!(events[1].ends_with(" None"), "{events:?}");
    assert_eq!(events[2], "/bytes/20000 returned 206 Partial Content Some(Accepted)");
}

/// Reads a body of which the server sends `abc` of `abcdef`, and then `response` to the next request.
async fn incomplete_then(response: &'static str) -> Result<bytes::Bytes, retry_client::Error> {
    watchdog::watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let first = "HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncontent-length: 6\r\n\r\nabc";
        for response in [first, response] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                tokio::io::AsyncReadExt::read_buf(&mut stream, &mut head).await.unwrap();
            }
            if response != first {
                let head = String::from_utf8(head).unwrap();
                assert!(head.contains("range: bytes=3-\r\n") && head.contains("if-range: \"v1\"\r\n"), "{head}");
            }
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    let client = Client::builder(format!("http://{address}")).policy(policy().build().unwrap()).resume(true);
    client.build().unwrap().get("/").await.unwrap().into_body().bytes().await
}

#[tokio::test]
async fn the_rest_is_requested_once_and_has_to_match() {
    let rest =
        "HTTP/1.1 206 Partial Content\r\netag: \"v1\"\r\ncontent-range: bytes 3-5/6\r\ncontent-length: 3\r\n\r\ndef";
    assert_eq!(incomplete_then(rest).await.unwrap(), "abcdef");
    let complete = "HTTP/1.1 200 OK\r\netag: \"v1\"\r\ncontent-length: 6\r\n\r\nabcdef";
    let error = incomplete_then(complete).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot resume the body at byte 3: the server returned 200 OK");
    let other =
        "HTTP/1.1 206 Partial Content\r\netag: \"v2\"\r\ncontent-range: bytes 3-5/6\r\ncontent-length: 3\r\n\r\nxyz";
    let error = incomplete_then(other).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot resume the body at byte 3: the ETag has changed");
}

#[tokio::test]
async fn the_layer_retries_any_http_service() {
    let backend = backend("status=503,reset,ok").await;
    let plain = legacy::Client::builder(TokioExecutor::new()).build_http();
    let config = RetryConfig::new(policy().build().unwrap()).status_codes([503]);
    let mut service = RetryLayer::new(config.clone()).unwrap().layer(plain.clone());
    let request = |method| {
        let request = Request::builder().method(method).uri(format!("{}/echo", backend.url()));
        request.body(Body::from("payload")).unwrap()
    };
    let response = service.ready().await.unwrap().call(request(Method::PUT)).await.unwrap();
    assert_eq!(response.extensions().get::<Journal>().unwrap().attempts(), 3);
    let echoed = response.into_body().collect().await.unwrap().to_bytes();
    assert!(echoed.ends_with(b"payload"), "{echoed:?}");

    assert_eq!(service.call(request(Method::POST)).await.unwrap().status(), 503, "a POST is not repeated");
    let error = service.call(request(Method::POST)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::ConnectionClosed, Some(Reason::Permanent)));

    let mut all = RetryLayer::new(config.retry_methods(RetryMethods::All)).unwrap().layer(plain);
    assert_eq!(all.call(request(Method::POST)).await.unwrap().status(), 200);
    assert!(RetryLayer::new(RetryConfig::default().status_codes([1000])).is_err());
}

#[tokio::test]
async fn the_client_is_a_service() {
    fn fits<T: Clone + Send + Sync + 'static>(client: T) -> T {
        client
    }
    let backend = backend("status=503,ok").await;
    let mut service = fits(client(&backend).build().unwrap());
    let request = || Request::put("/echo").body(Body::from("payload")).unwrap();
    assert_eq!(service.ready().await.unwrap().call(request()).await.unwrap().status(), 200);
    assert_eq!(service.clone().oneshot(request()).await.unwrap().status(), 200);
    let full = request().map(|_| http_body_util::Full::<bytes::Bytes>::from("payload"));
    assert_eq!(service.execute(full).await.unwrap().status(), 200);
}

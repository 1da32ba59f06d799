//! The settings of retries, with the scripted backend.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

#[path = "../../delayed-backend/tests/support/watchdog.rs"]
mod watchdog;

use std::{
    error::Error,
    iter::successors,
    sync::{Arc, Mutex},
    time::Duration,
};

use delayed_backend::Backend;
use http::{HeaderName, Request, StatusCode};
use retry_client::{
    Body, Client, ClientBuilder, EndReason, ErrorKind, History, Outcome, RetryBudget, RetryConfig, RetryPolicy,
    retry_core::{Jitter, RetryPolicyBuilder},
};
use tokio::{io::AsyncWriteExt, net::TcpListener, time::Instant};
use tower::{Service, ServiceExt};

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
    let history = response.extensions().get::<History>().unwrap();
    assert_eq!(history.iter().next().unwrap().wait, Some(Duration::from_secs(1)));
}

#[tokio::test]
async fn retry_after_may_be_a_date() {
    let backend = backend("status=503;retry-after-date=2s,ok").await;
    let response = client(&backend).build().unwrap().get("/hello").await.unwrap();
    let waited = response.extensions().get::<History>().unwrap().iter().next().unwrap().wait.unwrap();
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
        let event = format!("{} {} {} {:?}", event.method, event.attempt.number, event.attempt.outcome, event.ended);
        log.lock().unwrap().push(event);
    });
    client.build().unwrap().get("/hello").await.unwrap();
    let events = events.lock().unwrap();
    assert_eq!(events[0], "GET 1 returned 503 Service Unavailable None");
    assert!(events[1].starts_with("GET 2 failed: connection error: "), "{events:?}");
    assert_eq!(events[2], "GET 3 returned 200 OK Some(Accepted)");
}

#[tokio::test]
async fn every_response_carries_its_history() {
    let backend = backend("delay=20ms").await;
    let client = client(&backend).build().unwrap();
    let begin = Instant::now();
    let response = client.get("/hello").await.unwrap();
    let took = begin.elapsed();
    let history = response.extensions().get::<History>().unwrap();
    assert_eq!((history.attempts(), history.iter().count(), history.reason()), (1, 1, EndReason::Accepted));
    let attempt = history.last();
    assert_eq!((attempt.number, &attempt.outcome), (1, &Outcome::Response(StatusCode::OK)));
    assert!((Duration::from_millis(20)..=took).contains(&attempt.duration), "{attempt:?}");
    assert_eq!((attempt.start, attempt.parked, attempt.wait), (Duration::ZERO, Duration::ZERO, None));
    assert!(attempt.endpoint.is_none() && attempt.hedge.is_none(), "{attempt:?}");
}

#[tokio::test]
async fn a_history_has_the_last_16_attempts_and_counts_all() {
    let backend = backend("status=503").await;
    let policy = policy().count(17).interval(Duration::ZERO).build().unwrap();
    let response = client(&backend).policy(policy).build().unwrap().get("/hello").await.unwrap();
    let history = response.extensions().get::<History>().unwrap();
    let last_16: Vec<_> = (3..=18).collect();
    assert_eq!(history.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), last_16);
    assert_eq!((history.attempts(), history.last().number), (18, 18));
    let line = history.to_string();
    assert!(line.starts_with("2 earlier attempts; attempt 3 returned 503 Service Unavailable ("), "{line}");
}

#[tokio::test]
async fn a_history_has_what_each_attempt_led_to() {
    let backend = backend("status=503,reset,ok").await;
    let response = client(&backend).build().unwrap().get("/hello").await.unwrap();
    let history = response.extensions().get::<History>().unwrap();
    let [first, second, third] = Vec::from_iter(history.iter()).try_into().unwrap();
    assert_eq!(
        (&first.outcome, first.wait),
        (&Outcome::Response(StatusCode::SERVICE_UNAVAILABLE), Some(Duration::from_millis(1)))
    );
    let Outcome::Failed { kind, message } = &second.outcome else { panic!("{second:?}") };
    assert!(*kind == ErrorKind::ConnectionClosed && message.starts_with("connection error: "), "{second:?}");
    assert_eq!((&third.outcome, third.wait), (&Outcome::Response(StatusCode::OK), None));
    for (attempt, next) in [(first, second), (second, third)] {
        assert!(next.start >= attempt.start + attempt.duration + attempt.wait.unwrap(), "{history:?}");
    }
    let line = history.to_string();
    assert!(line.starts_with("attempt 1 returned 503 Service Unavailable ("), "{line}");
    assert!(line.contains("s); waited 1ms; attempt 2 failed: connection error: "), "{line}");
    assert!(line.ends_with("s)"), "it was accepted: {line}");
}

#[tokio::test]
async fn the_history_says_why_there_was_no_further_attempt() {
    let check = async |script, post, end: &str, reason| {
        let backend = backend(script).await;
        let policy = policy().count(1).deadline(Duration::from_millis(400)).build().unwrap();
        let client = client(&backend).policy(policy).timeout(Duration::from_secs(9)).build().unwrap();
        let outcome = if post { client.post("/echo").body("x").await } else { client.get("/hello").await };
        let history = match &outcome {
            Ok(response) => response.extensions().get::<History>().unwrap(),
            Err(error) => error.history().unwrap(),
        };
        let line = history.to_string();
        assert!(line.ends_with(end) && history.reason() == reason, "{script}: {line}");
    };
    check("status=503", false, "s); no retries left", EndReason::Exhausted).await;
    check("status=503", true, "s); not safe to repeat", EndReason::NotSafeToRepeat).await;
    check("reset", true, "s); not safe to repeat", EndReason::NotSafeToRepeat).await;
    check("hang", false, "s)", EndReason::Deadline).await;
}

#[tokio::test]
async fn an_error_is_one_line_with_its_cause_and_repeats_nothing() {
    let backend = backend("close").await;
    let error = client(&backend).build().unwrap().post("/echo").body("x").await.unwrap_err();
    let cause = error.root_cause().to_string();
    let chain: Vec<_> =
        successors(Some(&error as &dyn Error), |&error| error.source()).map(ToString::to_string).collect();
    assert_eq!(chain.join(": ").matches(&*cause).count(), 1, "{chain:?}");
    assert_eq!(error.history().unwrap().attempts(), 1);
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
async fn calls_in_backoff_are_those_of_the_client_and_its_siblings() {
    let backend = backend("status=503").await;
    let config = RetryConfig::new(policy().interval(Duration::from_secs(3600)).build().unwrap()).status_codes([503]);
    let build = || Client::builder(backend.url()).retry_config(config.clone()).build().unwrap();
    let (client, other) = (build(), build());
    let sibling = client.with_own_pool();
    let call = tokio::spawn(async move { client.get("/hello").await.map(drop) });
    while sibling.calls_in_backoff() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((sibling.calls_in_backoff(), other.calls_in_backoff()), (1, 0));
    call.abort();
}

#[tokio::test]
async fn the_deadline_aborts_an_attempt() {
    let backend = backend("hang").await;
    let deadline = policy().deadline(Duration::from_millis(200)).build().unwrap();
    let error = client(&backend).policy(deadline).no_timeout().build().unwrap().get("/hello").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Timeout, Some(EndReason::Deadline)));
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
        assert_eq!(response.extensions().get::<History>().unwrap().attempts(), 1);
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
        assert_eq!(response.extensions().get::<History>().unwrap().attempts(), 2, "{script}");
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
        log.lock().unwrap().push(format!("{} {} {:?}", event.uri.path(), event.attempt.outcome, event.ended));
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

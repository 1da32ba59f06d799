//! What client and server tell each other about retries in headers: hints of the server, and the time that is left.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

mod common;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use common::{Reply, Server, quick, raw_server};
use http::HeaderName;
use retry_client::{CallOptions, Client, ClientBuilder, RetryBudget, RetryPolicy, ServerHint, retry_core::TokenCosts};
use tokio::time::Instant;

const ENVOY: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const GRPC: HeaderName = HeaderName::from_static("grpc-timeout");

/// Sends a GET to a server that first responds with `first`, and then with 200. Returns the status and the number of
/// requests.
async fn get_after(
    first: &'static str,
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> (u16, usize, Duration) {
    let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let (address, requests, _server) = raw_server(vec![first.as_bytes(), ok]).await;
    let client = Client::builder(format!("http://{address}")).policy(quick(3)).status_codes([503]);
    let begin = Instant::now();
    let response = configure(client).build().unwrap().get("/").await.unwrap();
    (response.status().as_u16(), requests.load(SeqCst), begin.elapsed())
}

#[tokio::test]
async fn a_server_may_forbid_or_demand_a_retry_if_the_client_heeds_it() {
    const FORBIDDEN: &str = "HTTP/1.1 503 Busy\r\nx-should-retry: false\r\ncontent-length: 0\r\n\r\n";
    const DEMANDED: &str = "HTTP/1.1 409 Conflict\r\nx-should-retry: true\r\ncontent-length: 0\r\n\r\n";
    const SUCCESS: &str = "HTTP/1.1 201 Created\r\nx-should-retry: true\r\ncontent-length: 0\r\n\r\n";
    const PUSHED_BACK: &str = "HTTP/1.1 503 Busy\r\ngrpc-retry-pushback-ms: -1\r\ncontent-length: 0\r\n\r\n";
    let check = async |first, hints: &[ServerHint], expected| {
        let (status, requests, _) = get_after(first, |client| client.server_hints(hints.iter().copied())).await;
        assert_eq!((status, requests), expected, "{first} {hints:?}");
    };
    let should_retry = [ServerHint::ShouldRetry];
    check(FORBIDDEN, &should_retry, (503, 1)).await;
    check(FORBIDDEN, &[ServerHint::RetryAfter], (200, 2)).await;
    check(DEMANDED, &should_retry, (200, 2)).await;
    check(DEMANDED, &[ServerHint::RetryAfter], (409, 1)).await;
    check(SUCCESS, &should_retry, (201, 1)).await;
    check(PUSHED_BACK, &[ServerHint::GrpcRetryPushback], (503, 1)).await;
    check(PUSHED_BACK, &should_retry, (200, 2)).await;
}

#[tokio::test]
async fn a_wait_in_milliseconds_replaces_the_policys() {
    const AFTER: &str = "HTTP/1.1 503 Busy\r\nretry-after: 3600\r\nretry-after-ms: 150\r\ncontent-length: 0\r\n\r\n";
    let (status, requests, took) =
        get_after(AFTER, |client| client.server_hints([ServerHint::RetryAfterMs, ServerHint::RetryAfter])).await;
    assert_eq!((status, requests), (200, 2));
    assert!(took >= Duration::from_millis(150), "{took:?}");
    let (status, requests, _) = get_after(AFTER, |client| client).await;
    assert_eq!((status, requests), (503, 1), "by default, only Retry-After counts, which is too long");
    let (status, requests, _) = get_after(AFTER, |client| client.server_hints([])).await;
    assert_eq!((status, requests), (200, 2), "without hints, the policy waits");
}

#[tokio::test]
async fn a_429_waits_for_longer_and_costs_less() {
    const THROTTLED: &str = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n";
    let interval = Duration::from_millis(150);
    let policy = RetryPolicy::BALLERINA.to_builder().interval(Duration::ZERO).throttled_interval(interval);
    let budget = RetryBudget::tokens(500, TokenCosts { retry: 100, timeout: 100, throttled: 5 });
    let (status, requests, took) = get_after(THROTTLED, |client| {
        client.status_codes([429]).policy(policy.build().unwrap()).budget(budget.clone())
    })
    .await;
    assert_eq!((status, requests), (200, 2));
    assert!(took >= interval, "{took:?}");
    assert_eq!(budget.available(), 500.0, "the cost of 5 is returned");
}

/// Returns the values of a header that two attempts carry.
async fn sent(name: &HeaderName, configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> [Option<String>; 2] {
    let server = Server::start([Reply::Status(503, "busy"), Reply::Ok("ok")]).await;
    let client = configure(server.client()).status_codes([503]).deadline_header(name.clone()).build().unwrap();
    let request = client.get("/").header(name, "as the caller set it");
    assert_eq!(request.await.unwrap().status(), 200);
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    [0, 1].map(|attempt| seen[attempt].headers.get(name).map(|value| value.to_str().unwrap().to_owned()))
}

#[tokio::test]
async fn each_attempt_carries_what_is_left_of_the_deadline() {
    let policy = RetryPolicy::BALLERINA.to_builder().interval(Duration::from_millis(50));
    let policy = policy.deadline(Duration::from_secs(60)).build().unwrap();
    let [first, second]: [u64; 2] =
        sent(&ENVOY, |client| client.policy(policy)).await.map(|value| value.unwrap().parse().unwrap());
    assert!(first <= 60_000 && second <= first - 50 && second > 0, "{first} {second}");
    let [first, second] = sent(&GRPC, |client| client.policy(policy)).await.map(Option::unwrap);
    assert!(first.ends_with('u') && second < first && second.len() == first.len(), "{first} {second}");
}

#[tokio::test]
async fn an_attempt_timeout_that_is_shorter_is_what_is_left() {
    let policy = quick(3).to_builder().deadline(Duration::from_secs(60)).build().unwrap();
    let limited = |client: ClientBuilder| client.attempt_timeout(Duration::from_millis(2500));
    let check = |values, expected: [&str; 2]| assert_eq!(values, expected.map(|value| Some(value.to_owned())));
    check(sent(&ENVOY, |client| limited(client).policy(policy)).await, ["2500"; 2]);
    check(sent(&GRPC, |client| limited(client).policy(policy)).await, ["2500000u"; 2]);
    check(sent(&HeaderName::from_static("request-timeout"), limited).await, ["3"; 2]);
    check(sent(&ENVOY, |client| client).await, ["as the caller set it"; 2]);
}

#[tokio::test]
async fn a_deadline_of_one_call_travels_too() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().deadline_header(ENVOY).build().unwrap();
    client.get("/").options(CallOptions::new().deadline(Duration::from_secs(60))).await.unwrap();
    client.get("/").await.unwrap();
    let seen = server.seen();
    let left: u64 = seen[0].headers[&ENVOY].to_str().unwrap().parse().unwrap();
    assert!((1..=60_000).contains(&left), "{left}");
    assert!(!seen[1].headers.contains_key(&ENVOY));
}

#[tokio::test]
async fn a_shorter_deadline_of_the_caller_is_kept() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().attempt_timeout(Duration::from_secs(3)).deadline_header(GRPC).build().unwrap();
    for (own, sent) in [("1S", "1S"), ("1H", "3000000u"), ("soon", "3000000u")] {
        client.get("/").header(GRPC, own).await.unwrap();
        assert_eq!(server.seen().pop().unwrap().headers[GRPC], sent);
    }
}

//! What client and server tell each other about retries in headers: hints of the server, and the time that is left.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the test's message"
)]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{LIMIT, Reply, Server, quick, raw_server};
use http::HeaderName;
use retry_client::{
    CallOptions, Client, ClientBuilder, EndReason, EndpointState, HedgeAfter, History, RetryBudget, RetryPolicy,
    ServerHint, retry_core::TokenCosts,
};
use tokio::time::{Instant, timeout};

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
async fn the_end_reason_says_that_the_server_asked_for_no_retry() {
    const FORBIDDEN: &[u8] = b"HTTP/1.1 503 Busy\r\nx-should-retry: false\r\ncontent-length: 0\r\n\r\n";
    const UNLISTED: &[u8] = b"HTTP/1.1 500 Oops\r\nx-should-retry: false\r\ncontent-length: 0\r\n\r\n";
    const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
    // Only a success pays for later retries.
    for (response, reason, available) in
        [(FORBIDDEN, EndReason::RetryForbidden, 5.0), (UNLISTED, EndReason::Accepted, 10.0)]
    {
        let (address, _, _server) = raw_server(vec![BUSY, response]).await;
        let budget = RetryBudget::tokens(10, 5);
        let client = Client::builder(format!("http://{address}")).policy(quick(3)).status_codes([503]);
        let client = client.server_hints([ServerHint::ShouldRetry]).budget(budget.clone()).build().unwrap();
        let response = client.get("/").await.unwrap();
        let history = response.extensions().get::<History>().unwrap();
        assert_eq!((history.attempts(), history.reason(), budget.available()), (2, reason, available));
    }
}

/// What a server says with a response that counts as a failure.
const DEMANDED: &[u8] = b"HTTP/1.1 500 Oops\r\nx-should-retry: true\r\ncontent-length: 0\r\n\r\n";
const FORBIDDEN: &[u8] = b"HTTP/1.1 503 Busy\r\nx-should-retry: false\r\ncontent-length: 0\r\n\r\n";
const PUSHED_BACK: &[u8] = b"HTTP/1.1 503 Busy\r\ngrpc-retry-pushback-ms: -1\r\ncontent-length: 0\r\n\r\n";

/// Starts a server that always sends `response`, and one that responds with 200 after `delay`. Returns a client of both, with
/// the former first.
async fn beside(
    response: &'static [u8],
    delay: Duration,
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> (Client, Arc<AtomicUsize>, impl Sized) {
    let (address, requests, failing) = raw_server(vec![response]).await;
    let other = Server::start([Reply::Late(delay, "ok")]).await;
    let client = Client::builder(format!("http://{address}")).endpoint(format!("http://{}", other.address));
    let client = client.policy(quick(1)).status_codes([503]);
    let client = client.server_hints([ServerHint::ShouldRetry, ServerHint::GrpcRetryPushback]);
    (configure(client).build().unwrap(), requests, (failing, other))
}

#[tokio::test]
async fn an_endpoint_fails_whatever_the_server_says_about_the_retry() {
    for response in [DEMANDED, FORBIDDEN, PUSHED_BACK] {
        let (client, _, _servers) = beside(response, Duration::ZERO, |client| client.eject_after(3)).await;
        let ejected = async {
            while client.endpoints()[0].state != EndpointState::Ejected {
                let status = client.get("/").await.unwrap().status();
                assert!(status == 200 || response != DEMANDED, "a retry goes elsewhere: {status}");
            }
        };
        let response = String::from_utf8_lossy(response);
        timeout(LIMIT, ejected).await.unwrap_or_else(|_| panic!("not ejected: {response}"));
    }
}

#[tokio::test]
async fn an_endpoint_does_not_fail_with_an_unlisted_status_with_which_the_server_forbids_the_retry() {
    const UNLISTED: &[u8] = b"HTTP/1.1 500 Oops\r\nx-should-retry: false\r\ncontent-length: 0\r\n\r\n";
    let (client, requests, _servers) = beside(UNLISTED, Duration::ZERO, |client| client.eject_after(3)).await;
    let many = async {
        while requests.load(SeqCst) < 10 {
            client.get("/").await.unwrap();
        }
    };
    timeout(LIMIT, many).await.unwrap();
    assert_eq!((client.endpoints()[0].state, client.endpoints()[0].failures), (EndpointState::Up, 0));
}

#[tokio::test]
async fn a_response_that_counts_as_a_failure_wins_no_race() {
    const DELAY: Duration = Duration::from_millis(20);
    for response in [DEMANDED, FORBIDDEN, PUSHED_BACK] {
        let (client, _, _servers) = beside(response, 10 * DELAY, |client| {
            client.policy(quick(0)).eject_after(1000).hedge_after(HedgeAfter::Time(DELAY))
        })
        .await;
        let hedged = async {
            loop {
                let response = client.get("/").await.unwrap();
                let hedge = response.extensions().get::<History>().unwrap().last().hedge;
                if let Some(hedge) = hedge {
                    return (response.status().as_u16(), hedge.won);
                }
            }
        };
        let response = String::from_utf8_lossy(response);
        assert_eq!(timeout(LIMIT, hedged).await.unwrap(), (200, false), "{response}");
    }
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
    let check = |values: [Option<String>; 2], longest| {
        let left = values.map(|value| value.unwrap().trim_end_matches('u').parse::<u64>().unwrap());
        assert!(left.iter().all(|left| (1..=longest).contains(left)), "{left:?}");
    };
    check(sent(&ENVOY, |client| limited(client).policy(policy)).await, 2500);
    check(sent(&GRPC, |client| limited(client).policy(policy)).await, 2_500_000);
    check(sent(&HeaderName::from_static("request-timeout"), limited).await, 3);
    assert_eq!(sent(&ENVOY, |client| client).await, ["as the caller set it"; 2].map(|value| Some(value.to_owned())));
}

#[tokio::test]
async fn the_time_until_there_is_a_connection_is_not_left() {
    let server = Server::start([Reply::Late(Duration::from_millis(200), "first"), Reply::Ok("second")]).await;
    let client = server.client().pool_max_connections(1).attempt_timeout(Duration::from_secs(20));
    let client = client.deadline_header(ENVOY).build().unwrap();
    let (first, second) = tokio::join!(client.get("/").text(), client.get("/").text());
    assert_eq!((first.unwrap(), second.unwrap()), ("first".to_owned(), "second".to_owned()));
    let left: u64 = server.seen()[1].headers[&ENVOY].to_str().unwrap().parse().unwrap();
    assert!(left <= 20_000 - 150, "{left}");
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
    for (own, is_kept) in [("1S", true), ("1H", false), ("soon", false)] {
        client.get("/").header(GRPC, own).await.unwrap();
        let sent = server.seen().pop().unwrap().headers[GRPC].clone();
        assert_eq!((sent == own, sent.as_bytes().ends_with(b"u")), (is_kept, !is_kept), "{sent:?}");
    }
}

//! Requests that are sent to a second endpoint because the first is slow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the message"
)]

mod common;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use common::{Reply, Server, quick};
use http::{Method, Request};
use http_body_util::{BodyExt, Full, channel::Channel};
use retry_client::{
    Body, Client, ClientBuilder, EndpointState, Error, ErrorKind, Hedge, HedgeAfter, History, RetryBudget,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

const DELAY: Duration = Duration::from_millis(100);
/// The timeout of a server that does not reply.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Servers, and the second requests that a client has sent to them.
struct Cluster {
    servers: Vec<Server>,
    hedges: Arc<Mutex<Vec<Hedge>>>,
}

impl Cluster {
    /// Starts a server for each reply.
    async fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut servers = Vec::new();
        for reply in replies {
            servers.push(Server::start([reply]).await);
        }
        Self { servers, hedges: Arc::default() }
    }

    /// Returns a builder for a client of all servers, without retries.
    fn client(&self) -> ClientBuilder {
        let [first, more @ ..] = &*self.servers else { panic!("no server") };
        let hedges = Arc::clone(&self.hedges);
        let client =
            first.client().policy(quick(0)).timeout(TIMEOUT).eject_after(1000).hedge_after(HedgeAfter::Time(DELAY));
        let client = client.observer(move |event| hedges.lock().unwrap().extend(event.attempt.hedge));
        more.iter().fold(client, |client, server| client.endpoint(format!("http://{}", server.address)))
    }

    fn hedges(&self) -> Vec<Hedge> {
        self.hedges.lock().unwrap().clone()
    }

    /// Returns how many requests each server has received.
    fn received(&self) -> Vec<usize> {
        self.servers.iter().map(|server| server.seen().len()).collect()
    }
}

#[tokio::test]
async fn the_first_response_counts_and_the_slow_request_is_canceled() {
    for http2 in [false, true] {
        overtake(http2).await;
    }
}

async fn overtake(http2: bool) {
    let cluster = Cluster::start([Reply::Hang, Reply::Ok("fast")]).await;
    let client = cluster.client().http2_prior_knowledge(http2).build().unwrap();
    for _ in 0..30 {
        let response = client.get("/").await.unwrap();
        let history = response.extensions().get::<History>().unwrap();
        let is_hedged = history.to_string().ends_with(", hedged after 100ms: won");
        assert_eq!(history.last().hedge.is_some(), is_hedged, "{history}");
        assert_eq!(response.into_body().text().await.unwrap(), "fast");
    }
    let hedges = cluster.hedges();
    assert_eq!(cluster.received(), [hedges.len(), 30], "each slow request was sent once more");
    assert!(hedges.iter().all(|hedge| hedge.won && hedge.after == DELAY), "{hedges:?}");
    assert!(!hedges.is_empty(), "the slow server gets half of the requests");
    for endpoint in client.endpoints() {
        assert_eq!((endpoint.in_flight, endpoint.failures), (0, 0), "{endpoint:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_not_repeatable_or_whose_body_is_incomplete_is_sent_once() {
    let cluster = Cluster::start([Reply::Late(4 * DELAY, ""), Reply::Late(4 * DELAY, "")]).await;
    let client = cluster.client().build().unwrap();
    client.post("/").body("x").await.unwrap();
    let grpc = Request::put("/").header("content-type", "application/grpc").body(Body::from("x")).unwrap();
    client.execute(grpc).await.unwrap();
    let (mut sender, body) = Channel::<Bytes, Error>::new(1);
    let upload = tokio::spawn({
        let client = client.clone();
        async move { client.put("/").body(Body::new(body)).await.map(drop) }
    });
    sleep(4 * DELAY).await;
    sender.send_data(Bytes::from("end")).await.unwrap();
    drop(sender);
    upload.await.unwrap().unwrap();
    assert_eq!(cluster.received().iter().sum::<usize>(), 3);

    // These are sent twice.
    let post = Request::post("/").header("idempotency-key", "1").body(Body::from("key")).unwrap();
    client.execute(post).await.unwrap();
    client.put("/").body(Body::new(Full::from("stream").boxed())).await.unwrap();
    assert_eq!(cluster.received().iter().sum::<usize>(), 7);
    for body in ["key", "stream"] {
        for server in &cluster.servers {
            assert!(server.seen().iter().any(|seen| seen.body == body), "{body}");
        }
    }
}

#[tokio::test]
async fn the_budget_limits_second_requests() {
    let cluster = Cluster::start([Reply::Late(4 * DELAY, ""), Reply::Late(4 * DELAY, "")]).await;
    let budget = RetryBudget::tokens(13, 5);
    let client = cluster.client().budget(budget.clone()).build().unwrap();
    for (hedges, available) in [(1, 9.0), (2, 5.0), (3, 1.0), (3, 2.0)] {
        client.get("/").await.unwrap();
        // A call that is successful without a retry returns one.
        assert_eq!((cluster.hedges().len(), budget.available()), (hedges, available));
    }
}

#[tokio::test]
async fn if_both_fail_the_retry_goes_to_a_third_endpoint() {
    let cluster = Cluster::start([Reply::Hang, Reply::Hang, Reply::Ok("")]).await;
    let client = cluster.client().policy(quick(1)).build().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let client = client.clone();
        calls.spawn(async move { client.get("/").await.map(drop) });
    }
    while let Some(result) = calls.join_next().await {
        result.unwrap().unwrap();
    }
    assert!(cluster.hedges().iter().any(|hedge| !hedge.won), "some had two that hang");
    let limited = cluster.client().policy(quick(1)).attempt_timeout(3 * DELAY).build().unwrap();
    for _ in 0..10 {
        limited.get("/").await.expect("a timeout of the attempt ends both requests");
    }
}

#[tokio::test]
async fn both_requests_are_over_when_the_retry_of_a_timeout_is_decided() {
    let cluster = Cluster::start([Reply::Hang, Reply::Hang]).await;
    // For a retry, the budget needs the unit that the second request has.
    let client = cluster.client().policy(quick(1)).budget(RetryBudget::in_flight(0.0, 1).unwrap());
    let client = client.hedge_after(HedgeAfter::Time(Duration::from_millis(20)));
    let client = client.attempt_timeout(Duration::from_millis(150)).build().unwrap();
    let error = client.get("/").await.unwrap_err();
    let history = error.history().unwrap();
    assert_eq!((history.attempts(), cluster.hedges().len()), (2, 1), "{history}");
}

#[tokio::test]
async fn an_endpoint_that_never_responds_is_ejected_although_no_request_waits_for_it() {
    let cluster = Cluster::start([Reply::Hang, Reply::Ok(""), Reply::Ok("")]).await;
    let client = cluster.client().timeout(Duration::from_secs(60)).eject_after(5).build().unwrap();
    let ejected = async {
        while client.endpoints()[0].state != EndpointState::Ejected {
            client.get("/").await.unwrap();
        }
    };
    timeout(Duration::from_secs(20), ejected).await.expect("the ejection");
    assert_eq!((client.endpoints()[0].failures, client.endpoints()[0].ejections), (0, 1));
}

#[tokio::test]
async fn an_ejected_endpoint_that_is_slow_comes_back() {
    let slow = Server::start([Reply::Status(503, ""), Reply::Late(4 * DELAY, "")]).await;
    let cluster = Cluster { servers: vec![slow, Server::start([Reply::Ok("")]).await], hedges: Arc::default() };
    let client = cluster.client().policy(quick(3)).status_codes([503]).eject_after(1).build().unwrap();
    for state in [EndpointState::Ejected, EndpointState::Up] {
        let reached = async {
            while client.endpoints()[0].state != state {
                client.get("/").await.unwrap();
            }
        };
        timeout(Duration::from_secs(20), reached).await.unwrap_or_else(|_| panic!("{state:?}"));
    }
}

#[tokio::test]
async fn a_quantile_hedges_what_is_slow_once_enough_is_known() {
    let hangs = Arc::new(AtomicBool::new(false));
    let cluster = Cluster::start([Reply::HangOnce(Arc::clone(&hangs)), Reply::HangOnce(Arc::clone(&hangs))]).await;
    let client = cluster.client().hedge_after(HedgeAfter::Quantile(0.95)).build().unwrap();
    hangs.store(true, SeqCst);
    assert_eq!(client.get("/").await.unwrap_err().kind(), ErrorKind::Timeout, "nothing is known yet");
    // The threads of a server know what the others have measured.
    let clients = [client.with_own_pool(), client.with_own_pool()];
    for _ in 0..100 {
        for client in &clients {
            client.get("/").await.unwrap();
        }
    }
    for client in [client, clients[0].clone(), clients[1].clone()] {
        hangs.store(true, SeqCst);
        client.get("/").await.unwrap();
    }
    assert!(cluster.hedges().iter().filter(|hedge| hedge.won).count() >= 3);
}

/// What a call has done.
#[derive(Debug)]
struct Observed {
    status: Option<u16>,
    hedges: Vec<Hedge>,
    received: Vec<usize>,
    charged: f64,
}

async fn observe(method: Method, has_key: bool, replies: Vec<Reply>) -> Observed {
    let cluster = Cluster::start(replies).await;
    let budget = RetryBudget::tokens(1000, 100);
    let client = cluster.client().status_codes([503]).budget(budget.clone()).build().unwrap();
    let mut request = Request::builder().method(method).uri("/");
    if has_key {
        request = request.header("idempotency-key", "1");
    }
    let response = client.execute(request.body(Body::empty()).unwrap()).await;
    let status = response.ok().map(|response| response.status().as_u16());
    let (hedges, received, charged) = (cluster.hedges(), cluster.received(), 1000.0 - budget.available());
    Observed { status, hedges, received, charged }
}

#[tokio::test]
async fn whatever_the_servers_do_there_is_at_most_one_hedge_and_it_never_makes_things_worse() {
    let kinds = [Reply::Ok(""), Reply::Late(3 * DELAY, ""), Reply::Hang, Reply::Status(503, "")];
    let mut replies: Vec<Vec<Reply>> = kinds.iter().map(|reply| vec![reply.clone()]).collect();
    for first in &kinds {
        for second in &kinds {
            replies.push(vec![first.clone(), second.clone()]);
            replies.push(vec![first.clone(), second.clone(), second.clone()]);
        }
    }
    let mut calls = JoinSet::new();
    for replies in replies {
        for (method, has_key) in
            [(Method::GET, false), (Method::PUT, false), (Method::POST, false), (Method::POST, true)]
        {
            let replies = replies.clone();
            calls.spawn(async move {
                let may_be_hedged = replies.len() > 1 && (method != Method::POST || has_key);
                let case = format!("{method} {has_key} {replies:?}");
                (case, may_be_hedged, replies.clone(), observe(method, has_key, replies).await)
            });
        }
    }
    while let Some(result) = calls.join_next().await {
        let (case, may_be_hedged, replies, observed) = result.unwrap();
        let Observed { status, hedges, received, charged } = &observed;
        let case = format!("{case}: {observed:?}");
        assert!(hedges.len() <= usize::from(may_be_hedged), "{case}");
        assert!(received.iter().sum::<usize>() <= 1 + hedges.len(), "{case}");
        assert!(received.iter().all(|received| *received <= 1), "{case}");
        let refund = if hedges.is_empty() || *status != Some(200) { 0.0 } else { 1.0 };
        assert_eq!(*charged, 100.0 * hedges.len() as f64 - refund, "{case}");
        let is_slow = |reply: &Reply| matches!(reply, Reply::Late(..) | Reply::Hang);
        if may_be_hedged && replies.iter().all(is_slow) {
            assert_eq!(hedges.len(), 1, "{case}");
        }
        // With a slow one and a good one, or with good ones only, there is always a response.
        let is_bad = |reply: &Reply| matches!(reply, Reply::Status(..));
        let is_good = |reply: &Reply| matches!(reply, Reply::Ok(_) | Reply::Late(..));
        if may_be_hedged && !replies.iter().any(is_bad) && replies[1..].iter().all(is_good) {
            assert_eq!(*status, Some(200), "{case}");
        }
    }
}

#[test]
fn an_invalid_setting_is_named() {
    let check = |after, expected: &str| {
        let error = Client::builder("http://a").hedge_after(after).build().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(HedgeAfter::Time(Duration::ZERO), "hedge_after is 0: expected a time above zero");
    for share in [0.0, 1.0, -0.5, 95.0, f64::NAN] {
        check(HedgeAfter::Quantile(share), &format!("hedge_after is {share}: expected a number between 0 and 1"));
    }
}

//! Several endpoints: which one a request gets, as seen by the servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the test's message"
)]

mod common;
#[path = "common/https.rs"]
mod https;

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use common::{Address, LIMIT, Reply, Server, quick, raw_server, read_head, until, watch};
use http::{StatusCode, Version};
use http_body_util::{BodyExt, Full};
use retry_client::{Body, Client, ClientBuilder, EndpointState, ErrorKind, History, RetryPolicy, retry_core::Jitter};
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn builder(addresses: &[SocketAddr]) -> ClientBuilder {
    let (first, more) = addresses.split_first().unwrap();
    let client = Client::builder(url(*first)).policy(quick(3)).timeout(LIMIT);
    more.iter().fold(client, |client, address| client.endpoint(url(*address)))
}

/// Retries whose waits would be too long for a test.
fn slow() -> RetryPolicy {
    let policy = RetryPolicy::builder().count(1).interval(2 * LIMIT).jitter(Jitter::None);
    policy.max_retry_after(4 * LIMIT).build().unwrap()
}

async fn ok() -> Server {
    Server::start([Reply::Ok("ok")]).await
}

fn state(client: &Client, endpoint: usize) -> EndpointState {
    client.endpoints()[endpoint].state
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("an end")
}

#[tokio::test]
async fn requests_are_distributed_by_load() {
    let servers = [Server::start([Reply::Hang]).await, Server::start([Reply::Hang]).await];
    let client = builder(&servers.each_ref().map(|server| server.address)).build().unwrap();
    let mut calls = JoinSet::new();
    for number in 1..=30 {
        let client = client.clone();
        calls.spawn(async move { client.get("/").text().await });
        until("the request arrives", || servers.iter().map(|server| server.seen().len()).sum::<usize>() == number)
            .await;
    }
    assert_eq!(servers.each_ref().map(|server| server.seen().len()), [15, 15]);
    assert_eq!(Vec::from_iter(client.endpoints().iter().map(|endpoint| endpoint.in_flight)), [15, 15]);
    calls.shutdown().await;
    assert_eq!(Vec::from_iter(client.endpoints().iter().map(|endpoint| endpoint.in_flight)), [0, 0]);
}

/// Starts a server that fails each request in one way.
async fn failing(how: &str) -> (SocketAddr, Box<dyn std::any::Any>) {
    let raw = match how {
        "closes" => "",
        "truncates" => "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok",
        "503" => "HTTP/1.1 503 Down\r\ncontent-length: 0\r\nretry-after: 60\r\n\r\n",
        "not HTTP" => "SSH-2.0-OpenSSH_9\r\n",
        "refuses" => {
            let address = Address::new();
            return (address.get(), Box::new(address));
        }
        "hangs" => {
            let server = Server::start([Reply::Hang]).await;
            return (server.address, Box::new(server));
        }
        "does not accept" => {
            // With its queue full, further connections wait.
            let (address, mut connected) = (Address::new(), JoinSet::new());
            let listener = common::bind(address.get()).unwrap().listen(0).unwrap();
            for _ in 0..4 {
                connected.spawn(tokio::net::TcpStream::connect(address.get()));
            }
            sleep(Duration::from_millis(50)).await;
            return (address.get(), Box::new((address, listener, connected)));
        }
        _ => panic!("{how}"),
    };
    let (address, _, tasks) = raw_server(vec![raw.as_bytes()]).await;
    (address, Box::new(tasks))
}

#[tokio::test]
async fn a_retry_goes_elsewhere_without_a_wait() {
    for (how, state_after) in [
        ("closes", EndpointState::Ejected),
        ("truncates", EndpointState::Ejected),
        ("503", EndpointState::Ejected),
        ("not HTTP", EndpointState::Ejected),
        ("hangs", EndpointState::Ejected),
        ("does not accept", EndpointState::Ejected),
        ("refuses", EndpointState::Unreachable),
    ] {
        for parks in [false, true] {
            let (good, (bad, _server)) = (ok().await, failing(how).await);
            let client = builder(&[bad, good.address]).policy(slow()).status_codes([503]);
            let client = if how == "hangs" || how == "does not accept" {
                client.attempt_timeout(Duration::from_millis(200))
            } else {
                client
            };
            let client = if parks { client.outage_wait(LIMIT) } else { client };
            let client = client.build().unwrap();
            let calls = async {
                while state(&client, 0) == EndpointState::Up {
                    assert_eq!(client.get("/").text().await.unwrap(), "ok", "{how}");
                }
            };
            in_time(calls).await;
            let endpoints = client.endpoints();
            assert_eq!((endpoints[0].state, endpoints[1].state), (state_after, EndpointState::Up), "{how}");
            let (ejections, failures) = if how == "refuses" { (0, 0) } else { (1, 5) };
            assert_eq!((endpoints[0].ejections, endpoints[0].failures), (ejections, failures), "{how}");
            assert_eq!(endpoints[1].failures, 0, "{how}");
        }
    }
}

/// `Retry-After` is about the endpoint that sent it, and the status need not be a failure of the server.
#[tokio::test]
async fn retry_after_applies_to_its_endpoint_only() {
    let busy = (0..100).map(|_| "HTTP/1.1 429 Busy\r\ncontent-length: 0\r\nretry-after: 3600\r\n\r\n".as_bytes());
    let (good, (bad, connections, _tasks)) = (ok().await, raw_server(busy.collect()).await);
    let client = builder(&[bad, good.address]).policy(slow()).status_codes([429]).build().unwrap();
    in_time(async {
        while connections.load(SeqCst) < 10 {
            assert_eq!(client.get("/").text().await.unwrap(), "ok");
        }
    })
    .await;
    assert_eq!((state(&client, 0), client.endpoints()[0].failures), (EndpointState::Up, 0));
}

#[tokio::test]
async fn an_endpoint_that_does_not_accept_is_noticed_by_impatient_callers() {
    let (good, (bad, _server)) = (ok().await, failing("does not accept").await);
    let client = builder(&[bad, good.address]).connect_timeout(Duration::from_millis(500)).outage_wait(LIMIT);
    let client = client.build().unwrap();
    let calls = async {
        while state(&client, 0) == EndpointState::Up {
            let _ = timeout(Duration::from_millis(50), client.get("/").text()).await;
        }
    };
    in_time(calls).await;
    assert_eq!(state(&client, 0), EndpointState::Unreachable);
}

#[tokio::test]
async fn an_incomplete_response_does_not_bring_an_endpoint_back() {
    let (good, (bad, _server)) = (ok().await, failing("truncates").await);
    let client = builder(&[bad, good.address]).build().unwrap();
    let calls = async {
        while client.endpoints()[0].probes < 3 {
            assert_eq!(client.get("/").text().await.unwrap(), "ok");
        }
    };
    in_time(calls).await;
    let endpoint = &client.endpoints()[0];
    assert_eq!((endpoint.state, endpoint.ejections), (EndpointState::Ejected, 1));
}

#[tokio::test]
async fn a_connect_timeout_makes_an_endpoint_unreachable() {
    let (good, (bad, _server)) = (ok().await, failing("does not accept").await);
    let client = builder(&[bad, good.address]).policy(slow()).connect_timeout(Duration::from_millis(100));
    let client = client.build().unwrap();
    let calls = async {
        while state(&client, 0) == EndpointState::Up {
            client.post("/").body("x").await.unwrap();
        }
    };
    in_time(calls).await;
    assert_eq!(state(&client, 0), EndpointState::Unreachable);
}

/// Nothing of it was sent, so it goes elsewhere within the same attempt, whatever its method.
#[tokio::test]
async fn an_endpoint_that_refuses_connections_costs_no_retry_and_is_avoided() {
    for http2 in [false, true] {
        let (good, away) = (ok().await, Address::new());
        let client = builder(&[away.get(), good.address]).policy(quick(0)).http2_prior_knowledge(http2);
        let client = client.build().unwrap();
        for _ in 0..50 {
            let response = client.post("/").body(Body::new(Full::from("stream").boxed())).await.unwrap();
            assert_eq!(response.extensions().get::<History>().unwrap().attempts(), 1);
        }
        assert_eq!(state(&client, 0), EndpointState::Unreachable);
        assert!(good.seen().iter().all(|seen| seen.body == "stream") && good.seen().len() == 50);
        let back = away.serve([Reply::Ok("ok")]);
        until("a probe connects", || state(&client, 0) == EndpointState::Up).await;
        let used = async {
            while back.seen().is_empty() {
                client.post("/").body("x").await.unwrap();
            }
        };
        in_time(used).await;
    }
}

#[tokio::test]
async fn a_post_is_never_doubled() {
    let (bad, connections, _tasks) = raw_server(vec![b""]).await;
    let good = ok().await;
    let client = builder(&[bad, good.address]).eject_after(1000).build().unwrap();
    let mut failed = 0;
    for _ in 0..100 {
        match client.post("/").body(Body::new(Full::from("stream").boxed())).await {
            Ok(response) => assert_eq!(response.status(), 200),
            Err(error) => {
                assert_eq!((error.kind(), error.history().unwrap().attempts()), (ErrorKind::ConnectionClosed, 1));
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "it gets a share");
    assert_eq!((connections.load(SeqCst), good.seen().len()), (failed, 100 - failed));
}

#[tokio::test]
async fn an_ejected_endpoint_is_probed_by_one_request_and_comes_back() {
    let good = ok().await;
    let bad = Server::start((0..7).map(|_| Reply::Status(503, "")).chain([Reply::Ok("ok")])).await;
    let client = builder(&[bad.address, good.address]).policy(slow()).status_codes([503]).build().unwrap();
    let call = async || assert_eq!(client.get("/").await.unwrap().into_body().text().await.unwrap(), "ok");
    in_time(async {
        while state(&client, 0) == EndpointState::Up {
            call().await;
        }
    })
    .await;
    assert_eq!((client.endpoints()[0].ejections, bad.seen().len()), (1, 5));
    in_time(async {
        while state(&client, 0) == EndpointState::Ejected {
            call().await;
            assert!(bad.seen().len() as u64 <= 5 + client.endpoints()[0].probes);
        }
    })
    .await;
    // Two probes fail.
    assert_eq!((client.endpoints()[0].probes, bad.seen().len(), state(&client, 0)), (3, 8, EndpointState::Up));
    in_time(async {
        while bad.seen().len() < 20 {
            call().await;
        }
    })
    .await;
    assert_eq!(client.endpoints()[0].ejections, 1);
}

#[tokio::test]
async fn no_more_than_a_share_is_ejected_and_what_is_ejected_is_better_than_nothing() {
    for (max_ejected, expected) in [(0.5, 1), (0.0, 0), (1.0, 3)] {
        let mut servers = Vec::new();
        for _ in 0..3 {
            servers.push(Server::start([Reply::Status(503, "down")]).await);
        }
        let addresses = Vec::from_iter(servers.iter().map(|server| server.address));
        let client = builder(&addresses).policy(quick(0)).status_codes([503]).max_ejected(max_ejected);
        let client = client.outage_wait(LIMIT).build().unwrap();
        for _ in 0..100 {
            let response = in_time(client.get("/").send()).await.unwrap();
            assert_eq!(response.status(), 503);
            assert_eq!(response.into_body().text().await.unwrap(), "down");
            let ejected = client.endpoints().iter().filter(|endpoint| endpoint.state == EndpointState::Ejected).count();
            assert!(ejected <= expected, "{ejected}");
        }
        let ejected = client.endpoints().iter().filter(|endpoint| endpoint.state == EndpointState::Ejected).count();
        assert_eq!((ejected, servers.iter().map(|server| server.seen().len()).sum::<usize>()), (expected, 100));
    }
}

#[tokio::test]
async fn a_status_that_is_not_retried_does_not_count() {
    for status in [500, 503, 429] {
        let (good, bad) = (ok().await, Server::start([Reply::Status(status, "")]).await);
        let client = builder(&[bad.address, good.address]).policy(quick(0)).status_codes([502, 429]).build().unwrap();
        for _ in 0..40 {
            let status = client.get("/").await.unwrap().status();
            assert!(status == StatusCode::OK || client.endpoints()[0].failures == 0, "{status}");
        }
        assert_eq!((state(&client, 0), client.endpoints()[0].ejections), (EndpointState::Up, 0), "{status}");
    }
}

#[tokio::test]
async fn each_endpoint_gets_its_own_host_and_credentials() {
    for (http2, version) in [(false, Version::HTTP_11), (true, Version::HTTP_2)] {
        let servers = [Server::start([Reply::Status(503, "")]).await, Server::start([Reply::Status(503, "")]).await];
        let [first, second] = servers.each_ref().map(|server| server.address);
        let client = Client::builder(format!("http://me:hush@{first}/base"))
            .endpoint(format!("http://you:secret@localhost:{}/base/", second.port()))
            .http2_prior_knowledge(http2)
            .policy(quick(1))
            .status_codes([503])
            .build()
            .unwrap();
        assert_eq!(client.get("/x?y").await.unwrap().status(), 503);
        let expected = [
            (first.to_string(), "Basic bWU6aHVzaA=="),
            (format!("localhost:{}", second.port()), "Basic eW91OnNlY3JldA=="),
        ];
        for (server, (host, authorization)) in servers.iter().zip(expected) {
            let [seen] = &server.seen()[..] else { panic!("each gets one attempt") };
            let header = seen.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
            assert_eq!(if http2 { &seen.authority } else { &header }, &Some(host));
            assert_eq!((&*seen.target, seen.version), ("/base/x?y", version));
            assert_eq!(seen.headers["authorization"], authorization);
        }
        let names = Vec::from_iter(client.endpoints().into_iter().map(|endpoint| endpoint.name));
        assert_eq!(names, [first.to_string(), format!("localhost:{}", second.port())]);
    }
}

#[tokio::test]
async fn the_schemes_may_differ() {
    let authority = https::Authority::new();
    // A certificate for the name of the URL only.
    let https = https::Https::start(authority.acceptor("localhost", https::BOTH, None), 0).await;
    let (http, port) = (ok().await, https.server.address.port());
    let client = Client::builder(url(http.address)).endpoint(format!("https://localhost:{port}"));
    let client = client.ca_file(authority.file()).policy(quick(0)).build().unwrap();
    in_time(async {
        while http.seen().is_empty() || https.server.seen().is_empty() {
            assert_eq!(client.get("/").text().await.unwrap(), "ok");
        }
    })
    .await;
    let (http, https) = (&http.seen()[0], &https.server.seen()[0]);
    assert_eq!((http.version, https.version), (Version::HTTP_11, Version::HTTP_2));
    assert_eq!(https.authority, Some(format!("localhost:{port}")));
    assert_eq!((&*http.target, &*https.target), ("/", "/"));
}

/// A client that connects over TLS sees an endpoint as away until a handshake succeeds.
#[tokio::test]
async fn an_endpoint_whose_handshakes_fail_is_probed_by_one_connect_at_a_time() {
    use std::sync::atomic::AtomicUsize;

    watch();
    let authority = https::Authority::new();
    let acceptor = authority.acceptor("127.0.0.1", https::BOTH, None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let [open, most, ready] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&open), Arc::clone(&most), Arc::clone(&ready));
    let server = Server::start_on(listener, [Reply::Ok("ok")], move |_, stream| {
        let ((open, most, ready), acceptor) = (counts.clone(), acceptor.clone());
        async move {
            most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
            if ready.load(SeqCst) == 0 {
                sleep(Duration::from_millis(20)).await;
                open.fetch_sub(1, SeqCst);
                return None;
            }
            acceptor.accept(stream).await.ok()
        }
    });
    let client = Client::builder(format!("https://{address}")).ca_file(authority.file()).outage_wait(LIMIT);
    let client = client.policy(quick(0)).build().unwrap();
    let mut calls = JoinSet::new();
    for wave in 0..2 {
        for _ in 0..50 {
            let client = client.clone();
            calls.spawn(async move { client.post("/").body("x").await });
        }
        until("the calls wait", || client.calls_parked() == 50 * (wave + 1) && open.load(SeqCst) == 0).await;
        if wave == 0 {
            // Until the first handshake has failed, the endpoint is thought to be up.
            most.store(0, SeqCst);
        }
    }
    until("there are more probes", || client.endpoints()[0].probes > 4).await;
    assert_eq!(most.load(SeqCst), 1);
    ready.store(1, SeqCst);
    while let Some(response) = in_time(calls.join_next()).await {
        assert_eq!(response.unwrap().unwrap().status(), 200);
    }
    assert_eq!(server.seen().len(), 100);
}

#[test]
fn the_paths_of_all_urls_have_to_be_the_same() {
    let error = Client::builder("http://a/base").endpoint("http://b/base/").endpoint("http://me:hush@c/other").build();
    let expected = "base URL 'http://***@c/other': expected the path '/base/' of the first URL";
    assert_eq!(error.unwrap_err().to_string(), expected);
    let error = Client::builder("http://a").endpoint("b:80").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadInput);
    for invalid in [f64::NAN, -0.1, 1.1] {
        let error = Client::builder("http://a").max_ejected(invalid).build().unwrap_err();
        assert_eq!(error.to_string(), format!("max_ejected is {invalid}: expected a number from 0 to 1"));
    }
    let error = Client::builder("http://a").eject_after(0).build().unwrap_err();
    assert_eq!(error.to_string(), "eject_after is 0: expected at least 1");
}

/// All requests wait if all endpoints are away, and are released by the first that comes back.
#[tokio::test]
async fn requests_wait_for_the_first_endpoint_that_comes_back() {
    let addresses = [Address::new(), Address::new(), Address::new()];
    let client = builder(&addresses.each_ref().map(Address::get)).outage_wait(LIMIT).policy(quick(0)).build().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        calls.spawn(async move { client.post("/").body("x").await });
    }
    until("the calls wait", || client.calls_parked() == 50).await;
    assert!(client.endpoints().iter().all(|endpoint| endpoint.state == EndpointState::Unreachable));
    let server = addresses[1].serve([Reply::Ok("ok")]);
    while let Some(response) = in_time(calls.join_next()).await {
        assert_eq!(response.unwrap().unwrap().status(), 200);
    }
    assert_eq!(server.seen().len(), 50);
}

/// Limits and settings at their extremes.
#[tokio::test]
async fn durations_may_be_as_long_as_they_like() {
    let (server, away) = (ok().await, Address::new());
    let client = builder(&[away.get(), server.address]).policy(quick(0));
    let client = client.outage_wait(Duration::MAX).slow_start(Duration::MAX).pool_max_connection_age(Duration::MAX);
    let client = client.dns_refresh(Duration::MAX).build().unwrap();
    for _ in 0..20 {
        client.get("/").await.unwrap();
    }
    let _back = away.serve([Reply::Ok("ok")]);
    until("a probe connects", || state(&client, 0) == EndpointState::Up).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").text().await.unwrap(), "ok");
    }
}

/// One after the other is drained and away for a moment.
#[tokio::test]
async fn no_request_fails_in_a_rolling_restart() {
    let addresses = [Address::new(), Address::new(), Address::new()];
    let client = builder(&addresses.each_ref().map(Address::get)).policy(quick(1)).build().unwrap();
    let mut servers: Vec<_> = addresses.iter().map(|address| Some(address.serve([Reply::Ok("ok")]))).collect();
    let restarts = async {
        for index in [0, 1, 2, 0, 1, 2] {
            servers[index].take().unwrap().stop().await;
            until("the client notices", || state(&client, index) == EndpointState::Unreachable).await;
            servers[index] = Some(addresses[index].serve([Reply::Ok("ok")]));
            until("the client notices", || state(&client, index) == EndpointState::Up).await;
        }
    };
    let calls = async {
        loop {
            let mut calls = JoinSet::new();
            for _ in 0..4 {
                let client = client.clone();
                calls.spawn(async move { client.put("/").body(Body::new(Full::from("stream").boxed())).await });
            }
            while let Some(response) = calls.join_next().await {
                assert_eq!(response.unwrap().unwrap().status(), 200);
            }
        }
    };
    in_time(async {
        tokio::select! {
            () = restarts => {}
            () = calls => {}
        }
    })
    .await;
}

/// The response in flight keeps its slot of the slow start until it was read.
#[tokio::test]
async fn an_endpoint_that_comes_back_gets_its_share_step_by_step() {
    let (gate, back, good) = (Arc::new(Semaphore::new(0)), Address::new(), ok().await);
    let client = builder(&[back.get(), good.address]).policy(quick(0)).outage_wait(LIMIT).slow_start(4 * LIMIT);
    let client = client.build().unwrap();
    in_time(async {
        while state(&client, 0) == EndpointState::Up {
            client.get("/").await.unwrap();
        }
    })
    .await;
    let (listener, waiting) = (back.listen(), Arc::clone(&gate));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let gate = Arc::clone(&waiting);
            serving.spawn(async move {
                read_head(&mut stream).await;
                gate.acquire().await.unwrap().forget();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
            });
        }
    });
    until("a probe connects", || state(&client, 0) == EndpointState::Up).await;
    let mut calls = JoinSet::new();
    for _ in 0..400 {
        let client = client.clone();
        calls.spawn(async move { client.get("/").text().await });
    }
    // Its share is 10 %, and it hangs.
    until("all others have responses", || good.seen().len() + client.endpoints()[0].in_flight >= 400).await;
    assert!(client.endpoints()[0].in_flight <= 10, "{:?}", client.endpoints());
    gate.add_permits(1000);
    while let Some(text) = in_time(calls.join_next()).await {
        assert_eq!(text.unwrap().unwrap(), "ok");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_behind_by_outages_and_by_calls_that_are_canceled() {
    nothing_is_left_behind(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_behind_over_http2() {
    nothing_is_left_behind(true).await;
}

/// Servers come and go, and callers leave, at random.
async fn nothing_is_left_behind(http2: bool) {
    let addresses: [_; 3] = std::array::from_fn(|_| Arc::new(Address::new()));
    let client = builder(&addresses.each_ref().map(|address| address.get())).slow_start(Duration::from_millis(20));
    let client = client.status_codes([503]).outage_wait(LIMIT).pool_max_connections(20).http2_prior_knowledge(http2);
    let client = client.build().unwrap();
    let clients = [client.with_own_pool(), client.with_own_pool(), client.clone()];
    let mut servers = JoinSet::new();
    for address in &addresses {
        let address = Arc::clone(address);
        servers.spawn(async move {
            for _ in 0..20 {
                let script = [Reply::Ok("ok"), Reply::Status(503, ""), Reply::Ok("ok"), Reply::Hang];
                let server = address.serve((0..50).map(|_| script[fastrand::usize(..script.len())].clone()));
                sleep(Duration::from_millis(fastrand::u64(..60))).await;
                server.stop().await;
                sleep(Duration::from_millis(fastrand::u64(..60))).await;
            }
        });
    }
    let mut calls = JoinSet::new();
    while !servers.is_empty() {
        for client in &clients {
            let client = client.clone();
            calls.spawn(timeout(Duration::from_millis(fastrand::u64(..100)), async move {
                match fastrand::u8(..3) {
                    0 => drop(client.get("/").await),
                    1 => drop(client.get("/").text().await),
                    _ => drop(client.post("/").body(Body::new(Full::from("stream").boxed())).await),
                }
            }));
        }
        sleep(Duration::from_millis(1)).await;
        while servers.try_join_next().is_some() {}
    }
    in_time(calls.join_all()).await;
    let endpoints = || client.endpoints();
    until("no request waits", || client.calls_parked() == 0).await;
    until("no request is in flight", || endpoints().iter().all(|endpoint| endpoint.in_flight == 0)).await;
    let servers = addresses.each_ref().map(|address| address.serve([Reply::Ok("ok")]));
    until("all can be reached", || endpoints().iter().all(|up| up.state != EndpointState::Unreachable)).await;
    let mut calls = JoinSet::new();
    for number in 0..300 {
        let client = clients[number % 3].clone();
        calls.spawn(async move { client.get("/").text().await });
    }
    while let Some(text) = in_time(calls.join_next()).await {
        assert_eq!(text.unwrap().unwrap(), "ok");
    }
    in_time(async {
        while endpoints().iter().any(|endpoint| endpoint.state != EndpointState::Up) {
            client.get("/").text().await.unwrap();
        }
    })
    .await;
    assert!(servers.iter().all(|server| !server.seen().is_empty()));
}

#[tokio::test]
async fn a_response_that_fails_and_ends_early_is_one_failure() {
    let (bad, _, _server) = raw_server(vec![b"HTTP/1.1 503 Down\r\ncontent-length: 9\r\n\r\nok"]).await;
    let client = builder(&[bad]).policy(quick(0)).status_codes([503]).outage_wait(LIMIT).build().unwrap();
    for number in 1..=3 {
        let _ = in_time(client.get("/").text()).await;
        assert_eq!(client.endpoints()[0].failures, number);
    }
}

#[tokio::test]
async fn a_retry_elsewhere_does_not_wait_for_a_machine_that_is_gone() {
    let (good, address) = (ok().await, Address::new());
    let listener = common::bind(address.get()).unwrap().listen(0).unwrap();
    let client = builder(&[address.get(), good.address]).policy(slow()).connect_timeout(2 * LIMIT);
    let client = client.outage_wait(LIMIT).build().unwrap();
    let call = || {
        let client = client.clone();
        tokio::spawn(async move { client.get("/").text().await })
    };
    let mut calls = Vec::new();
    let accept = async {
        loop {
            calls.push(call());
            if let Ok(accepted) = timeout(Duration::from_millis(100), listener.accept()).await {
                break accepted.unwrap().0;
            }
        }
    };
    let mut connection = in_time(accept).await;
    read_head(&mut connection).await;
    // From now on, connects are not accepted.
    let mut filled = JoinSet::new();
    for _ in 0..4 {
        filled.spawn(tokio::net::TcpStream::connect(address.get()));
    }
    sleep(Duration::from_millis(50)).await;
    drop(connection);
    for call in calls {
        assert_eq!(in_time(call).await.unwrap().unwrap(), "ok");
    }
}

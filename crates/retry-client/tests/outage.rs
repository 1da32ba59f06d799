//! What a call notices while its only endpoint is away.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed expectation is the test's message"
)]

mod common;

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use common::{Address, LIMIT, Reply, quick, raw_server, read_head, until};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, channel::Channel};
use retry_client::{
    Body, Client, ClientBuilder, EndReason, EndpointState, Error, ErrorKind, History, ResponseBody, RetryBudget,
    RetryPolicy, retry_core::Jitter,
};
use tokio::{
    io::AsyncWriteExt,
    runtime::Runtime,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep, timeout},
};

type Call = JoinHandle<Result<Response<ResponseBody>, Error>>;

fn spawn(client: &Client, request: Request<Body>) -> Call {
    let client = client.clone();
    tokio::spawn(async move { client.execute(request).await })
}

/// Sends a request and reads the response.
fn text(client: &Client, request: Request<Body>) -> JoinHandle<String> {
    let client = client.clone();
    tokio::spawn(async move { client.execute(request).await.unwrap().into_body().text().await.unwrap() })
}

fn request(method: Method, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder().method(method).uri(path).body(body.into()).unwrap()
}

fn streamed() -> Body {
    Body::new(Full::from("stream").boxed())
}

async fn result(call: Call) -> Result<Response<ResponseBody>, Error> {
    timeout(LIMIT, call).await.expect("the call ends").unwrap()
}

fn attempts(response: &Response<ResponseBody>) -> u32 {
    response.extensions().get::<History>().unwrap().attempts()
}

fn state(client: &Client) -> EndpointState {
    client.endpoints()[0].state
}

/// A budget without retries.
fn no_retries() -> RetryBudget {
    RetryBudget::tokens(1, 10)
}

fn waiting(address: &Address) -> ClientBuilder {
    address.client().outage_wait(LIMIT)
}

#[tokio::test]
async fn requests_wait_for_the_endpoint_and_are_sent_in_the_order_in_which_they_came() {
    let address = Address::new();
    // A single connection, so that the server sees the order.
    let client = waiting(&address).pool_max_connections(1).budget(no_retries()).policy(quick(0)).build().unwrap();
    let mut calls = Vec::new();
    for number in 0..40 {
        let path = format!("/{number}");
        let request = match number % 5 {
            0 => request(Method::GET, &path, Body::empty()),
            1 => request(Method::POST, &path, "bytes"),
            2 => request(Method::PUT, &path, streamed()),
            3 => request(Method::POST, &path, streamed()),
            _ => {
                let mut request = request(Method::POST, &path, "expected");
                request.headers_mut().insert("expect", "100-continue".parse().unwrap());
                request
            }
        };
        calls.push(spawn(&client, request));
        until("the call waits", || client.calls_parked() == calls.len()).await;
    }
    assert_eq!(state(&client), EndpointState::Unreachable);
    let server = address.serve([Reply::Ok("ok")]);
    for call in calls {
        let response = result(call).await.unwrap();
        assert_eq!(attempts(&response), 1, "the wait is not an attempt");
        assert_eq!(response.into_body().text().await.unwrap(), "ok");
    }
    let seen = server.seen();
    let order: Vec<_> = seen.iter().map(|seen| seen.target.clone()).collect();
    assert_eq!(order, Vec::from_iter((0..40).map(|number| format!("/{number}"))));
    for (number, seen) in seen.iter().enumerate() {
        assert_eq!(seen.body, ["", "bytes", "stream", "stream", "expected"][number % 5]);
    }
    assert_eq!((state(&client), client.calls_parked()), (EndpointState::Up, 0));
}

#[tokio::test]
async fn over_http2_and_without_idle_connections_too() {
    for (http2, max_idle) in [(true, 64), (true, 0), (false, 0)] {
        let address = Address::new();
        let client = waiting(&address).http2_prior_knowledge(http2).pool_max_idle(max_idle).build().unwrap();
        let calls = Vec::from_iter((0..40).map(|_| spawn(&client, request(Method::POST, "/", streamed()))));
        until("the calls wait", || client.calls_parked() == 40).await;
        let server = address.serve([Reply::Ok("ok")]);
        for call in calls {
            let response = result(call).await.unwrap();
            assert_eq!(response.into_body().text().await.unwrap(), "ok", "{http2} {max_idle}");
        }
        assert_eq!(server.seen().len(), 40);
    }
}

#[tokio::test]
async fn a_call_that_has_waited_for_too_long_fails_with_the_reason() {
    let address = Address::new();
    let why = format!("no endpoint is up: cannot connect to {}: Connection refused (os error 111)", address.get());
    let short = Duration::from_millis(50);
    let deadline = RetryPolicy::builder().deadline(short).build().unwrap();
    for (client, reason) in [
        (address.client().outage_wait(short), EndReason::Outage),
        (waiting(&address).policy(deadline), EndReason::Deadline),
        // The deadline of all attempts comes first.
        (waiting(&address).attempt_timeout(short).policy(deadline), EndReason::Deadline),
    ] {
        let client = client.build().unwrap();
        for _ in 0..2 {
            let call = spawn(&client, request(Method::POST, "/", streamed()));
            let error = result(call).await.unwrap_err();
            assert_eq!((error.kind(), error.message()), (ErrorKind::Outage, &*why));
            assert_eq!((error.reason(), error.history().unwrap().attempts()), (Some(reason), 1));
        }
        assert_eq!(client.calls_parked(), 0);
    }
}

#[tokio::test]
async fn without_outage_wait_each_attempt_tries_to_connect() {
    let address = Address::new();
    let client = address.client().build().unwrap();
    let error = result(spawn(&client, request(Method::POST, "/", "x"))).await.unwrap_err();
    assert_eq!((error.kind(), error.history().unwrap().attempts()), (ErrorKind::Connect, 4));
    assert_eq!(state(&client), EndpointState::Up, "there is no other");
    let _server = address.serve([Reply::Ok("ok")]);
    assert_eq!(client.get("/").text().await.unwrap(), "ok");
}

#[tokio::test]
async fn the_time_for_which_a_call_is_parked_does_not_count_towards_the_attempt_timeout() {
    let address = Address::new();
    let client = waiting(&address).attempt_timeout(Duration::from_secs(1)).policy(quick(0)).build().unwrap();
    let call = spawn(&client, request(Method::GET, "/", Body::empty()));
    until("the call waits", || client.calls_parked() == 1).await;
    sleep(Duration::from_millis(1200)).await;
    assert!(!call.is_finished());
    let _server = address.serve([Reply::Ok("ok")]);
    assert_eq!(attempts(&result(call).await.unwrap()), 1);
}

#[tokio::test]
async fn a_call_that_is_dropped_leaves_the_queue() {
    let address = Address::new();
    let client = waiting(&address).build().unwrap();
    let mut calls = Vec::new();
    for number in 0..5 {
        calls.push(spawn(&client, request(Method::POST, &format!("/{number}"), streamed())));
        until("the call waits", || client.calls_parked() == calls.len()).await;
    }
    for left in [4, 2, 0] {
        calls.remove(left).abort();
    }
    until("the queue is shorter", || client.calls_parked() == 2).await;
    let server = address.serve([Reply::Ok("ok")]);
    for call in calls {
        result(call).await.unwrap();
    }
    let mut targets: Vec<_> = server.seen().into_iter().map(|seen| seen.target).collect();
    targets.sort();
    assert_eq!(targets, ["/1", "/3"]);
}

/// Returns how many probes there may be in this time: they wait for at least 25, 50, 100, 200, 400 and then 500 ms.
fn most_probes(time: Duration) -> u64 {
    let mut ends = [25, 50, 100, 200, 400].into_iter().chain(std::iter::repeat(500)).scan(0, |end, wait| {
        *end += wait;
        Some(*end)
    });
    ends.position(|end| end > time.as_millis()).unwrap() as u64
}

#[tokio::test]
async fn the_load_on_an_endpoint_that_is_away_does_not_depend_on_the_number_of_callers() {
    let address = Address::new();
    let client = waiting(&address).build().unwrap();
    let begin = Instant::now();
    let _calls = Vec::from_iter((0..100).map(|_| spawn(&client, request(Method::GET, "/", Body::empty()))));
    until("the calls wait", || client.calls_parked() == 100).await;
    until("there are several probes", || client.endpoints()[0].probes >= 4).await;
    let (probes, most) = (client.endpoints()[0].probes, most_probes(begin.elapsed()));
    assert!(probes <= most, "{probes} of {most}");
    assert_eq!(client.endpoints()[0].in_flight, 0);
}

#[tokio::test]
async fn requests_that_were_cut_off_are_sent_again_without_charge() {
    for http2 in [false, true] {
        let address = Address::new();
        let server = address.serve([Reply::Hang]);
        let budget = no_retries();
        // The policy's wait would be too long.
        let policy = RetryPolicy::builder().count(1).interval(2 * LIMIT).jitter(Jitter::None).build().unwrap();
        let client = waiting(&address).http2_prior_knowledge(http2).policy(policy).budget(budget.clone());
        let client = client.build().unwrap();
        let safe = Vec::from_iter((0..20).map(|number| {
            let method = if number % 2 == 0 { Method::GET } else { Method::PUT };
            spawn(&client, request(method, "/", streamed()))
        }));
        let post = spawn(&client, request(Method::POST, "/post", "x"));
        until("all requests arrive", || server.seen().len() == 21).await;
        server.stop().await;
        let error = result(post).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.reason()),
            (ErrorKind::ConnectionClosed, Some(EndReason::NotSafeToRepeat)),
            "{http2}"
        );
        until("the calls wait", || client.calls_parked() == 20).await;
        let server = address.serve([Reply::Ok("ok")]);
        for call in safe {
            assert_eq!(attempts(&result(call).await.unwrap()), 2, "{http2}");
        }
        assert!(!server.seen().iter().any(|seen| seen.method == Method::POST), "it may have been processed");
        assert_eq!(budget.available(), RetryBudget::tokens(1, 10).available());
    }
}

/// Sends half a response to each connection until it is told to close them.
#[tokio::test]
async fn a_response_that_was_cut_off_is_requested_again_without_charge() {
    let address = Address::new();
    let (listener, asked) = (address.listen(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut serving = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").await.unwrap();
            serving.push(stream);
            count.fetch_add(1, SeqCst);
        }
    });
    let client = waiting(&address).budget(no_retries()).build().unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.get("/").text().await }
    });
    until("the request arrives", || asked.load(SeqCst) == 1).await;
    server.shutdown().await;
    until("the call waits", || client.calls_parked() == 1).await;
    let _server = address.serve([Reply::Ok("ok")]);
    assert_eq!(timeout(LIMIT, call).await.unwrap().unwrap().unwrap(), "ok");
}

#[tokio::test]
async fn a_retry_is_charged_if_the_server_is_still_there() {
    let (address, connections, _tasks) = raw_server(vec![b""]).await;
    let client = Client::builder(format!("http://{address}")).policy(quick(3)).outage_wait(LIMIT).budget(no_retries());
    let client = client.build().unwrap();
    let error = result(spawn(&client, request(Method::GET, "/", Body::empty()))).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::ConnectionClosed, Some(EndReason::Budget)));
    assert_eq!((error.history().unwrap().attempts(), client.calls_parked()), (1, 0));
    assert!(connections.load(SeqCst) <= 2, "the request, and a check");
    assert_eq!(state(&client), EndpointState::Up);
}

/// A server that responds to a request when there is a permit for it, and counts the requests.
fn gated(address: &Address, gate: &Arc<Semaphore>) -> (Arc<AtomicUsize>, JoinSet<()>) {
    let (listener, asked, mut tasks) = (address.listen(), Arc::new(AtomicUsize::new(0)), JoinSet::new());
    let (gate, count) = (Arc::clone(gate), Arc::clone(&asked));
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
            serving.spawn(async move {
                loop {
                    let mut head = [0];
                    if stream.peek(&mut head).await.is_ok_and(|read| read == 0) {
                        return;
                    }
                    read_head(&mut stream).await;
                    count.fetch_add(1, SeqCst);
                    gate.acquire().await.unwrap().forget();
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (asked, tasks)
}

#[tokio::test]
async fn what_has_waited_does_not_fall_on_the_endpoint_at_once() {
    let (address, gate) = (Address::new(), Arc::new(Semaphore::new(0)));
    let client = waiting(&address).slow_start(LIMIT).build().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..60 {
        let client = client.clone();
        calls.spawn(async move { client.get("/").text().await });
    }
    until("the calls wait", || client.calls_parked() == 60).await;
    let (asked, _tasks) = gated(&address, &gate);
    // Ten at first. For each response, one takes its place, and one more is sent.
    for (responses, expected) in [(0, 10), (5, 20), (15, 50)] {
        gate.add_permits(responses);
        until("the requests arrive", || asked.load(SeqCst) >= expected).await;
        sleep(Duration::from_millis(100)).await;
        assert_eq!(asked.load(SeqCst), expected, "after {responses} more responses");
    }
    gate.add_permits(1000);
    while let Some(text) = timeout(LIMIT, calls.join_next()).await.unwrap() {
        assert_eq!(text.unwrap().unwrap(), "ok");
    }
}

/// An incomplete upload needs a permit, of which there is one here. A call that is parked does not keep it from those that
/// are sent before.
#[tokio::test]
async fn an_upload_that_was_cut_off_does_not_block_those_that_have_waited_longer() {
    let address = Address::new();
    let client = waiting(&address).pool_max_connections(2).request_buffer_time(Duration::from_millis(1));
    let client = client.connect_timeout(2 * LIMIT).slow_start(2 * LIMIT).build().unwrap();
    let mut senders = Vec::new();
    let mut upload = || {
        let (sender, body) = Channel::<Bytes, Infallible>::new(1);
        senders.push(sender);
        text(&client, request(Method::PUT, "/", Body::new(body)))
    };
    let listener = address.listen();
    let mut calls = vec![upload()];
    let (stream, _) = listener.accept().await.unwrap();
    drop(listener);
    calls.push(text(&client, request(Method::GET, "/", Body::empty())));
    until("the call waits", || client.calls_parked() == 1).await;
    calls.extend((0..20).map(|_| upload()));
    until("the uploads wait", || client.calls_parked() == 21).await;
    drop(stream);
    until("the first upload waits too", || client.calls_parked() == 22).await;
    let _server = address.serve([Reply::Ok("ok")]);
    until("some are sent", || client.calls_parked() <= 20).await;
    // An upload that ends within the buffer time needs no permit.
    sleep(Duration::from_millis(100)).await;
    senders.clear();
    for call in calls {
        assert_eq!(timeout(LIMIT, call).await.expect("the call ends").unwrap(), "ok");
    }
}

/// Each of the clients has a runtime, as in a server with several threads.
#[test]
fn the_clients_of_several_runtimes_share_the_outage() {
    let [servers, first, second] = [(); 3].map(|()| Runtime::new().unwrap());
    let address = servers.block_on(async { Address::new() });
    let client = waiting(&address).build().unwrap();
    let other = client.with_own_pool();
    let in_first = first.spawn({
        let client = client.clone();
        async move { client.execute(request(Method::GET, "/", Body::empty())).await }
    });
    servers.block_on(until("the first call waits", || client.calls_parked() == 1));
    let in_second = second.spawn({
        let other = other.clone();
        async move { other.execute(request(Method::POST, "/", streamed())).await }
    });
    servers.block_on(until("both calls wait", || other.calls_parked() == 2));
    // The task that probes the endpoint was started here.
    drop(first);
    assert!(servers.block_on(in_first).unwrap_err().is_cancelled());
    let _server = servers.block_on(async { address.serve([Reply::Ok("ok")]) });
    servers.block_on(result(in_second)).unwrap();
    assert_eq!((client.calls_parked(), state(&client)), (0, EndpointState::Up));
}

#[test]
fn a_client_continues_in_another_runtime() {
    let [servers, first, second] = [(); 3].map(|()| Runtime::new().unwrap());
    let address = servers.block_on(async { Address::new() });
    let client = waiting(&address).build().unwrap();
    first.block_on(async {
        let _call = spawn(&client, request(Method::GET, "/", Body::empty()));
        until("the call waits", || client.calls_parked() == 1).await;
    });
    drop(first);
    assert_eq!((client.calls_parked(), state(&client)), (0, EndpointState::Unreachable));
    let _server = servers.block_on(async { address.serve([Reply::Ok("ok")]) });
    let call = async { timeout(LIMIT, client.get("/").text()).await.expect("a probe") };
    assert_eq!(second.block_on(call).unwrap(), "ok");
}

#[tokio::test]
async fn a_client_that_is_dropped_leaves_the_others_waiting_for_the_endpoint() {
    let address = Address::new();
    let client = waiting(&address).build().unwrap();
    let other = client.with_own_pool();
    let first = spawn(&client, request(Method::GET, "/", Body::empty()));
    until("the first call waits", || client.calls_parked() == 1).await;
    let second = spawn(&other, request(Method::GET, "/", Body::empty()));
    until("both calls wait", || client.calls_parked() == 2).await;
    first.abort();
    drop((first, client));
    until("one call waits", || other.calls_parked() == 1).await;
    let _server = address.serve([Reply::Ok("ok")]);
    result(second).await.unwrap();
}

#[tokio::test]
async fn a_switch_of_protocols_waits_too_and_is_not_in_flight_afterwards() {
    let address = Address::new();
    let client = waiting(&address).build().unwrap();
    let mut upgrade = request(Method::GET, "/", Body::empty());
    upgrade.headers_mut().insert("upgrade", "echo".parse().unwrap());
    upgrade.headers_mut().insert("connection", "upgrade".parse().unwrap());
    let call = spawn(&client, upgrade);
    until("the call waits", || client.calls_parked() == 1).await;
    let listener = address.listen();
    let _server = tokio::spawn(async move {
        let mut streams = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            streams.push(tokio::spawn(async move {
                read_head(&mut stream).await;
                let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n";
                let _ = stream.write_all(head.as_bytes()).await;
                sleep(2 * LIMIT).await;
            }));
        }
    });
    let response = result(call).await.unwrap();
    assert_eq!(response.status(), 101);
    drop(response);
    until("it is no longer in flight", || client.endpoints()[0].in_flight == 0).await;
}

#[tokio::test]
async fn no_request_fails_while_its_server_is_restarted() {
    let address = Address::new();
    let client = waiting(&address).budget(no_retries()).build().unwrap();
    let processed = Arc::new(Mutex::new(0));
    let restarts = async {
        for _ in 0..20 {
            let server = address.serve([Reply::Ok("ok")]);
            until("it is used", || server.seen().len() >= 5).await;
            let seen = server.stop().await;
            *processed.lock().unwrap() += seen.iter().filter(|seen| seen.method == Method::POST).count();
            // If it came back at once, what was cut off could not be told from a reset, and would be charged.
            until("the client notices", || state(&client) == EndpointState::Unreachable).await;
        }
    };
    let calls = async {
        let mut posts = 0;
        loop {
            let mut calls = JoinSet::new();
            for method in [Method::GET, Method::PUT, Method::POST] {
                posts += usize::from(method == Method::POST);
                let (client, request) = (client.clone(), request(method.clone(), "/", streamed()));
                calls.spawn(async move { (method, client.execute(request).await) });
            }
            while let Some(done) = calls.join_next().await {
                let (method, outcome) = done.unwrap();
                match outcome {
                    Ok(response) => assert_eq!(response.status(), 200),
                    // What was cut off may have been processed.
                    Err(error) => {
                        assert_eq!((method, error.kind()), (Method::POST, ErrorKind::ConnectionClosed), "{error}");
                    }
                }
            }
            assert!(*processed.lock().unwrap() <= posts, "none is processed twice");
        }
    };
    timeout(2 * LIMIT, async {
        tokio::select! {
            () = restarts => {}
            () = calls => {}
        }
    })
    .await
    .expect("the restarts end");
}

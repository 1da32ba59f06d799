//! Which connection a request gets, as seen by the server.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{Reply, Server, quick, read_head, watch};
use http::{Method, Request};
use retry_client::{Body, Client, ClientBuilder, ErrorKind};
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    runtime::Runtime,
    sync::Semaphore,
    task::{JoinSet, yield_now},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Starts a server that responds to a request when there is a permit for it.
async fn gated(gate: Arc<Semaphore>) -> (ClientBuilder, Arc<AtomicUsize>, JoinSet<()>) {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(format!("http://{}", listener.local_addr().unwrap())).policy(quick(0));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
            serving.spawn(async move {
                loop {
                    read_head(&mut stream).await;
                    count.fetch_add(1, SeqCst);
                    gate.acquire().await.unwrap().forget();
                    if stream.write_all(OK).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (client, asked, tasks)
}

#[tokio::test]
async fn waiters_are_served_in_order() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().pool_max_connections(1).build().unwrap();
    let mut calls = JoinSet::new();
    for number in 0..20 {
        let client = client.clone();
        calls.spawn(async move { client.get(&format!("/{number}")).text().await });
    }
    while let Some(response) = calls.join_next().await {
        assert_eq!(response.unwrap().unwrap(), "ok");
    }
    let order: Vec<_> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(order, Vec::from_iter((0..20).map(|number| format!("/{number}"))));
    assert!(server.seen().iter().all(|seen| seen.connection == 0));
}

#[tokio::test]
async fn each_pool_keeps_its_own_connections() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().build().unwrap();
    let other = client.with_own_pool();
    for client in [&client, &other, &client, &other, &other] {
        client.get("/").text().await.unwrap();
    }
    assert_eq!(Vec::from_iter(server.seen().iter().map(|seen| seen.connection)), [0, 1, 0, 1, 1]);
    assert_eq!((client.connections(), other.connections()), (2, 2));
}

#[tokio::test]
async fn pools_share_the_limit_and_waiters_of_all_are_served_in_order() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().pool_max_connections(1).build().unwrap();
    let other = client.with_own_pool();
    let mut calls = JoinSet::new();
    for number in 0..20 {
        let client = if number % 3 == 0 { client.clone() } else { other.clone() };
        calls.spawn(async move { client.get(&format!("/{number}")).text().await });
    }
    while let Some(response) = calls.join_next().await {
        assert_eq!(response.unwrap().unwrap(), "ok");
    }
    client.get("/20").text().await.unwrap();
    let order: Vec<_> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(order, Vec::from_iter((0..21).map(|number| format!("/{number}"))));
    assert!(server.seen().iter().all(|seen| seen.connection == 0));
}

#[tokio::test]
async fn a_stale_connection_of_another_pool_makes_way_for_a_request_that_cannot_be_repeated() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().pool_max_connections(1).build().unwrap();
    client.get("/").text().await.unwrap();
    client.with_own_pool().post("/").body("x").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    client.with_own_pool().post("/").body("x").await.unwrap();
    assert_eq!(Vec::from_iter(server.seen().iter().map(|seen| seen.connection)), [0, 0, 1], "used just now, and stale");
}

#[tokio::test]
async fn pools_share_the_number_of_idle_connections() {
    let gate = Arc::new(Semaphore::new(0));
    let (client, asked, _server) = gated(Arc::clone(&gate)).await;
    let client = client.pool_max_idle(4).build().unwrap();
    let other = client.with_own_pool();
    let mut calls = JoinSet::new();
    for client in [&client, &other].repeat(4) {
        let client = client.clone();
        calls.spawn(async move { client.get("/").text().await });
    }
    while asked.load(SeqCst) < 8 {
        yield_now().await;
    }
    gate.add_permits(8);
    while let Some(response) = calls.join_next().await {
        response.unwrap().unwrap();
    }
    while client.connections() > 4 {
        yield_now().await;
    }
    drop(other);
    while client.connections() > 2 {
        yield_now().await;
    }
    assert_eq!(client.connections(), 2);
}

#[tokio::test]
async fn a_canceled_waiter_does_not_block_the_next() {
    let gate = Arc::new(Semaphore::new(0));
    let (client, asked, _server) = gated(Arc::clone(&gate)).await;
    let client = client.pool_max_connections(1).build().unwrap();
    let call = || {
        let client = client.clone();
        tokio::spawn(async move { client.get("/").text().await })
    };
    let first = call();
    while asked.load(SeqCst) == 0 {
        yield_now().await;
    }
    let (gone, last) = (call(), call());
    yield_now().await;
    gone.abort();
    gate.add_permits(2);
    assert_eq!(first.await.unwrap().unwrap(), "ok");
    assert_eq!(last.await.unwrap().unwrap(), "ok");
    assert_eq!(asked.load(SeqCst), 2);
}

#[tokio::test]
async fn a_connection_with_a_canceled_request_is_not_reused() {
    let server = Server::start([Reply::Hang, Reply::Ok("second")]).await;
    let client = server.client().build().unwrap();
    let abandoned = tokio::spawn({
        let client = client.clone();
        async move { client.get("/abandoned").text().await }
    });
    while server.seen().is_empty() {
        yield_now().await;
    }
    abandoned.abort();
    assert_eq!(client.get("/").text().await.unwrap(), "second");
    assert_eq!(server.seen().iter().map(|seen| seen.connection).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn an_unread_response_does_not_close_its_connection() {
    let server = Server::start([Reply::Ok("unread")]).await;
    let client = server.client().build().unwrap();
    for _ in 0..3 {
        drop(client.get("/").await.unwrap());
    }
    assert!(server.seen().iter().all(|seen| seen.connection == 0));
}

/// Each connection responds to one request and is then closed without an announcement.
#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_reused() {
    watch();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(format!("http://{}", listener.local_addr().unwrap())).policy(quick(0));
    let client = client.build().unwrap();
    let server = async {
        for _ in 0..50 {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(OK).await.unwrap();
        }
    };
    let calls = async {
        for _ in 0..50 {
            // A POST is not repeated after any of it was sent.
            let response = client.post("/").body("x").await.unwrap();
            assert_eq!(response.into_body().text().await.unwrap(), "ok");
            while client.connections() > 0 {
                yield_now().await;
            }
        }
    };
    tokio::join!(server, calls);
}

#[tokio::test]
async fn over_http2_the_first_requests_wait_for_one_connection() {
    let server = Server::start([Reply::Ok("ok")]).await;
    let client = server.client().http2_prior_knowledge(true).build().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let client = client.clone();
        calls.spawn(async move { client.get("/").text().await });
    }
    while let Some(response) = calls.join_next().await {
        assert_eq!(response.unwrap().unwrap(), "ok");
    }
    assert_eq!(server.seen().len(), 20);
    assert!(server.seen().iter().all(|seen| seen.connection == 0));
    assert_eq!(client.connections(), 1);
}

#[tokio::test]
async fn over_http2_a_connection_that_has_been_silent_for_too_long_is_shared_no_longer() {
    let server = Server::start([Reply::Ok("ok"), Reply::Hang, Reply::Ok("ok")]).await;
    let client = server.client().http2_prior_knowledge(true).timeout(Duration::from_millis(100)).build().unwrap();
    for _ in 0..3 {
        assert_eq!(client.get("/").text().await.unwrap(), "ok");
    }
    let connections: Vec<_> = server.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 1, 1]);
}

#[tokio::test]
async fn over_http2_a_slow_response_does_not_affect_the_others() {
    let server = Server::start([Reply::Ok("ok"), Reply::Hang, Reply::Ok("ok")]).await;
    let client = server.client().http2_prior_knowledge(true).timeout(Duration::from_millis(300));
    let client = client.policy(quick(0)).build().unwrap();
    client.get("/").text().await.unwrap();
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.get("/slow").text().await }
    });
    // The others get their responses meanwhile.
    while !slow.is_finished() {
        if server.seen().len() > 1 {
            client.get("/").text().await.unwrap();
        }
        yield_now().await;
    }
    assert_eq!(slow.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    client.get("/").text().await.unwrap();
    assert!(server.seen().iter().all(|seen| seen.connection == 0));
}

#[tokio::test]
async fn over_http2_all_learn_that_there_is_no_connection() {
    watch();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let client = Client::builder(format!("http://{closed}")).http2_prior_knowledge(true).policy(quick(1));
    let client = client.build().unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        let client = client.clone();
        calls.spawn(async move { client.get("/").await.unwrap_err() });
    }
    while let Some(error) = calls.join_next().await {
        let error = error.unwrap();
        assert_eq!((error.kind(), error.history().unwrap().attempts()), (ErrorKind::Connect, 2));
    }
    assert_eq!(client.connections(), 0);
}

#[tokio::test]
async fn expired_connections_are_closed_without_a_request() {
    for http2 in [false, true] {
        let server = Server::start([Reply::Ok("ok")]).await;
        let client = server.client().http2_prior_knowledge(http2).pool_idle_timeout(Duration::from_millis(20));
        let client = client.build().unwrap();
        assert_eq!(client.get("/").text().await.unwrap(), "ok");
        no_connection_is_left(&client).await;
    }
}

async fn no_connection_is_left(client: &Client) {
    let closed = async {
        while client.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.unwrap();
}

/// The task that closes them was started in the first runtime, and has ended with it.
#[test]
fn expired_connections_are_closed_in_a_second_runtime_too() {
    let [servers, first, second] = [(); 3].map(|()| Runtime::new().unwrap());
    let server = servers.block_on(Server::start([Reply::Ok("ok")]));
    let client = server.client().pool_idle_timeout(Duration::from_millis(500)).build().unwrap();
    assert_eq!(first.block_on(client.get("/").text()).unwrap(), "ok");
    drop(first);
    assert_eq!(second.block_on(client.get("/").text()).unwrap(), "ok");
    second.block_on(no_connection_is_left(&client));
}

/// The POST needs a connection that was used recently, and closes the old one; the GET is next.
#[tokio::test]
async fn waiters_get_a_connection_although_the_returned_one_is_stale() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(format!("http://{}", listener.local_addr().unwrap())).policy(quick(0));
    let client =
        client.pool_max_connections(1).connect_timeout(Duration::from_secs(600)).timeout(Duration::from_secs(600));
    let client = client.build().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            serving.spawn(async move {
                loop {
                    read_head(&mut stream).await;
                    if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let held = client.get("/held").await.unwrap();
    let mut calls = JoinSet::new();
    for method in [Method::POST, Method::GET] {
        let client = client.clone();
        let request = Request::builder().method(method).uri("/waiting").body(Body::empty()).unwrap();
        calls.spawn(async move { client.execute(request).await.unwrap().into_body().text().await.unwrap() });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(held.into_body().text().await.unwrap(), "hello");
    let all = tokio::time::timeout(Duration::from_secs(15), calls.join_all()).await.unwrap();
    assert_eq!(all, ["hello", "hello"]);
}

/// The ages differ by 10 % in both directions.
#[tokio::test]
async fn a_connection_that_is_too_old_is_not_reused() {
    let age = Duration::from_millis(300);
    for http2 in [false, true] {
        let server = Server::start([Reply::Ok("ok")]).await;
        let client = server.client().http2_prior_knowledge(http2).policy(quick(0)).pool_max_connection_age(age);
        let client = client.build().unwrap();
        for _ in 0..3 {
            client.get("/").text().await.unwrap();
            tokio::time::sleep(age.mul_f64(1.2)).await;
        }
        assert_eq!(Vec::from_iter(server.seen().iter().map(|seen| seen.connection)), [0, 1, 2], "{http2}");
        no_connection_is_left(&client).await;
    }
}

#[tokio::test]
async fn a_connection_that_is_not_too_old_is_reused() {
    for http2 in [false, true] {
        let server = Server::start([Reply::Ok("ok")]).await;
        let client = server.client().http2_prior_knowledge(http2).pool_max_connection_age(Duration::from_secs(600));
        let client = client.build().unwrap();
        for _ in 0..3 {
            client.get("/").text().await.unwrap();
        }
        assert!(server.seen().iter().all(|seen| seen.connection == 0));
        assert_eq!(client.connections(), 1);
    }
}

/// It also ends if it is idle.
#[tokio::test]
async fn an_exchange_ends_on_a_connection_that_has_become_too_old() {
    let (age, gate) = (Duration::from_millis(100), Arc::new(Semaphore::new(0)));
    let (client, asked, _tasks) = gated(Arc::clone(&gate)).await;
    let client = client.pool_max_connection_age(age).build().unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.get("/").text().await }
    });
    tokio::time::sleep(2 * age).await;
    assert_eq!((asked.load(SeqCst), client.connections()), (1, 1));
    gate.add_permits(1);
    assert_eq!(call.await.unwrap().unwrap(), "ok");
    no_connection_is_left(&client).await;
}

#[tokio::test]
async fn over_http2_an_old_connection_ends_with_its_last_exchange() {
    let age = Duration::from_millis(100);
    let server = Server::start([Reply::Hang, Reply::Ok("ok")]).await;
    let client = server.client().http2_prior_knowledge(true).policy(quick(0)).pool_max_connection_age(age);
    let client = client.timeout(Duration::from_secs(600)).build().unwrap();
    let slow = tokio::spawn({
        let client = client.clone();
        async move { client.get("/slow").text().await }
    });
    while server.seen().is_empty() {
        yield_now().await;
    }
    tokio::time::sleep(2 * age).await;
    assert_eq!(client.get("/").text().await.unwrap(), "ok");
    assert_eq!(server.seen()[1].connection, 1);
    assert!(!slow.is_finished());
    slow.abort();
    no_connection_is_left(&client).await;
}

//! Names with several addresses, and names that move.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is the test's message"
)]

mod common;
#[path = "common/https.rs"]
mod https;

use std::{
    future::ready,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use common::{LIMIT, Reply, Server, bind, quick, read_head, until, watch};
use retry_client::{Client, ClientBuilder, EndpointState};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket},
    runtime::Runtime,
    sync::Semaphore,
    time::timeout,
};

const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

const REFRESH: Duration = Duration::from_millis(20);

/// A port that is free at both addresses.
struct Port([TcpSocket; 2]);

impl Port {
    fn new() -> Self {
        watch();
        loop {
            let first = bind(SocketAddr::new(FIRST, 0)).unwrap();
            let port = first.local_addr().unwrap().port();
            if let Ok(second) = bind(SocketAddr::new(SECOND, port)) {
                return Self([first, second]);
            }
        }
    }

    fn get(&self) -> u16 {
        self.0[0].local_addr().unwrap().port()
    }

    fn listen(&self, address: IpAddr) -> TcpListener {
        bind(SocketAddr::new(address, self.get())).unwrap().listen(1024).unwrap()
    }

    fn serve(&self, address: IpAddr, text: &'static str) -> Server {
        Server::start_on(self.listen(address), [Reply::Ok(text)], |_, stream| ready(Some(stream)))
    }

    fn url(&self) -> String {
        format!("http://shop.test:{}", self.get())
    }

    fn client(&self, names: &Names, url: String) -> ClientBuilder {
        let (addresses, lookups) = (Arc::clone(&names.addresses), Arc::clone(&names.lookups));
        let client = Client::builder(url).policy(quick(0)).timeout(LIMIT);
        client.dns_refresh(REFRESH).resolver(move |name| {
            assert_eq!(name, "shop.test");
            lookups.fetch_add(1, SeqCst);
            let addresses = addresses.lock().unwrap().clone();
            async { addresses.ok_or_else(|| io::ErrorKind::TimedOut.into()) }
        })
    }
}

/// What the resolver returns.
struct Names {
    /// `None` for an error.
    addresses: Arc<Mutex<Option<Vec<IpAddr>>>>,
    lookups: Arc<AtomicUsize>,
}

impl Names {
    fn new(addresses: &[IpAddr]) -> Self {
        Self { addresses: Arc::new(Mutex::new(Some(addresses.to_vec()))), lookups: Arc::default() }
    }

    fn set(&self, addresses: Option<&[IpAddr]>) {
        *self.addresses.lock().unwrap() = addresses.map(<[IpAddr]>::to_vec);
    }

    /// Waits for two lookups: the first may have begun before.
    async fn refreshed(&self) {
        let before = self.lookups.load(SeqCst);
        until("lookups", || self.lookups.load(SeqCst) >= before + 2).await;
    }
}

fn names(client: &Client) -> Vec<String> {
    client.endpoints().into_iter().map(|endpoint| endpoint.name).collect()
}

fn name(port: &Port, address: IpAddr) -> String {
    format!("shop.test:{} ({address})", port.get())
}

async fn get(client: &Client) -> String {
    timeout(LIMIT, client.get("/").text()).await.expect("an end").unwrap()
}

#[tokio::test]
async fn each_address_of_a_name_is_an_endpoint() {
    let (port, dns) = (Port::new(), Names::new(&[FIRST, SECOND, FIRST]));
    let servers = [port.serve(FIRST, "first"), port.serve(SECOND, "second")];
    let client = port.client(&dns, port.url()).build().unwrap();
    assert_eq!(names(&client), [format!("shop.test:{}", port.get())]);
    get(&client).await;
    until("the name is resolved", || names(&client) == [name(&port, FIRST), name(&port, SECOND)]).await;
    for _ in 0..100 {
        get(&client).await;
    }
    for server in servers {
        let seen = server.seen();
        assert!(seen.len() > 10, "{}", seen.len());
        assert!(seen.iter().all(|seen| seen.headers["host"] == format!("shop.test:{}", port.get()).as_str()));
    }
}

#[tokio::test]
async fn one_bad_address_of_two_does_not_fail_a_request() {
    let (port, dns) = (Port::new(), Names::new(&[FIRST, SECOND]));
    let _server = port.serve(SECOND, "second");
    let client = port.client(&dns, port.url()).build().unwrap();
    for _ in 0..100 {
        assert_eq!(client.post("/").body("x").await.unwrap().status(), 200);
    }
    assert_eq!(names(&client), [name(&port, FIRST), name(&port, SECOND)]);
    assert_eq!(client.endpoints()[0].state, EndpointState::Unreachable);
}

#[tokio::test]
async fn requests_follow_a_name_that_moves() {
    let (port, dns) = (Port::new(), Names::new(&[FIRST]));
    let (_first, _second) = (port.serve(FIRST, "first"), port.serve(SECOND, "second"));
    let client = port.client(&dns, port.url()).build().unwrap();
    for (address, text) in [(FIRST, "first"), (SECOND, "second"), (FIRST, "first")] {
        dns.set(Some(&[address]));
        // Each response is from one of the two, without a failure.
        while names(&client) != [name(&port, address)] {
            get(&client).await;
        }
        for _ in 0..10 {
            assert_eq!(get(&client).await, text);
        }
    }
}

#[tokio::test]
async fn a_name_is_resolved_again_at_once_if_connecting_fails() {
    let (port, dns) = (Port::new(), Names::new(&[FIRST]));
    let first = port.serve(FIRST, "first");
    let client = port.client(&dns, port.url()).dns_refresh(2 * LIMIT).outage_wait(LIMIT).build().unwrap();
    assert_eq!(get(&client).await, "first");
    until("the name is resolved", || names(&client) == [name(&port, FIRST)]).await;
    first.stop().await;
    let _second = port.serve(SECOND, "second");
    dns.set(Some(&[SECOND]));
    assert_eq!(timeout(LIMIT, client.post("/").body("x")).await.expect("a lookup").unwrap().status(), 200);
    assert_eq!(names(&client), [name(&port, SECOND)]);
}

#[tokio::test]
async fn a_response_from_an_address_that_vanishes_is_read_to_its_end() {
    let (port, dns, gate) = (Port::new(), Names::new(&[FIRST]), Arc::new(Semaphore::new(0)));
    let (listener, permit) = (port.listen(FIRST), Arc::clone(&gate));
    let first = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfi").await.unwrap();
        permit.acquire().await.unwrap().forget();
        stream.write_all(b"rst").await.unwrap();
        // Closed by the client, as nothing else is to be sent on it.
        let mut end = [0];
        let closed = async { while stream.peek(&mut end).await.is_ok_and(|read| read > 0) {} };
        timeout(LIMIT, closed).await.is_ok()
    });
    let _second = port.serve(SECOND, "second");
    let client = port.client(&dns, port.url()).build().unwrap();
    let response = client.get("/").await.unwrap();
    dns.set(Some(&[SECOND]));
    until("the name is resolved", || names(&client) == [name(&port, SECOND)]).await;
    assert_eq!(get(&client).await, "second");
    gate.add_permits(1);
    assert_eq!(response.into_body().text().await.unwrap(), "first");
    assert!(first.await.unwrap());
}

#[tokio::test]
async fn without_an_address_the_endpoints_stay_as_they_are() {
    let (port, dns) = (Port::new(), Names::new(&[FIRST, SECOND]));
    let _servers = [port.serve(FIRST, "first"), port.serve(SECOND, "second")];
    let client = port.client(&dns, port.url()).build().unwrap();
    get(&client).await;
    until("the name is resolved", || names(&client).len() == 2).await;
    for nothing in [None, Some(&[][..])] {
        dns.set(nothing);
        dns.refreshed().await;
        for _ in 0..20 {
            get(&client).await;
        }
        assert_eq!(names(&client), [name(&port, FIRST), name(&port, SECOND)]);
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_at_first_is_an_outage() {
    let (port, dns) = (Port::new(), Names::new(&[]));
    dns.set(None);
    let _server = port.serve(FIRST, "first");
    let client = port.client(&dns, port.url()).outage_wait(LIMIT).build().unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.post("/").body("x").await }
    });
    until("the call waits", || client.calls_parked() == 1).await;
    dns.set(Some(&[FIRST]));
    assert_eq!(timeout(LIMIT, call).await.expect("a lookup").unwrap().unwrap().status(), 200);
}

/// The certificate is for the name, whatever the address.
#[tokio::test]
async fn over_tls_each_address_has_the_name_of_the_url() {
    let (port, dns, authority) = (Port::new(), Names::new(&[FIRST, SECOND]), https::Authority::new());
    let acceptor = authority.acceptor("shop.test", https::BOTH, None);
    let servers = [FIRST, SECOND].map(|address| {
        let acceptor = acceptor.clone();
        Server::start_on(port.listen(address), [Reply::Ok("ok")], move |_, stream| {
            let accepting = acceptor.accept(stream);
            async { accepting.await.ok() }
        })
    });
    let url = format!("https://shop.test:{}", port.get());
    let client = port.client(&dns, url).ca_file(authority.file()).build().unwrap();
    timeout(LIMIT, async {
        while servers.iter().any(|server| server.seen().is_empty()) {
            assert_eq!(get(&client).await, "ok");
        }
    })
    .await
    .expect("both are used");
    assert_eq!(names(&client), [name(&port, FIRST), name(&port, SECOND)]);
    for server in servers {
        assert_eq!(server.seen()[0].authority, Some(format!("shop.test:{}", port.get())));
    }
}

/// Often, only one of the two families is served.
#[tokio::test]
async fn the_other_family_is_used_if_the_preferred_one_cannot_be_reached() {
    let (port, dns) = (Port::new(), Names::new(&[V6, FIRST]));
    let Ok(_reserved) = bind(SocketAddr::new(V6, port.get())) else { return };
    let server = port.serve(FIRST, "first");
    let client = port.client(&dns, port.url()).outage_wait(LIMIT).build().unwrap();
    for _ in 0..20 {
        assert_eq!(get(&client).await, "first");
        dns.refreshed().await;
    }
    assert_eq!(server.seen().len(), 20);
    assert_eq!(names(&client), [name(&port, V6), name(&port, FIRST)]);
    let six = port.serve(V6, "six");
    until("only the preferred one is used", || names(&client) == [name(&port, V6)]).await;
    assert_eq!(get(&client).await, "six");
    drop(six);
}

/// The task that resolves the name was started in the first runtime, and has ended with it.
#[test]
fn names_are_resolved_in_a_second_runtime_too() {
    let [servers, first, second] = [(); 3].map(|()| Runtime::new().unwrap());
    let (dns, _guard) = (Names::new(&[FIRST]), servers.enter());
    let port = Port::new();
    let _servers = [port.serve(FIRST, "first"), port.serve(SECOND, "second")];
    let client = port.client(&dns, port.url()).build().unwrap();
    first.block_on(async {
        assert_eq!(get(&client).await, "first");
        until("the name is resolved", || names(&client) == [name(&port, FIRST)]).await;
    });
    drop(first);
    dns.set(Some(&[SECOND]));
    second.block_on(async {
        get(&client).await;
        until("the name is resolved", || names(&client) == [name(&port, SECOND)]).await;
        assert_eq!(get(&client).await, "second");
    });
}

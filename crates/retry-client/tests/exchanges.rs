//! What an observer of exchanges gets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the test's message")]

mod common;
#[path = "common/https.rs"]
mod https;

use std::{
    net::TcpListener,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use common::{Address, LIMIT, Reply, Server, quick, raw_server, until};
use http::{HeaderMap, StatusCode};
use https::Authority;
use retry_client::{Client, ClientBuilder, ExchangeEnd, ExchangeObserver, ExchangeStart, ObservedExchange};
use tokio::time::timeout;

/// The events of a client as lines.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

struct Exchange {
    events: Events,
    line: String,
}

impl Events {
    fn push(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn observe(&self, client: ClientBuilder) -> Client {
        client.exchange_observer(self.clone()).build().unwrap()
    }
}

impl ExchangeObserver for Events {
    fn started(&self, exchange: &ExchangeStart<'_>) -> Box<dyn ObservedExchange> {
        let connection = if exchange.reused { "reused" } else { "new" };
        Box::new(Exchange { events: self.clone(), line: format!("{} {connection}", exchange.method) })
    }

    fn connect_failed(&self, _: &str, why: &str) {
        self.push(if why.contains("refused") { "refused" } else { why }.to_owned());
    }

    fn reconnected(&self, _: &str) {
        self.push("reconnected".to_owned());
    }
}

impl ObservedExchange for Exchange {
    fn head_received(&mut self, status: StatusCode, headers: &HeaderMap) {
        assert!(headers.contains_key("content-length"), "{headers:?}");
        self.line += &format!(" {}", status.as_u16());
    }

    fn ended(&mut self, body_bytes: u64, end: ExchangeEnd<'_>) {
        let end = match end {
            ExchangeEnd::Failed(error) => format!("{:?}", error.kind()),
            end => format!("{end:?}"),
        };
        self.events.push(format!("{} {body_bytes} {end}", self.line));
    }
}

#[tokio::test]
async fn each_request_on_a_connection_has_a_start_and_an_end() {
    let server = Server::start([Reply::Status(503, "busy"), Reply::Ok("hello"), Reply::Hang]).await;
    let events = Events::default();
    let client = events.observe(server.client().status_codes([503]).timeout(LIMIT));
    assert_eq!(client.get("/").text().await.unwrap(), "hello");
    assert_eq!(events.lines(), ["GET new 503 4 Complete", "GET reused 200 5 Complete"]);

    tokio::select! {
        outcome = client.post("/").send() => panic!("{outcome:?}"),
        () = until("a POST", || server.seen().len() == 3) => {}
    }
    assert_eq!(events.lines()[2..], ["POST reused 0 Canceled"]);
}

#[tokio::test]
async fn an_exchange_fails_before_or_in_its_response() {
    let responses: Vec<&[u8]> = vec![
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    ];
    let (address, _connections, _tasks) = raw_server(responses).await;
    let events = Events::default();
    let client = events.observe(Client::builder(format!("http://{address}")).policy(quick(3)));
    let response = client.get("/").text().await;
    assert_eq!(response.unwrap(), "hello");
    let closed = ["GET new 0 ConnectionClosed", "GET new 200 3 ConnectionClosed", "GET new 200 5 Complete"];
    assert_eq!(events.lines(), closed);

    // The body is not read to its end.
    let server = Server::start([Reply::Ok("hello")]).await;
    let events = Events::default();
    let client = events.observe(server.client());
    drop(client.get("/").send().await.unwrap());
    assert_eq!(events.lines(), ["GET new 200 0 Canceled"]);
}

#[tokio::test]
async fn an_exchange_on_a_new_connection_that_is_closed_at_once_has_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let events = Events::default();
    let client = events.observe(Client::builder(format!("http://{address}")).policy(quick(0)));
    for _ in 0..20 {
        client.get("/").send().await.unwrap_err();
    }
    let lines = events.lines();
    assert!(lines.len() == 20 && !lines.iter().any(|line| line.contains("NotSent")), "{lines:?}");
}

#[tokio::test]
async fn connections_that_fail_and_succeed_again_are_observed() {
    let address = Address::new();
    let events = Events::default();
    let client = events.observe(address.client().outage_wait(LIMIT));
    let call = tokio::spawn(async move { client.get("/").text().await.unwrap() });
    // One by the request, the others by probes.
    until("several refused connections", || events.lines().len() > 2).await;
    let _server = address.serve([Reply::Ok("hello")]);
    assert_eq!(timeout(LIMIT, call).await.unwrap().unwrap(), "hello");
    let mut lines = events.lines();
    lines.dedup();
    assert_eq!(lines, ["refused", "reconnected", "GET reused 200 5 Complete"]);
}

#[tokio::test]
async fn probes_that_fail_for_another_reason_do_not_say_that_the_endpoint_is_away() {
    let address = Address::new();
    let (trusted, other) = (Authority::new(), Authority::new());
    let events = Events::default();
    let client = Client::builder(format!("https://{}", address.get())).ca_file(trusted.file()).outage_wait(LIMIT);
    let client = events.observe(client);
    let _call = tokio::spawn(async move { client.get("/").text().await });
    until("a refused connection", || !events.lines().is_empty()).await;

    let (acceptor, connections) = (other.acceptor("127.0.0.1", &[], None), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    let _server = Server::start_on(address.listen(), [Reply::Ok("hello")], move |_, stream| {
        count.fetch_add(1, SeqCst);
        let acceptor = acceptor.clone();
        async move { acceptor.accept(stream).await.ok() }
    });
    // Each but the last has ended.
    until("several probes", || connections.load(SeqCst) > 2).await;
    let mut lines = events.lines();
    lines.dedup();
    assert_eq!(lines, ["refused"]);
}

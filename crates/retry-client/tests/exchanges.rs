//! What an observer of exchanges gets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation is the test's message")]

mod common;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common::{Address, LIMIT, Reply, Server, quick, raw_server, until};
use http::{HeaderMap, StatusCode};
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

    fn connect_failed(&self, _: &str, _: &str) {
        self.push("refused".to_owned());
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

    let call = timeout(Duration::from_millis(50), client.post("/").send());
    assert!(call.await.is_err());
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

//! What operators see of the program: its logs, its metrics, and its stop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use support::{
    QUICK, Service, backend, call, gateway, message,
    message::{Response, exchange_bytes},
    metric, refusing,
    upstream::{Reply, Upstream},
    within,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

const GET: &str = "GET /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn metrics_count_requests_attempts_retries_and_give_ups() {
    let backend = backend("status=503,ok,reset,ok,status=503,status=503,status=503").await;
    let mut service = gateway(backend.address(), &["--admin", "127.0.0.1:0", "--count", "1"]).await;
    let admin = service.admin().await;
    for expected in [200, 200, 503] {
        assert_eq!(call(service.address, "GET", "/hello").await.status, expected);
    }
    assert_eq!(call(service.address, "POST", "/echo").await.status, 503);
    let response = call(admin, "GET", "/metrics").await;
    response.has_header("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8");
    let metrics = response.text();
    for (name, expected) in [
        ("requests_total{method=\"GET\",code=\"200\"}", 2.0),
        ("requests_total{method=\"GET\",code=\"503\"}", 1.0),
        ("requests_total{method=\"POST\",code=\"503\"}", 1.0),
        ("request_duration_seconds_count", 4.0),
        ("attempts_total{outcome=\"503\"}", 4.0),
        ("attempts_total{outcome=\"connection_closed\"}", 1.0),
        ("attempts_total{outcome=\"200\"}", 2.0),
        ("attempt_duration_seconds_count", 7.0),
        ("retries_total{reason=\"503\"}", 2.0),
        ("retries_total{reason=\"connection_closed\"}", 1.0),
        ("give_ups_total{reason=\"no_retries_left\"}", 1.0),
        ("give_ups_total{reason=\"not_safe_to_repeat\"}", 1.0),
        ("requests_in_backoff", 0.0),
        ("requests_in_flight", 0.0),
    ] {
        assert_eq!(metric(&metrics, &format!("retry_service_{name}")), expected, "{name} of {metrics}");
    }
    assert!(metric(&metrics, "retry_service_upstream_connections") >= 1.0);
    let budget = metric(&metrics, "retry_service_retry_budget_available");
    assert!(budget > 90.0 && budget < 101.0, "{budget}");
    assert!(metrics.ends_with("# EOF\n"));
}

#[tokio::test]
async fn requests_in_backoff_are_counted() {
    let backend = backend("status=503").await;
    let mut service =
        gateway(backend.address(), &["--admin", "127.0.0.1:0", "--interval", "1h", "--max-wait-interval", "1h"]).await;
    let (admin, address) = (service.admin().await, service.address);
    let waiting = tokio::spawn(async move { call(address, "GET", "/hello").await });
    while metric(&call(admin, "GET", "/metrics").await.text(), "retry_service_requests_in_backoff") < 1.0 {}
    assert_eq!(metric(&call(admin, "GET", "/metrics").await.text(), "retry_service_requests_in_flight"), 1.0);
    waiting.abort();
    while metric(&call(admin, "GET", "/metrics").await.text(), "retry_service_requests_in_backoff") > 0.0 {}
    let metrics = call(admin, "GET", "/metrics").await.text();
    assert_eq!(metric(&metrics, "retry_service_requests_total{method=\"GET\",code=\"499\"}"), 1.0);
}

#[tokio::test]
async fn the_process_is_healthy_until_it_exits_and_ready_until_it_drains() {
    let backend = backend("hang").await;
    let mut service = gateway(backend.address(), &["--admin", "127.0.0.1:0", "--timeout", "off"]).await;
    let (admin, address) = (service.admin().await, service.address);
    assert_eq!(call(admin, "GET", "/readyz").await.text(), "ready\n");
    let request = tokio::spawn(async move { call(address, "GET", "/hello").await });
    until("a request at the backend", || backend.received() > 0).await;
    service.signal("TERM").await;
    assert!(service.next_log().await.contains("Stopping"));
    let response = call(admin, "GET", "/readyz").await;
    assert_eq!((response.status, response.text().as_str()), (503, "draining\n"));
    assert_eq!(call(admin, "GET", "/healthz").await.status, 200);
    assert_eq!(call(admin, "POST", "/healthz").await.status, 405);
    request.abort();
    assert!(service.exit().await.success());
}

#[tokio::test]
async fn the_admin_listener_shows_the_settings_without_the_password() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", "http://me:secret@127.0.0.1:1"]);
    let mut service = Service::spawn(command).await;
    let admin = service.admin().await;
    let config = call(admin, "GET", "/config").await.text();
    assert!(config.contains("upstream = \"http://***@127.0.0.1:1\"") && config.contains("count = \"3\""), "{config}");
    assert_eq!(call(admin, "GET", "/").await.status, 404);
}

#[tokio::test]
async fn a_retried_request_is_one_line_in_the_log() {
    let backend = backend("status=503,reset,ok,ok").await;
    let mut service = gateway(backend.address(), &[]).await;
    let response = call(service.address, "GET", "/hello?token=secret").await;
    let id = response.field("x-request-id").unwrap();
    assert_eq!(call(service.address, "GET", "/hello").await.status, 200);
    service.signal("TERM").await;
    let lines = service.rest_of_log().await;
    let messages: Vec<_> = lines.iter().map(|line| message(line)).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].starts_with("GET /hello: attempt 1 returned 503 Service Unavailable ("), "{}", messages[0]);
    assert!(messages[0].contains("s); waited 1ms; attempt 2 failed: connection error: "), "{}", messages[0]);
    assert!(
        messages[0].contains("attempt 3 returned 200 OK (") && messages[0].ends_with(&format!("; id {id}")),
        "{}",
        messages[0]
    );
}

#[tokio::test]
async fn log_lines_can_be_json() {
    let (upstream, _socket) = refusing();
    let arguments = ["--log-format", "json", "--access-log", "--count", "1", "--outage-wait", "off"];
    let mut service = Service::start(upstream, &[&QUICK[..], &arguments].concat()).await;
    assert_eq!(call(service.address, "GET", "/a").await.status, 502);
    let failed: Value = serde_json::from_str(&service.log_line("retries").await).unwrap();
    assert_eq!((&failed["level"], &failed["target"]), (&"WARN".into(), &"retries".into()));
    assert_eq!((&failed["attempts"], &failed["path"]), (&2.into(), &"/a".into()));
    assert_eq!((&failed["status"], &failed["outcome"]), (&502.into(), &"connect".into()));
    assert!(failed["duration_ms"].as_f64().unwrap() >= 1.0, "{failed}");
    assert_eq!(failed["reason"], "no_retries_left");
    assert!(failed["message"].as_str().unwrap().contains("no retries left"), "{failed}");
    let access: Value = serde_json::from_str(&service.next_log().await).unwrap();
    assert_eq!((&access["target"], &access["status"]), (&"access".into(), &502.into()));
    assert_eq!(access["request_id"], failed["request_id"]);
    assert_eq!((&access["attempts"], &failed["attempts"]), (&2.into(), &2.into()));
    access["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
}

#[tokio::test]
async fn a_disconnected_client_is_in_the_access_log() {
    let backend = backend("hang").await;
    let mut service = gateway(backend.address(), &["--access-log"]).await;
    let address = service.address;
    let request = tokio::spawn(async move { call(address, "GET", "/hello").await });
    until("a request at the backend", || backend.received() > 0).await;
    request.abort();
    let line = service.next_log().await;
    assert!(message(&line).contains(" GET /hello 499 0 bytes in "), "{line}");
    assert!(message(&line).ends_with(", client disconnected before the response"), "{line}");
}

#[tokio::test]
async fn upstream_connections_are_limited() {
    let backend = backend("delay=50ms").await;
    let service = gateway(backend.address(), &["--upstream-max-connections", "2", "--threads", "1"]).await;
    let address = service.address;
    let calls: Vec<_> = (0..10).map(|_| tokio::spawn(async move { call(address, "GET", "/hello").await })).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
    }
    let mut connections: Vec<_> = backend.requests().iter().map(|request| request.connection).collect();
    assert_eq!(connections.len(), 10);
    connections.sort_unstable();
    connections.dedup();
    assert_eq!(connections.len(), 2);
}

/// Waits until a condition holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    within(what, wait).await;
}

/// Sends requests one after another on the same connection.
async fn call_repeatedly(address: SocketAddr, path: &str, times: usize) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    for number in 0..times {
        let exchange = async {
            let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let (mut line, mut length) = (String::new(), 0);
            while line != "\r\n" {
                line.clear();
                assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "the connection ended");
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            stream.read_exact(&mut vec![0; length]).await.unwrap();
        };
        within(format_args!("response {number}"), exchange).await;
    }
}

#[tokio::test]
async fn a_log_that_is_not_read_delays_nothing() {
    // 12 MB of lines: more than the pipe and the queue can hold.
    let (upstream, _socket) = refusing();
    let mut service = Service::start(upstream, &["--admin", "127.0.0.1:0", "--access-log"]).await;
    let (admin, address, path) = (service.admin().await, service.address, format!("/{}", "x".repeat(12_000)));
    call_repeatedly(address, &path, 1000).await;
    let health = call(admin, "GET", "/healthz").await;
    assert_eq!((health.status, health.text().as_str()), (200, "ok\n"));
    let metrics = call(admin, "GET", "/metrics").await.text();
    let dropped = metric(&metrics, "retry_service_log_lines_dropped_total");
    assert!(dropped > 0.0 && dropped < 1000.0, "{dropped}");
    service.signal("TERM").await;
    assert!(within("the exit", service.exit()).await.success());
}

#[tokio::test]
async fn dropped_lines_are_reported_once_lines_are_read_again() {
    let (upstream, _socket) = refusing();
    let arguments = ["--admin", "127.0.0.1:0", "--access-log", "--log-format", "json"];
    let mut service = Service::start(upstream, &arguments).await;
    let (admin, path) = (service.admin().await, format!("/{}", "x".repeat(12_000)));
    call_repeatedly(service.address, &path, 1000).await;
    let dropped = metric(&call(admin, "GET", "/metrics").await.text(), "retry_service_log_lines_dropped_total");
    let note = loop {
        let line = service.next_log().await;
        if !line.contains(&path) {
            break line;
        }
    };
    let note: Value = serde_json::from_str(&note).unwrap();
    assert_eq!((&note["level"], &note["target"]), (&"WARN".into(), &"log".into()));
    assert_eq!(note["message"], format!("{dropped} log lines were dropped"));
    // Later lines are not dropped.
    assert_eq!(call(service.address, "GET", "/after").await.status, 404);
    assert!(service.next_log().await.contains("/after"));
}

/// A chunked response with these fields and chunks, which may lack the last one.
fn chunked(fields: &str, chunks: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}transfer-encoding: chunked\r\n\r\n{chunks}")
}

/// Stops a gateway; returns its metrics, and what it logged other than its start and its stop.
async fn stop_and_report(service: &mut Service, admin: SocketAddr) -> (String, Vec<Value>) {
    let metrics = call(admin, "GET", "/metrics").await.text();
    let lines = service.stop().await;
    let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    (metrics, lines.filter(|line| !line["target"].as_str().unwrap().starts_with("retry_service")).collect())
}

const REPORTING: [&str; 4] = ["--admin", "127.0.0.1:0", "--log-format", "json"];

#[tokio::test]
async fn incomplete_responses_are_logged_and_counted() {
    let (complete, incomplete) = (chunked("", "3\r\nabc\r\n0\r\n\r\n"), chunked("", "3\r\nabc\r\n"));
    let upstream = Upstream::start(move |number, _| {
        let reply = if number.is_multiple_of(2) { &complete } else { &incomplete };
        Reply::new(reply.as_bytes()).then_close()
    })
    .await;
    let mut service = gateway(upstream.address, &[&REPORTING[..], &["--response-buffer", "0"]].concat()).await;
    let admin = service.admin().await;
    let mut failed = 0;
    for _ in 0..10 {
        let response = within("a response", exchange_bytes(service.address, GET)).await;
        failed += u32::from(!response.ends_with(b"0\r\n\r\n"));
    }
    let (metrics, lines) = stop_and_report(&mut service, admin).await;
    assert_eq!((failed, lines.len()), (5, 5), "{lines:?}");
    assert_eq!(metric(&metrics, "retry_service_responses_incomplete_total{reason=\"connection_closed\"}"), 5.0);
    let line = &lines[0];
    assert_eq!((&line["level"], &line["target"]), (&"WARN".into(), &"retries".into()));
    let message = line["message"].as_str().unwrap();
    assert!(message.starts_with("GET /hello: response incomplete after 3 bytes: connection error: "), "{message}");
    let id = line["request_id"].as_str().unwrap();
    assert!(message.ends_with(&format!("; id {id}")) && id.len() > 1, "{message}");
    assert_eq!(
        (&line["status"], &line["outcome"], &line["attempts"]),
        (&200.into(), &"connection_closed".into(), &1.into())
    );
    assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn an_event_stream_that_times_out_is_logged() {
    let events = chunked("content-type: text/event-stream\r\n", "9\r\ndata: 1\n\n\r\n");
    let length = events.len();
    let upstream = Upstream::playing([Reply::new(events + "x").pausing(length, Duration::from_secs(3600))]).await;
    let mut service = gateway(upstream.address, &[&REPORTING[..], &["--timeout", "100ms"]].concat()).await;
    let admin = service.admin().await;
    within("the end of the response", exchange_bytes(service.address, GET)).await;
    let (metrics, lines) = stop_and_report(&mut service, admin).await;
    assert_eq!(metric(&metrics, "retry_service_responses_incomplete_total{reason=\"timeout\"}"), 1.0);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["outcome"], "timeout");
    let message = lines[0]["message"].as_str().unwrap();
    assert!(message.contains("after 9 bytes: idle timeout: nothing was read or written for 100ms; id "), "{message}");
}

#[tokio::test]
async fn a_resumed_response_is_one_line_and_counts_as_a_retry() {
    let first = chunked("etag: \"v1\"\r\n", "3\r\nabc\r\n");
    let rest =
        "HTTP/1.1 206 Partial Content\r\netag: \"v1\"\r\ncontent-range: bytes 3-5/6\r\ncontent-length: 3\r\n\r\ndef";
    let gone = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
    let replies = [Reply::new(first.as_bytes()).then_close(), Reply::new(rest)];
    let failing = [Reply::new(first.as_bytes()).then_close(), Reply::new(gone)];
    let upstream = Upstream::playing([replies, failing].concat()).await;
    let mut service = gateway(upstream.address, &[&REPORTING[..], &["--response-buffer", "0"]].concat()).await;
    let admin = service.admin().await;
    let response = within("a response", exchange_bytes(service.address, GET)).await;
    assert!(response.ends_with(b"def\r\n0\r\n\r\n"), "{}", String::from_utf8_lossy(&response));
    let response = within("a response", exchange_bytes(service.address, GET)).await;
    assert!(response.ends_with(b"abc\r\n"), "{}", String::from_utf8_lossy(&response));
    let (metrics, lines) = stop_and_report(&mut service, admin).await;
    for (name, expected) in [
        ("attempts_total{outcome=\"200\"}", 2.0),
        ("attempts_total{outcome=\"206\"}", 1.0),
        ("attempts_total{outcome=\"404\"}", 1.0),
        ("retries_total{reason=\"resumed\"}", 2.0),
        ("responses_incomplete_total{reason=\"not_resumed\"}", 1.0),
        ("responses_incomplete_total{reason=\"connection_closed\"}", 0.0),
    ] {
        assert_eq!(metric(&metrics, &format!("retry_service_{name}")), expected, "{name} of {metrics}");
    }
    assert_eq!(lines.len(), 3, "{lines:?}");
    for line in &lines[..2] {
        let message = line["message"].as_str().unwrap();
        assert!(message.contains("/hello: response body incomplete after 3 bytes: "), "{message}");
        let id = line["request_id"].as_str().unwrap();
        assert!(message.ends_with(&format!("; resuming; id {id}")) && id.len() > 1, "{message}");
    }
    assert_eq!(lines[2]["request_id"], lines[1]["request_id"]);
    let message = lines[2]["message"].as_str().unwrap();
    let why = "response incomplete after 3 bytes: could not be resumed: cannot resume the body at byte 3: \
               the server returned 404 Not Found; id ";
    assert!(message.contains(why), "{message}");
}

#[tokio::test]
async fn a_client_that_disconnects_during_the_response_is_in_the_access_log() {
    let part = chunked("", "3\r\nabc\r\n");
    let length = part.len();
    let upstream = Upstream::playing([Reply::new(part + "x").pausing(length, Duration::from_secs(3600))]).await;
    let mut service = gateway(upstream.address, &["--access-log"]).await;
    let mut client = TcpStream::connect(service.address).await.unwrap();
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"abc\r\n") {
        assert_ne!(within("the response", client.read_buf(&mut response)).await.unwrap(), 0);
    }
    drop(client);
    let line = within("a line", service.next_log()).await;
    assert!(message(&line).contains(" GET /hello 200 3 bytes in "), "{line}");
    assert!(message(&line).ends_with(", client disconnected before the end of the response"), "{line}");
}

#[tokio::test]
async fn counters_exist_before_they_count() {
    let (upstream, _socket) = refusing();
    let mut service = gateway(upstream, &["--admin", "127.0.0.1:0"]).await;
    let admin = service.admin().await;
    let metrics = call(admin, "GET", "/metrics").await.text();
    for name in [
        "requests_total{method=\"GET\",code=\"502\"}",
        "attempts_total{outcome=\"connect\"}",
        "retries_total{reason=\"503\"}",
        "retries_total{reason=\"resumed\"}",
        "give_ups_total{reason=\"not_safe_to_repeat\"}",
        "give_ups_total{reason=\"retry_forbidden\"}",
        "give_ups_total{reason=\"body_not_replayable\"}",
        "give_ups_total{reason=\"permanent\"}",
        "give_ups_total{reason=\"no_retries_left\"}",
        "give_ups_total{reason=\"deadline\"}",
        "give_ups_total{reason=\"retry_after\"}",
        "give_ups_total{reason=\"budget\"}",
        "give_ups_total{reason=\"outage\"}",
        "attempts_total{outcome=\"outage\"}",
        "parked_duration_seconds_count",
        "responses_incomplete_total{reason=\"timeout\"}",
        "requests_rejected_total{reason=\"max_in_flight\"}",
        "log_lines_dropped_total",
    ] {
        assert_eq!(metric(&metrics, &format!("retry_service_{name}")), 0.0, "{name}");
    }
    assert!(!metrics.contains("\"other\""), "{metrics}");
}

#[tokio::test]
async fn metrics_are_served_in_the_text_format_on_request() {
    let (upstream, _socket) = refusing();
    let mut service = gateway(upstream, &["--admin", "127.0.0.1:0"]).await;
    let admin = service.admin().await;
    let request = "GET /metrics HTTP/1.1\r\nhost: a\r\naccept: text/plain\r\nconnection: close\r\n\r\n";
    let response = within("the metrics", exchange_bytes(admin, request)).await;
    let (response, text) = (Response::parse(&response), Response::parse(&response).text());
    response.has_header("content-type: text/plain; version=0.0.4; charset=utf-8");
    let mut types = std::collections::HashMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
            types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let kind = types.get(name).or_else(|| types.get(base?)).unwrap_or_else(|| panic!("no type of {name}"));
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        } else {
            assert!(line.starts_with("# HELP "), "{line}");
        }
    }
    assert!(text.contains("\nretry_service_config_generation 1\n"), "{text}");
}

#[tokio::test]
async fn rejected_requests_are_logged_at_most_once_per_second() {
    let backend = backend("hang").await;
    let mut service = gateway(backend.address(), &[&REPORTING[..], &["--max-in-flight", "1"]].concat()).await;
    let (admin, address) = (service.admin().await, service.address);
    let waiting = tokio::spawn(async move { call(address, "GET", "/hello").await });
    until("a request at the backend", || backend.received() > 0).await;
    for _ in 0..5 {
        assert_eq!(call(address, "GET", "/no").await.status, 503);
    }
    waiting.abort();
    let (metrics, lines) = stop_and_report(&mut service, admin).await;
    assert_eq!(metric(&metrics, "retry_service_requests_rejected_total{reason=\"max_in_flight\"}"), 5.0);
    let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    let why = "responded 503, too many requests in flight (--max-in-flight): ";
    assert!(messages[0].starts_with(&format!("{why}127.0.0.1 GET /no; id ")), "{messages:?}");
    // Further requests within a second are logged at its end, or when the process stops.
    let more = messages.iter().filter_map(|message| message.strip_prefix(why)?.strip_suffix(" more requests"));
    let more: usize = more.map(|number| number.parse::<usize>().unwrap()).sum();
    let alone = messages.iter().filter(|message| message.contains("GET /no")).count();
    assert_eq!((more + alone, lines[0]["level"].as_str()), (5, Some("WARN")), "{messages:?}");
    assert!(lines.iter().all(|line| line["target"] == "rejected"), "{lines:?}");
}

#[tokio::test]
async fn a_rejected_tunnel_is_logged() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let upstream = Upstream::playing([Reply::new(switch)]).await;
    let mut service = gateway(upstream.address, &[&REPORTING[..], &["--max-tunnels", "1"]].concat()).await;
    let admin = service.admin().await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let mut clients = Vec::new();
    for expected in ["HTTP/1.1 101 ", "HTTP/1.1 503 "] {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut head = vec![0; expected.len()];
        within("a response", client.read_exact(&mut head)).await.unwrap();
        assert_eq!(String::from_utf8(head).unwrap(), expected);
        clients.push(client);
    }
    drop(clients);
    let (metrics, lines) = stop_and_report(&mut service, admin).await;
    assert_eq!(metric(&metrics, "retry_service_requests_rejected_total{reason=\"max_tunnels\"}"), 1.0);
    let messages: Vec<_> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    let why = "responded 503, too many open tunnels (--max-tunnels): 127.0.0.1 GET /; id ";
    assert!(messages.len() == 1 && messages[0].starts_with(why), "{messages:?}");
}

#[tokio::test]
async fn rejected_bodies_and_loops_are_logged() {
    let upstream = Upstream::playing([Reply::new("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")]).await;
    let requests = [
        ("POST /large HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello", 413),
        ("POST /large HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 413),
    ];
    for (request, status) in requests {
        let mut service = gateway(upstream.address, &[&REPORTING[..], &["--max-body-size", "4"]].concat()).await;
        let admin = service.admin().await;
        let request = request.replacen("host", "connection: close\r\nhost", 1);
        let response = within("a response", exchange_bytes(service.address, &request)).await;
        assert!(response.starts_with(format!("HTTP/1.1 {status} ").as_bytes()), "{request}");
        let (metrics, lines) = stop_and_report(&mut service, admin).await;
        assert_eq!(metric(&metrics, "retry_service_requests_rejected_total{reason=\"max_body_size\"}"), 1.0);
        assert_eq!(lines.len(), 1, "{lines:?}");
        let message = lines[0]["message"].as_str().unwrap();
        assert!(
            message.starts_with("responded 413, request body too large (--max-body-size): 127.0.0.1 POST /large; id ")
        );
        assert_eq!(lines[0]["status"], 413);
    }
    let mut service = gateway(upstream.address, &REPORTING).await;
    let admin = service.admin().await;
    within("a response", exchange_bytes(service.address, GET)).await;
    let received = upstream.received();
    let via = received[received.len() - 1].fields("via")[0].to_owned();
    let request = GET.replacen("host", &format!("via: {via}\r\nhost"), 1);
    let response = within("a response", exchange_bytes(service.address, &request)).await;
    assert!(response.starts_with(b"HTTP/1.1 508 "), "{request}");
    let (metrics, lines) = stop_and_report(&mut service, admin).await;
    assert_eq!(metric(&metrics, "retry_service_requests_rejected_total{reason=\"loop\"}"), 1.0);
    assert_eq!((lines.len(), &lines[0]["status"]), (1, &508.into()), "{lines:?}");
}

#[tokio::test]
async fn requests_aborted_by_the_drain_are_logged_as_such() {
    let part = chunked("", "3\r\nabc\r\n");
    let length = part.len();
    let hour = Duration::from_secs(3600);
    let upstream = Upstream::start(move |_, request| {
        let before = if request.starts_with("GET /part") { length } else { 0 };
        Reply::new(part.clone() + "x").pausing(before, hour)
    })
    .await;
    let flags = ["--access-log", "--drain-timeout", "10ms", "--timeout", "off"];
    let mut service = gateway(upstream.address, &flags).await;
    let mut clients = Vec::new();
    for path in ["/none", "/part"] {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
        clients.push(client);
    }
    let mut response = Vec::new();
    while !response.ends_with(b"abc\r\n") {
        assert_ne!(within("the response", clients[1].read_buf(&mut response)).await.unwrap(), 0);
    }
    until("two requests at the upstream", || upstream.received().len() == 2).await;
    let lines = service.stop().await;
    let messages: Vec<_> = lines.iter().map(|line| message(line)).collect();
    assert!(messages.contains(&"Drain ended; aborted requests: 2, connections: 2 (tunnels: 0)"), "{messages:?}");
    let aborted: Vec<_> = messages.iter().filter(|message| message.ends_with(", aborted by the drain")).collect();
    assert_eq!(aborted.len(), 2, "{messages:?}");
    assert!(aborted.iter().any(|message| message.contains(" GET /none 0 0 bytes in ")), "{messages:?}");
    assert!(aborted.iter().any(|message| message.contains(" GET /part 200 3 bytes in ")), "{messages:?}");
    assert_eq!(within("the exit", service.exit()).await.code(), Some(1));
}

//! What operators see of the program: its logs, its metrics, and how it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is the message"
)]

mod support;

use serde_json::Value;
use support::{QUICK, Service, backend, call, gateway, message, refusing};

/// The value of one metric, labels included in its name.
#[track_caller]
fn metric(told: &str, name: &str) -> f64 {
    let line = told.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("no {name} in {told}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn metrics_tell_of_requests_attempts_retries_and_give_ups() {
    let backend = backend("status=503,ok,reset,ok,status=503").await;
    let mut service = gateway(backend.address(), &["--admin", "127.0.0.1:0", "--count", "1"]).await;
    let admin = service.admin().await;
    for expected in [200, 200, 503] {
        assert_eq!(call(service.address, "GET", "/hello").await.status, expected);
    }
    let answer = call(admin, "GET", "/metrics").await;
    answer.has_header("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8");
    let told = answer.body;
    for (name, expected) in [
        ("requests_total{method=\"GET\",code=\"200\"}", 2.0),
        ("requests_total{method=\"GET\",code=\"503\"}", 1.0),
        ("request_duration_seconds_count", 3.0),
        ("attempts_total{outcome=\"503\"}", 3.0),
        ("attempts_total{outcome=\"broken\"}", 1.0),
        ("attempts_total{outcome=\"200\"}", 2.0),
        ("attempt_duration_seconds_count", 6.0),
        ("retries_total{reason=\"503\"}", 2.0),
        ("retries_total{reason=\"broken\"}", 1.0),
        ("give_ups_total{reason=\"no_retries_left\"}", 1.0),
        ("waits_in_progress", 0.0),
        ("requests_in_flight", 0.0),
    ] {
        assert_eq!(metric(&told, &format!("retry_service_{name}")), expected, "{name} of {told}");
    }
    assert!(metric(&told, "retry_service_upstream_connections") >= 1.0);
    let budget = metric(&told, "retry_service_budget_left");
    assert!(budget > 0.0 && budget < 11.0, "{budget}");
    assert!(told.ends_with("# EOF\n"));
}

#[tokio::test]
async fn waits_are_counted_while_they_last() {
    let backend = backend("status=503").await;
    let mut service =
        gateway(backend.address(), &["--admin", "127.0.0.1:0", "--interval", "1h", "--max-wait-interval", "1h"]).await;
    let (admin, address) = (service.admin().await, service.address);
    let waiting = tokio::spawn(async move { call(address, "GET", "/hello").await });
    while metric(&call(admin, "GET", "/metrics").await.body, "retry_service_waits_in_progress") < 1.0 {}
    assert_eq!(metric(&call(admin, "GET", "/metrics").await.body, "retry_service_requests_in_flight"), 1.0);
    waiting.abort();
    while metric(&call(admin, "GET", "/metrics").await.body, "retry_service_waits_in_progress") > 0.0 {}
    let told = call(admin, "GET", "/metrics").await.body;
    assert_eq!(metric(&told, "retry_service_requests_total{method=\"GET\",code=\"499\"}"), 1.0);
}

#[tokio::test]
async fn it_is_healthy_to_its_end_and_ready_until_it_drains() {
    let backend = backend("hang").await;
    let mut service = gateway(backend.address(), &["--admin", "127.0.0.1:0", "--timeout", "off"]).await;
    let (admin, address) = (service.admin().await, service.address);
    assert_eq!(call(admin, "GET", "/readyz").await.body, "ready\n");
    let request = tokio::spawn(async move { call(address, "GET", "/hello").await });
    while backend.received() == 0 {
        tokio::task::yield_now().await;
    }
    service.signal("TERM").await;
    assert!(service.next_log().await.contains("Stopping"));
    let answer = call(admin, "GET", "/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "draining\n"));
    assert_eq!(call(admin, "GET", "/healthz").await.status, 200);
    request.abort();
    assert!(service.exit().await.success());
}

#[tokio::test]
async fn the_admin_listener_shows_the_settings_without_the_password() {
    let mut service = {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_retry-service"));
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--upstream",
            "http://me:secret@127.0.0.1:1",
            "--admin",
            "127.0.0.1:0",
        ]);
        Service::spawn(command).await
    };
    let admin = service.admin().await;
    let config = call(admin, "GET", "/config").await.body;
    assert!(config.contains("upstream = \"http://***@127.0.0.1:1\"") && config.contains("count = \"3\""), "{config}");
    assert_eq!(call(admin, "GET", "/").await.status, 404);
}

#[tokio::test]
async fn a_request_that_was_retried_is_one_line_of_the_log() {
    let backend = backend("status=503,reset,ok,ok").await;
    let mut service = gateway(backend.address(), &[]).await;
    let id = call(service.address, "GET", "/hello?token=secret").await.headers;
    let (_, id) = id.split_once("x-request-id: ").unwrap();
    let id = id.lines().next().unwrap().to_owned();
    assert_eq!(call(service.address, "GET", "/hello").await.status, 200);
    service.signal("TERM").await;
    let lines = service.rest_of_log().await;
    let told: Vec<_> = lines.iter().map(|line| message(line)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("GET /hello: attempt 1 answered 503 Service Unavailable in "), "{}", told[0]);
    assert!(told[0].contains("s; 1ms later attempt 2 the connection broke: "), "{}", told[0]);
    assert!(
        told[0].contains("attempt 3 answered 200 OK in ") && told[0].ends_with(&format!("; id {id}")),
        "{}",
        told[0]
    );
}

#[tokio::test]
async fn logs_can_be_json() {
    let (upstream, _socket) = refusing();
    let arguments = ["--log-format", "json", "--access-log", "--count", "1"];
    let mut service = Service::start(upstream, &[&QUICK[..], &arguments].concat()).await;
    assert_eq!(call(service.address, "GET", "/a").await.status, 502);
    let failed: Value = serde_json::from_str(&service.next_log().await).unwrap();
    assert_eq!((&failed["level"], &failed["target"]), (&"WARN".into(), &"retries".into()));
    assert_eq!((&failed["attempts"], &failed["path"]), (&2.into(), &"/a".into()));
    assert!(failed["message"].as_str().unwrap().contains("no retries left"), "{failed}");
    let access: Value = serde_json::from_str(&service.next_log().await).unwrap();
    assert_eq!((&access["target"], &access["status"]), (&"access".into(), &502.into()));
    assert_eq!(access["request_id"], failed["request_id"]);
    assert_eq!((&access["attempts"], &failed["attempts"]), (&2.into(), &2.into()));
    access["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
}

#[tokio::test]
async fn a_caller_that_hangs_up_is_in_the_access_log() {
    let backend = backend("hang").await;
    let mut service = gateway(backend.address(), &["--access-log"]).await;
    let address = service.address;
    let request = tokio::spawn(async move { call(address, "GET", "/hello").await });
    while backend.received() == 0 {
        tokio::task::yield_now().await;
    }
    request.abort();
    let line = service.next_log().await;
    assert!(message(&line).contains(" GET /hello 499 0 bytes in "), "{line}");
    assert!(message(&line).ends_with(", caller hung up"), "{line}");
}

#[tokio::test]
async fn upstream_connections_are_limited() {
    let backend = backend("delay=50ms").await;
    let service = gateway(backend.address(), &["--upstream-max-connections", "2"]).await;
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

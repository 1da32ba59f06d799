//! What operators see of the program: its logs, its metrics, and how it ends.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{net::SocketAddr, process::Command};

use retry_service::settings::LogFormat;
use serde_json::Value;
use support::{QUICK, Service, backend, call, gateway, message, refusing, within};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

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

/// Several calls, one after another on the same connection.
async fn call_often(address: SocketAddr, path: &str, times: usize) {
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    for _ in 0..times {
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
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_up_nothing() {
    // 12 MB of lines: more than a pipe and the queue hold.
    let (upstream, _socket) = refusing();
    let mut service = Service::start(upstream, &["--admin", "127.0.0.1:0", "--access-log"]).await;
    let (admin, address, path) = (service.admin().await, service.address, format!("/{}", "x".repeat(12_000)));
    within("all responses", call_often(address, &path, 1000)).await;
    let health = within("/healthz", call(admin, "GET", "/healthz")).await;
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    let told = call(admin, "GET", "/metrics").await.body;
    let dropped = metric(&told, "retry_service_log_lines_dropped_total");
    assert!(dropped > 0.0 && dropped < 1000.0, "{dropped}");
    service.signal("TERM").await;
    assert!(within("the exit", service.exit()).await.success());
}

#[tokio::test]
async fn dropped_lines_are_told_once_there_is_room_again() {
    let (upstream, _socket) = refusing();
    for format in ["sample", "json"] {
        let arguments = ["--admin", "127.0.0.1:0", "--access-log", "--log-format", format];
        let mut service = Service::start(upstream, &arguments).await;
        let (admin, path) = (service.admin().await, format!("/{}", "x".repeat(12_000)));
        within("all responses", call_often(service.address, &path, 1000)).await;
        let told = call(admin, "GET", "/metrics").await.body;
        let dropped = metric(&told, "retry_service_log_lines_dropped_total");
        let note = async {
            loop {
                let line = service.next_log().await;
                if !line.contains(&path) {
                    return line;
                }
            }
        };
        let line = within("the line about the dropped ones", note).await;
        let expected = format!("{dropped} lines of the log were dropped");
        if format == "json" {
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &expected.into()));
        } else {
            assert_eq!(message(&line), expected);
        }
        // What is logged from now on is read.
        assert_eq!(call(service.address, "GET", "/after").await.status, 404);
        service.log_line("/after").await;
    }
}

/// Runs itself again, as a process that panics.
#[test]
fn a_panic_comes_out() {
    if std::env::var_os("PANICS").is_some() {
        let _log = retry_service::log_line::install(LogFormat::Sample, "info", Default::default()).unwrap();
        panic!("this one");
    }
    let mut panicking = Command::new(std::env::current_exe().unwrap());
    panicking.args(["--exact", "a_panic_comes_out", "--nocapture"]).env("PANICS", "1");
    let told = String::from_utf8(panicking.output().unwrap().stderr).unwrap();
    assert!(told.contains("thread 'a_panic_comes_out' panicked at "), "{told}");
    assert!(told.contains(":\nthis one\n"), "{told}");
}

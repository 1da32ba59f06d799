//! The binary, end to end: the sample, its exit codes, and its command line.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the message")]

use std::{
    process::{Output, Stdio},
    sync::atomic::Ordering::SeqCst,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    process::Command,
    time::{Instant, timeout},
};

use delayed_backend::Backend;

mod support;
use support::{Service, call, delayed_backend, message, raw_backend, refusing};

/// Short delays, and a timeout that only a delayed response exceeds.
const QUICK: [&str; 4] = ["--interval", "1ms", "--timeout", "300ms"];

#[tokio::test]
async fn parity_retry_responds_to_every_method_with_the_backends_text() {
    let (backend, _running) = delayed_backend(Duration::ZERO).await;
    let service = Service::start(backend, &QUICK).await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
        let response = call(service.address, method, "/retry?x=1").await;
        assert_eq!((response.status, response.text().as_str()), (200, "Hello World!!!"), "{method}");
        response.has_header("content-type: text/plain");
        response.has_header("content-length: 14");
    }
    let head = call(service.address, "HEAD", "/retry").await;
    assert_eq!((head.status, head.text().as_str()), (200, ""));
    head.has_header("content-type: text/plain");
    head.has_header("content-length: 14");
}

#[tokio::test]
async fn parity_the_fourth_attempt_gets_the_response() {
    let (backend, _running) = delayed_backend(Duration::from_secs(60)).await;
    let flags = ["--interval", "20ms", "--max-wait-interval", "30ms", "--timeout", "300ms"];
    let mut service = Service::start(backend, &flags).await;
    let begin = Instant::now();
    let response = call(service.address, "GET", "/retry").await;
    assert_eq!((response.status, response.text().as_str()), (200, "Hello World!!!"));
    assert!(begin.elapsed() >= Duration::from_millis(3 * 300 + 20 + 30 + 30));
    for (number, wait) in [(1, "20ms"), (2, "30ms"), (3, "30ms")] {
        let expected = format!(
            "GET http://{backend}/hello: attempt {number} of 4 failed: \
             idle timeout: nothing was read or written for 300ms; next attempt in {wait}"
        );
        let line = service.next_log().await;
        assert_eq!(message(&line), expected);
        assert!(line.contains(r#" level = WARN  module = "" message = "#), "{line}");
    }
    service.signal("TERM").await;
    assert_eq!(service.rest_of_log().await.len(), 1, "one line for each failed attempt, and one for the stop");
}

#[tokio::test]
async fn parity_4xx_and_5xx_are_passed_on_with_body_and_content_headers() {
    let (backend, requests, _tasks) = raw_backend(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/html\r\ncontent-language: de\r\n\
         x-internal: 1\r\ncontent-length: 4\r\nconnection: close\r\n\r\nbusy",
    )
    .await;
    let service = Service::start(backend, &QUICK).await;
    let response = call(service.address, "GET", "/retry").await;
    assert_eq!((response.status, response.text().as_str(), requests.load(SeqCst)), (503, "busy", 1));
    response.has_header("content-type: text/html");
    response.has_header("content-language: de");
    response.has_header("content-length: 4");
    assert!(!response.head.contains("x-internal"));

    let listed = Service::start(backend, &[&QUICK[..], &["--status-codes", "502,503"]].concat()).await;
    let response = call(listed.address, "POST", "/retry").await;
    assert_eq!((response.status, response.text().as_str(), requests.load(SeqCst)), (503, "busy", 5));
}

#[tokio::test]
async fn parity_a_refused_connection_is_502_after_the_last_retry() {
    let (backend, _socket) = refusing();
    let mut service = Service::start(backend, &QUICK).await;
    let response = call(service.address, "PUT", "/retry?x=1").await;
    assert_eq!(response.status, 502);
    response.has_header("content-type: application/json");
    assert_eq!(response.json("message"), "Something wrong with the connection: Connection refused (os error 111)");
    assert_eq!((response.json("status"), response.json("reason")), (502.into(), "Bad Gateway".into()));
    assert_eq!((response.json("path"), response.json("method")), ("/retry?x=1".into(), "PUT".into()));
    for number in 1..4 {
        assert!(message(&service.next_log().await).contains(&format!("attempt {number} of 4 failed: cannot connect")));
    }
    assert!(message(&service.next_log().await).ends_with("(os error 111); no retries left"));
}

#[tokio::test]
async fn parity_an_idle_timeout_is_500_after_the_last_retry() {
    let (backend, requests, _tasks) = raw_backend("").await;
    let service = Service::start(backend, &QUICK).await;
    let response = call(service.address, "GET", "/retry").await;
    assert_eq!((response.status, requests.load(SeqCst)), (500, 4));
    assert_eq!(response.json("message"), "Idle timeout triggered before initiating inbound response");
    assert_eq!(response.json("reason"), "Internal Server Error");
    let fields: Vec<_> = ["timestamp", "status", "reason", "message", "path", "method"]
        .map(|field| response.text().find(&format!("\"{field}\":")).unwrap())
        .into();
    assert!(fields.is_sorted(), "{}", response.text());
}

#[tokio::test]
async fn parity_another_path_is_404_with_the_error_payload() {
    let (backend, _socket) = refusing();
    let service = Service::start(backend, &QUICK).await;
    for path in ["/", "/retry/", "/x"] {
        let response = call(service.address, "GET", &format!("{path}?q")).await;
        assert_eq!(response.status, 404);
        let expected = format!("no matching resource found for path : {path} , method : GET");
        assert_eq!((response.json("message"), response.json("path")), (expected.into(), format!("{path}?q").into()));
    }
}

#[tokio::test]
async fn sigterm_during_a_delay_does_not_cancel_the_request() {
    let (backend, _running) = delayed_backend(Duration::from_secs(60)).await;
    let mut service = Service::start(backend, &["--interval", "500ms", "--timeout", "300ms"]).await;
    let address = service.address;
    let client = tokio::spawn(async move { call(address, "GET", "/retry").await });
    assert!(service.next_log().await.contains("attempt 1 of 4"));
    service.signal("TERM").await;
    assert!(message(&service.next_log().await).starts_with("Stopping"));
    assert!(TcpStream::connect(address).await.is_err(), "new connections are not accepted");
    assert_eq!(client.await.unwrap().text(), "Hello World!!!");
    assert!(service.exit().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_the_process_at_once() {
    let (backend, _requests, _tasks) = raw_backend("").await;
    let mut service = Service::start(backend, &["--interval", "1h", "--timeout", "100ms"]).await;
    let mut client = TcpStream::connect(service.address).await.unwrap();
    client.write_all(b"GET /retry HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(service.next_log().await.contains("attempt 1 of 4"));
    service.signal("INT").await;
    assert!(message(&service.next_log().await).starts_with("Stopping"));
    service.signal("INT").await;
    let expected = "Drain ended; aborted requests: 1, connections: 1 (tunnels: 0)";
    assert_eq!(message(&service.next_log().await), expected);
    assert_eq!(service.exit().await.code(), Some(1));
}

#[tokio::test]
async fn retries_stop_when_the_client_disconnects() {
    let (backend, requests, _tasks) = raw_backend("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n").await;
    let flags = ["--interval", "1h", "--max-wait-interval", "1h", "--status-codes", "503", "--access-log"];
    let mut service = Service::start(backend, &flags).await;
    for (round, request) in
        ["GET /retry HTTP/1.1\r\nhost: x\r\n\r\n", "POST /retry HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"]
            .into_iter()
            .enumerate()
    {
        let mut client = TcpStream::connect(service.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        assert!(service.next_log().await.contains("attempt 1 of 4"));
        drop(client);
        let line = timeout(Duration::from_secs(30), service.next_log()).await.expect(request);
        assert!(line.contains("client disconnected before the response"), "{request}: {line}");
        assert_eq!(requests.load(SeqCst), round + 1);
    }
}

#[tokio::test]
async fn a_backend_that_recovers_during_a_delay_gets_the_next_attempt() {
    let (backend, socket) = refusing();
    let mut service = Service::start(backend, &["--interval", "300ms", "--timeout", "60s"]).await;
    let address = service.address;
    let client = tokio::spawn(async move { call(address, "GET", "/retry").await });
    assert!(service.next_log().await.contains("attempt 1 of 4"));
    let healthy = "ok".parse().unwrap();
    let _backend = Backend::start_on(socket.listen(16).unwrap(), healthy).unwrap();
    let response = client.await.unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, "Hello World!!!"));
}

#[tokio::test]
async fn credentials_are_never_shown() {
    let (address, _socket) = refusing();
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command
        .args(["--listen", "127.0.0.1:0", "--interval", "1ms"])
        .env("RETRY_SERVICE_UPSTREAM", format!("http://me:secret@{address}"))
        .env("RETRY_SERVICE_PATH", "/hello?token=hidden")
        .env("RUST_LOG", "trace");
    let mut service = Service::spawn(command).await;
    let response = call(service.address, "GET", "/retry").await;
    service.signal("TERM").await;
    let shown = service.rest_of_log().await.join("\n") + &response.text();
    assert!(shown.contains("cannot connect"), "{shown}");
    assert!(!shown.contains("secret") && !shown.contains("bWU6"), "{shown}");
}

async fn run_to_end(arguments: &[&str]) -> Output {
    support::watch();
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.args(arguments).stdin(Stdio::null()).output().await.unwrap()
}

#[track_caller]
fn assert_one_line(output: &Output, code: i32, expected: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains(expected), "{stderr:?} lacks {expected:?}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn invalid_arguments_are_reported_in_one_line_with_exit_code_2() {
    for (arguments, expected) in [
        (["--interval", "soon"], "'soon' for '--interval <DURATION>': expected a duration such as 3s"),
        (["--count", "-1"], "'--count <N>'"),
        (["--count", "many"], "'many' for '--count <N>': expected a whole number from 0"),
        (["--backoff-factor", "0"], "--backoff-factor: invalid value '0': expected a finite number above zero"),
        (["--backoff-factor", "-2"], "--backoff-factor: invalid value '-2': expected a finite number above zero"),
        (["--backoff-factor", "NaN"], "--backoff-factor: invalid value 'NaN': expected a finite number above zero"),
        (["--max-wait-interval", "0"], "--max-wait-interval: invalid value '0': expected a time above zero"),
        (["--timeout", "0"], "'0' for '--timeout <DURATION>': expected more than zero, or a negative value"),
        (["--interval", "-1"], "'-1' for '--interval <DURATION>': expected a duration such as 3s"),
        (["--deadline", "-1"], "'-1' for '--deadline <DURATION>': expected a duration such as 3s"),
        (["--interval", "-200ms"], "'-200ms' for '--interval <DURATION>': expected a duration such as 3s"),
        (["--budget-min-per-sec", "-5"], "'-5' for '--budget-min-per-sec <N>': expected a whole number from 0"),
        (["--forward", "true"], "error: --forward true: expected --forward or --forward=true"),
        (
            ["--upstream=http://a", "--upstream=http://b"],
            "error: --upstream: 'http://b': expected one URL without --forward",
        ),
        (["--upstream", "http://h:0"], "error: --upstream: port 0 cannot be connected to"),
        (["--upstream", "http://h/#x"], "--upstream: 'http://h/#x': expected no fragment"),
        (["--upstream-ca", "/no/such.pem"], "error: --upstream-ca: '/no/such.pem': No such file"),
        (["--connect-timeout", "0s"], "'0s' for '--connect-timeout <DURATION>': expected more than zero"),
        (["--status-codes", "5xx"], "'5xx' for '--status-codes <CODES>': expected codes from 100 to 999"),
        (["--retry-methods", "some"], "'some' for '--retry-methods <METHODS>' [possible values: idempotent, all]"),
        (["--upstream", "localhost:8080"], "--upstream: 'localhost:8080': expected a URL that starts with"),
        (["--upstream", "http://me:secret@h:x"], "--upstream: 'http://***@h:x': its host, port"),
        (["--path", "hello"], "'hello' for '--path <PATH>': expected a path that starts with /"),
        (["--listen", ":9090"], "':9090' for '--listen <[HOST:]PORT>': expected HOST:PORT or a port"),
        (["--intervall", "3s"], "unexpected argument '--intervall' found"),
        (["--port", "8080"], "unexpected argument '--port' found; tip: this program has '--listen'"),
    ] {
        assert_one_line(&run_to_end(&arguments).await, 2, expected);
    }
}

#[tokio::test]
async fn a_port_in_use_is_reported_in_one_line_with_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert_one_line(&run_to_end(&["--listen", &address]).await, 1, &format!("cannot listen on {address}: "));
    let arguments = ["--listen", "127.0.0.1:0", "--admin", &address];
    assert_one_line(&run_to_end(&arguments).await, 1, &format!("--admin: cannot listen on {address}: "));
}

#[tokio::test]
async fn every_flag_can_be_set_in_the_environment() {
    let (backend, requests, _tasks) =
        raw_backend("HTTP/1.1 502 Bad\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    for (name, value) in [
        ("LISTEN", "localhost:0"),
        ("UPSTREAM", &format!("http://{backend}")),
        ("PATH", "/other"),
        ("INTERVAL", "0.001"),
        ("COUNT", "2"),
        ("BACKOFF_FACTOR", "1.5"),
        ("MAX_WAIT_INTERVAL", "1"),
        ("TIMEOUT", "-1"),
        ("CONNECT_TIMEOUT", "5s"),
        ("STATUS_CODES", "502"),
        ("RETRY_METHODS", "all"),
    ] {
        command.env(format!("RETRY_SERVICE_{name}"), value);
    }
    let mut service = Service::spawn(command).await;
    assert_eq!(call(service.address, "GET", "/retry").await.status, 502);
    assert_eq!(requests.load(SeqCst), 3);
    let line = service.next_log().await;
    assert!(line.contains("/other: attempt 1 of 3 returned 502 Bad Gateway; next attempt in 1ms"), "{line}");
}

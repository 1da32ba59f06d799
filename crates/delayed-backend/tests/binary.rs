//! The program, end to end.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the message")]

use std::process::{Output, Stdio};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Unit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::Instant;

mod support;
use support::{Backend, exchange, message, request, watch};

async fn run_to_end(arguments: &[&str]) -> Output {
    watch();
    let mut command = Command::new(env!("CARGO_BIN_EXE_delayed-backend"));
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
async fn parity_log_messages_match_the_sample() {
    let mut backend = Backend::start(&["--delay", "50ms"]).await;
    for _ in 0..4 {
        let response = exchange(backend.address, &request("GET", "/hello")).await;
        assert!(response.ends_with("Hello World!!!"), "{response}");
    }
    let delayed = "Request received from the client to delayed service.";
    let healthy = "Request received from the client to healthy service.";
    for expected in [delayed, delayed, delayed, healthy] {
        let line = backend.next_log().await;
        let (time, rest) = line.strip_prefix("time = ").unwrap().split_at(23);
        DateTime::strptime("%Y-%m-%d %H:%M:%S,%f", time).unwrap();
        assert_eq!(rest, format!(r#" level = INFO  module = "" message = "{expected}""#));
    }
}

#[tokio::test]
async fn a_fault_that_is_not_reached_is_logged_with_the_reason() {
    let mut backend = Backend::start(&["--script", "truncate=99,stall-after=5000"]).await;
    let first = exchange(backend.address, &request("GET", "/hello")).await;
    let second = exchange(backend.address, &request("GET", "/hello")).await;
    assert_eq!(first, second);
    let length = second.len();
    for expected in [
        "GET /hello: truncate=99",
        "GET /hello: truncate=99: not reached, as the body has 14 bytes",
        "GET /hello: stall-after=5000",
        &format!("GET /hello: stall-after=5000: not reached, as {length} bytes have been sent"),
    ] {
        assert_eq!(message(&backend.next_log().await), expected);
    }
}

#[tokio::test]
async fn parity_only_requests_that_count_are_logged() {
    let mut backend = Backend::start(&["--healthy-every", "1"]).await;
    for (method, path) in [("GET", "/"), ("OPTIONS", "/hello"), ("POST", "/hello"), ("GET", "/hello")] {
        exchange(backend.address, &request(method, path)).await;
    }
    assert_eq!(message(&backend.next_log().await), "Request received from the client to healthy service.");
}

#[tokio::test]
async fn a_wrong_path_is_logged_with_those_that_exist() {
    let mut backend = Backend::start(&["--script", "ok"]).await;
    exchange(backend.address, &request("GET", "/")).await;
    let expected = "GET /: no such path; there are /hello, /echo, /bytes/N and /requests";
    assert_eq!(message(&backend.next_log().await), expected);
}

#[tokio::test]
async fn a_script_of_a_stub_file_is_logged_for_requests_that_match_no_stub() {
    let file = std::env::temp_dir().join(format!("delayed-backend-script-{}.toml", std::process::id()));
    std::fs::write(&file, "script = 'delay=1ms,ok'\n[[stub]]\npath = '/a'").unwrap();
    let mut backend = Backend::start(&["--stubs", file.to_str().unwrap()]).await;
    std::fs::remove_file(&file).unwrap();
    for expected in ["GET /b: delay=1ms (no stub matches)", "GET /b: ok (no stub matches)"] {
        exchange(backend.address, &request("GET", "/b")).await;
        assert_eq!(message(&backend.next_log().await), expected);
    }
}

#[tokio::test]
async fn parity_delayed_responses_take_the_delay() {
    let backend = Backend::start(&["--delay", "200ms", "--healthy-every", "2"]).await;
    let start = Instant::now();
    let response = exchange(backend.address, &request("GET", "/hello")).await;
    assert!(response.ends_with("Hello World!!!"), "{response}");
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn parity_log_time_is_local() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delayed-backend"));
    command.args(["--listen", "127.0.0.1:0"]).env("TZ", "Asia/Kathmandu");
    let backend = Backend::spawn(command).await;
    let (time, _) = backend.first_line.strip_prefix("time = ").unwrap().split_at(23);
    let logged = DateTime::strptime("%Y-%m-%d %H:%M:%S,%f", time).unwrap();
    let zone = TimeZone::get("Asia/Kathmandu").unwrap();
    let now = Timestamp::now().to_zoned_datetime(zone).datetime();
    assert!(logged.until(now).unwrap().total(Unit::Second).unwrap().abs() < 60.0, "{logged} {now}");
}

#[tokio::test]
async fn flags_can_be_set_in_the_environment() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delayed-backend"));
    command
        .env("DELAYED_BACKEND_LISTEN", "localhost:0")
        .env("DELAYED_BACKEND_DELAY", "1h")
        .env("DELAYED_BACKEND_HEALTHY_EVERY", "1");
    let mut backend = Backend::spawn(command).await;
    exchange(backend.address, &request("GET", "/hello")).await;
    assert!(message(&backend.next_log().await).contains("healthy"));
}

#[tokio::test]
async fn rust_log_selects_the_events() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_delayed-backend"));
    command
        .args(["--listen", "127.0.0.1:0", "--healthy-every", "1"])
        .env("RUST_LOG", "delayed_backend=info,delayed_backend::handler=off");
    let mut backend = Backend::spawn(command).await;
    exchange(backend.address, &request("GET", "/hello")).await;
    backend.signal("TERM").await;
    assert!(backend.rest_of_log().await.iter().all(|line| !line.contains("Request received")));
}

#[tokio::test]
async fn invalid_arguments_are_reported_in_one_line_with_exit_code_2() {
    for (arguments, expected) in [
        (["--delay", "soon"], "invalid value 'soon' for '--delay <DURATION>': expected a duration such as 3s"),
        (["--delay", "1s\n2"], "'--delay <DURATION>'"),
        (["--delay=-1s", "--delay=1s"], "invalid value '-1s' for '--delay <DURATION>'"),
        (["--healthy-every", "0"], "invalid value '0' for '--healthy-every <N>': expected a whole number from 1"),
        (["--listen", ":8080"], "invalid value ':8080' for '--listen <[HOST:]PORT>': expected HOST:PORT or a port"),
        (["--dely", "3s"], "unexpected argument '--dely' found"),
        (["--port", "8080"], "unexpected argument '--port' found; tip: this program has '--listen'"),
        (["--file", "a.toml"], "unexpected argument '--file' found; tip: this program has '--stubs'"),
        (["--status", "503"], "unexpected argument '--status' found; tip: this program has '--script'"),
        (
            ["--script", "@Cargo.toml"],
            "for '--script <SCRIPT>': this is a file; the script in it is --script \"$(cat FILE)\"",
        ),
    ] {
        assert_one_line(&run_to_end(&arguments).await, 2, expected);
    }
    for (arguments, expected) in [
        (
            &["--script", "ok,statsu=503"][..],
            r#"for '--script <SCRIPT>': item 2, column 4, "statsu": no such behavior; did you mean status=503?"#,
        ),
        (&["--script", "status=503", "retry-after=1"], "a script is given in quotes: --script '"),
        (&["--script", "ok", "--healthy-every", "2"], "cannot be used with '--healthy-every <N>'"),
        (&["--script", "ok", "--seed=-1"], "'--seed <N>': expected a whole number from 0"),
        #[cfg(feature = "tls")]
        (&["--tls-cert-out", "x.pem"], "required arguments were not provided: --tls"),
    ] {
        assert_one_line(&run_to_end(arguments).await, 2, expected);
    }
    assert_one_line(&run_to_end(&["--delay"]).await, 2, "'--delay <DURATION>'");
}

#[tokio::test]
async fn the_log_contains_no_query() {
    let file = std::env::temp_dir().join(format!("delayed-backend-log-{}.toml", std::process::id()));
    std::fs::write(&file, "[[stub]]\npath = '/a'\nresponse = { status = 202 }").unwrap();
    let mut backend = Backend::start(&["--stubs", file.to_str().unwrap(), "--script", "close"]).await;
    std::fs::remove_file(&file).unwrap();
    for (path, expected) in
        [("/a", "GET /a: ok (* /a)"), ("/b", "GET /b: no stub matches"), ("/hello", "GET /hello: close")]
    {
        exchange(backend.address, &request("GET", &format!("{path}?token=secret"))).await;
        assert_eq!(message(&backend.next_log().await), expected);
    }
}

#[tokio::test]
async fn an_invalid_stub_file_is_reported_in_one_line_with_exit_code_2() {
    let file = std::env::temp_dir().join(format!("delayed-backend-{}.toml", std::process::id()));
    let path = file.to_str().unwrap();
    for (text, more, expected) in [
        ("[[stub]]\npath = 'a'", [].as_slice(), ".toml: line 2, column 8, stub.path: a path starts with /, such as"),
        ("script = 'ok'", &["--script", "ok"], "cannot be used with a stub file that has a script; remove one of them"),
    ] {
        std::fs::write(&file, text).unwrap();
        assert_one_line(&run_to_end(&[&["--stubs", path], more].concat()).await, 2, expected);
    }
    std::fs::write(&file, "ok").unwrap();
    let expected = "'--replay <FILE>' cannot be used with '--script <SCRIPT>': a recording is a script itself";
    assert_one_line(&run_to_end(&["--replay", path, "--script", "ok"]).await, 2, expected);
    std::fs::write(&file, "script = 'tls=expired'").unwrap();
    let output = run_to_end(&["--listen", "127.0.0.1:0", "--stubs", path]).await;
    assert_one_line(&output, 1, "the script has faults of the TLS handshake, which need --tls");
    std::fs::remove_file(&file).unwrap();
    assert_one_line(&run_to_end(&["--stubs", path]).await, 2, "for '--stubs <FILE>': cannot read ");
    assert_one_line(&run_to_end(&["--control-port-file", path]).await, 2, "required arguments were not provided");
}

#[tokio::test]
async fn a_script_is_played_and_logged() {
    let script = "delay=0,status=503;retry-after=1,close,ok";
    let mut backend = Backend::start(&["--script", script]).await;
    for (method, path, expected) in [
        ("GET", "/hello", "delay=0s"),
        ("PUT", "/echo", "status=503;retry-after=1"),
        ("GET", "/hello", "close"),
        ("GET", "/", "no such path; there are /hello, /echo, /bytes/N and /requests"),
        ("POST", "/hello", "method not allowed"),
        ("GET", "/bytes/7", "ok"),
    ] {
        exchange(backend.address, &request(method, path)).await;
        assert_eq!(message(&backend.next_log().await), format!("{method} {path}: {expected}"));
    }
    let report = exchange(backend.address, &request("GET", "/requests")).await;
    let (_, json) = report.split_once("\r\n\r\n").unwrap();
    let report: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(report["received"], 6);
    assert_eq!(report["requests"][2]["behavior"], "close");
}

#[tokio::test]
async fn a_recording_is_played_once_for_requests_of_any_path() {
    let file = std::env::temp_dir().join(format!("delayed-backend-{}.txt", std::process::id()));
    let path = file.to_str().unwrap();
    std::fs::write(&file, "# recorded\nstatus=503;retry-after=1, # GET\nok*2, # 2\n\nclose,truncate=5000,\n").unwrap();
    let mut backend = Backend::start(&["--replay", path]).await;
    for (method, target, expected) in [
        ("GET", "/hello", "HTTP/1.1 503 "),
        ("DELETE", "/orders/7?x=1", "HTTP/1.1 200 "),
        ("GET", "/bytes/3", "HTTP/1.1 200 "),
        ("POST", "/hello", ""),
        (
            "PUT",
            "/orders/8",
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: 11024",
        ),
        ("GET", "/hello", "HTTP/1.1 200 "),
        ("GET", "/", "HTTP/1.1 200 "),
    ] {
        let response = exchange(backend.address, &request(method, target)).await;
        assert_eq!(response.get(..expected.len()), Some(expected), "{method} {target}: {response}");
        assert!(!expected.is_empty() || response.is_empty(), "{method} {target}: {response}");
    }
    let report = exchange(backend.address, &request("GET", "/requests")).await;
    assert!(report.contains("\"received\":7"), "{report}");
    assert_eq!(message(&backend.next_log().await), "GET /hello: status=503;retry-after=1");

    std::fs::write(&file, "ok, # fine\nok,\nstatsu=503,\n").unwrap();
    let expected = r#".txt: item 3, line 3, column 1, "statsu": no such behavior; did you mean status=503?"#;
    let output = run_to_end(&["--replay", path]).await;
    assert_one_line(&output, 2, expected);
    assert_one_line(&output, 2, "for '--replay <FILE>': ");
    assert_one_line(&run_to_end(&["--replay", path, "--script", "ok"]).await, 2, "'--replay <FILE>'");
    std::fs::remove_file(&file).unwrap();
    assert_one_line(&run_to_end(&["--replay", path]).await, 2, "for '--replay <FILE>': cannot read ");
}

#[tokio::test]
async fn requests_pass_to_an_upstream_with_the_faults_of_the_script() {
    let upstream = Backend::start(&["--script", "ok"]).await;
    let url = format!("http://{}", upstream.address);
    let mut proxy = Backend::start(&["--upstream", &url]).await;
    assert_eq!(message(&proxy.next_log().await), format!("Upstream: {url}"));
    for _ in 0..4 {
        let response = exchange(proxy.address, &request("GET", "/hello")).await;
        assert!(response.ends_with("Hello World!!!"), "{response}");
        assert_eq!(message(&proxy.next_log().await), "GET /hello: ok", "no delays without a script");
    }

    let proxy = Backend::start(&["--upstream", &url, "--script", "status=503,ok"]).await;
    assert!(exchange(proxy.address, &request("GET", "/hello")).await.starts_with("HTTP/1.1 503 "));
    assert!(exchange(proxy.address, &request("GET", "/hello")).await.starts_with("HTTP/1.1 200 "));

    let output = run_to_end(&["--upstream", "https://example.com"]).await;
    assert_one_line(&output, 2, "--upstream <URL>");
    assert!(String::from_utf8_lossy(&output.stderr).contains("https is not supported"));
}

#[tokio::test]
async fn a_backend_is_not_its_own_upstream() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port().to_string();
    let url = format!("http://localhost:{port}");
    let output = run_to_end(&["--listen", &port, "--upstream", &url]).await;
    assert_one_line(&output, 1, "--upstream: the upstream is this backend itself");
}

#[tokio::test]
async fn the_same_seed_selects_the_same_behaviors() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let mut backend = Backend::start(&["--script", "ok*2,close,status=500", "--seed", "3"]).await;
        let mut log = Vec::new();
        for _ in 0..12 {
            exchange(backend.address, &request("GET", "/hello")).await;
            log.push(message(&backend.next_log().await).to_owned());
        }
        runs.push(log);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_port_in_use_is_reported_in_one_line_with_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run_to_end(&["--listen", &address]).await;
    assert_one_line(&output, 1, &format!("error: cannot listen on {address}: "));
    assert_one_line(&output, 1, "; port 0 selects a free one\n");
    let output = run_to_end(&["--listen", "0", "--control", &address]).await;
    assert_one_line(&output, 1, &format!("error: --control: cannot listen on {address}: "));
}

#[tokio::test]
async fn help_and_version_go_to_standard_output() {
    let help = run_to_end(&["--help"]).await;
    assert!(help.status.success() && help.stderr.is_empty());
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--healthy-every") && help.contains("DELAYED_BACKEND_DELAY"), "{help}");
    let version = run_to_end(&["--version"]).await;
    assert_eq!(
        String::from_utf8(version.stdout).unwrap(),
        concat!("delayed-backend ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[tokio::test]
async fn signals_let_requests_in_flight_finish() {
    for name in ["INT", "TERM"] {
        let mut backend = Backend::start(&["--delay", "300ms"]).await;
        let mut stream = TcpStream::connect(backend.address).await.unwrap();
        stream.write_all(request("GET", "/hello").as_bytes()).await.unwrap();
        assert!(message(&backend.next_log().await).contains("delayed"));

        backend.signal(name).await;
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("Hello World!!!"), "{response}");
        assert_eq!(backend.exit().await.code(), Some(0));
    }
}

#[tokio::test]
async fn a_second_signal_aborts_the_drain() {
    let mut backend = Backend::start(&["--delay", "1h"]).await;
    let mut stream = TcpStream::connect(backend.address).await.unwrap();
    stream.write_all(request("GET", "/hello").as_bytes()).await.unwrap();
    assert!(message(&backend.next_log().await).contains("delayed"));

    backend.signal("TERM").await;
    assert!(message(&backend.next_log().await).contains("Stopping"));
    backend.signal("TERM").await;
    assert_eq!(backend.exit().await.code(), Some(0));
}

#[tokio::test]
async fn accepting_resumes_after_file_descriptors_have_run_out() {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n 24; exec '{}' --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_delayed-backend"));
    command.args(["-c", &script]);
    let mut backend = Backend::spawn(command).await;
    let start = Instant::now();
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(TcpStream::connect(backend.address).await.unwrap());
    }
    let first = backend.next_log().await;
    assert!(message(&first).starts_with("Cannot accept connections: "), "{first}");
    assert!(first.contains("level = WARN "), "{first}");
    drop(clients);

    let response = exchange(backend.address, &request("OPTIONS", "/hello")).await;
    assert!(response.starts_with("HTTP/1.1 204"), "{response}");
    backend.signal("TERM").await;
    let warnings = backend.rest_of_log().await.iter().filter(|line| line.contains("Cannot accept")).count();
    assert!(warnings as u128 <= start.elapsed().as_millis() / 100 + 1, "{warnings}");
}

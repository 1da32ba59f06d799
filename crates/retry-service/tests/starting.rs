//! The first lines of the log, and the diagnosis of an upstream whose URL has the wrong scheme.
#![allow(clippy::unwrap_used, reason = "a failed expectation is the message")]

mod support;

use std::process::Stdio;

use delayed_backend::Backend;
use support::{QUICK, Service, backend, call, message, refusing, within};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

#[tokio::test]
async fn the_first_lines_are_a_summary_and_warnings() {
    let (upstream, _socket) = refusing();
    let first_lines = async |arguments: &[&str], rust_log: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
        command.env("RUST_LOG", rust_log).env("RETRY_SERVICE_CUONT", "5").stderr(Stdio::piped()).kill_on_drop(true);
        command.args(["--listen", "127.0.0.1:0", "--path", "/other"]).args(arguments);
        let mut child = command.args([format!("--upstream=http://me:hush@{upstream}")]).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| !line.starts_with("Serving http://127.0.0.1:")) {
            let line = within("another line", log.next_line()).await.unwrap().unwrap();
            lines.push(message(&line).to_owned());
        }
        lines.pop();
        lines
    };
    let unknown = "RETRY_SERVICE_CUONT is not a setting, and has no effect; did you mean RETRY_SERVICE_COUNT?";
    let path = "--path has no effect: with --forward, every request keeps its own path";
    let gateway = format!("Forwarding to http://***@{upstream} (no configuration file)");
    assert_eq!(first_lines(&["--forward"], "").await, [path, unknown, &gateway]);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/deploy/retry-service.toml");
    let gateway = format!("Forwarding to http://***@{upstream} (configuration file {file})");
    let arguments = ["--config", file, "--admin", "off", "--log-format", "sample"];
    assert_eq!(first_lines(&arguments, "info").await, [path, unknown, &gateway]);
    assert_eq!(first_lines(&[], "info").await, [unknown]);

    let unreadable = "RUST_LOG: 'retries=loud' is ignored: expected a level: off, error, warn, info, debug or trace";
    assert_eq!(first_lines(&[], "info,retries=loud").await, [unreadable, unknown]);
    assert_eq!(first_lines(&[], "retries=loud").await, [unreadable, unknown]);
    let unlikely = "RUST_LOG: 'inof' is not a level; treated as a target; did you mean 'info'?";
    assert_eq!(first_lines(&[], "retry_service=info,inof").await, [unlikely, unknown]);
}

#[tokio::test]
async fn an_upstream_with_the_wrong_scheme_in_its_url_is_diagnosed() {
    let (plain, tls) = (backend("ok").await, Backend::start_tls("ok".parse().unwrap()).await.unwrap());
    for (upstream, status, expected) in [
        (
            plain.url().replace("http://", "https://"),
            503,
            "the server does not speak TLS: a URL for plain HTTP starts with http://",
        ),
        (tls.url().replace("https://", "http://"), 502, "the URL of a server that speaks TLS starts with https://"),
        (tls.url(), 502, "invalid peer certificate: unknown certificate authority; trust it with --upstream-ca"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
        command.args(QUICK).args(["--listen", "127.0.0.1:0", "--count", "0", "--upstream", &upstream]);
        command.args(["--outage-wait", "100ms"]);
        let mut service = Service::spawn(command).await;
        assert_eq!(call(service.address, "GET", "/").await.status, status);
        service.log_line(expected).await;
    }
}

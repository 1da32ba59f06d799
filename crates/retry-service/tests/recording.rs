//! Recordings of what the upstream did, and their replay.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is the message"
)]

mod support;

use std::{fs, path::Path, time::Duration};

use delayed_backend::{Backend, Script};
use support::{
    Service, backend, call, gateway,
    message::send,
    temp_file::TempFile,
    upstream::{Reply, Upstream, ok},
    within,
};
use tokio::{process::Command, time::sleep};

/// Sends requests through a gateway, and returns the statuses that the client gets, 0 for an incomplete response, and the
/// recording.
async fn record(upstream: &Backend, requests: usize) -> (Vec<u16>, String) {
    let file = TempFile::new("");
    let mut service = gateway(upstream.address(), &["--record-faults", file.path(), "--attempt-timeout", "1s"]).await;
    let mut statuses = Vec::new();
    for _ in 0..requests {
        let response = send(service.address, "GET /bytes/100000?key=hush HTTP/1.1", "authorization: hush\r\n").await;
        statuses.push(if response.is_complete { response.status } else { 0 });
    }
    service.stop().await;
    (statuses, fs::read_to_string(file.path()).unwrap())
}

/// Returns what each request met, without delays, which depend on the load of the machine.
fn outcomes(recording: &str) -> Vec<String> {
    let items = recording.lines().filter_map(|line| line.split(", ").next()).filter(|item| !item.starts_with('#'));
    let outcomes = items.flat_map(|item| {
        let (item, count) = item.split_once('*').unwrap_or((item, "1"));
        let parts: Vec<_> = item.split(';').filter(|part| !part.starts_with("delay=") && *part != "ok").collect();
        // How long an outage was is known to the next probe.
        let item =
            parts.join(";").split("=").next().filter(|name| *name == "down").map_or(parts.join(";"), str::to_owned);
        vec![item; count.parse().unwrap()]
    });
    outcomes.collect()
}

#[tokio::test]
async fn a_recording_is_replayed_with_the_same_outcomes() {
    let script = "ok*2,status=503;retry-after=0,reset,delay=5s,down=100ms,close,truncate=70000,ok*3";
    let (statuses, recording) = record(&backend(script).await, 5).await;
    let expected = ["", "", "status=503;retry-after=0", "reset", "", "down", "close", "truncate=70000", "", "", ""];
    assert_eq!(outcomes(&recording)[..8], expected[..8], "{recording}");
    assert!(recording.contains("canceled by a timeout"), "{recording}");
    assert!(!recording.contains("hush"), "{recording}");

    let script = recording.parse::<Script>().unwrap_or_else(|error| panic!("{error}: {recording}")).as_recording();
    let (replayed_statuses, replayed) = record(&Backend::start(script).await.unwrap(), 5).await;
    assert_eq!(replayed_statuses, statuses, "{recording}\n{replayed}");
    assert_eq!(outcomes(&replayed), outcomes(&recording), "{recording}\n{replayed}");
}

#[tokio::test]
async fn only_a_number_or_a_date_is_recorded_of_retry_after() {
    let replies = ["7", "Fri, 31 Dec 1999 23:59:59 GMT", "hush,down=9s"]
        .map(|value| Reply::new(format!("HTTP/1.1 429 Busy\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n")));
    let upstream = Upstream::playing([&replies[..], &[ok("")]].concat()).await;
    let file = TempFile::new("");
    let mut service = gateway(upstream.address, &["--record-faults", file.path()]).await;
    for _ in 0..3 {
        assert_eq!(call(service.address, "GET", "/").await.status, 429);
    }
    service.stop().await;
    let recording = fs::read_to_string(file.path()).unwrap();
    let expected = ["status=429;retry-after=7", "status=429;retry-after-date=0ms", "status=429"];
    assert_eq!(outcomes(&recording), expected, "{recording}");
}

/// Waits until a file has a line of a recording, and returns its text.
async fn written(file: &Path) -> String {
    let read = async {
        loop {
            match fs::read_to_string(file) {
                Ok(text) if text.lines().any(|line| line.starts_with("ok")) => return text,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
    };
    within("a recording", read).await
}

#[cfg(unix)]
#[tokio::test]
async fn a_reload_starts_and_moves_a_recording() {
    let upstream = Upstream::playing([ok("")]).await;
    let (settings, recording) = (TempFile::new(""), TempFile::new(""));
    let moved = Path::new(recording.path()).with_extension("moved");
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.args(["--forward", "--listen", "127.0.0.1:0", "--config", settings.path()]);
    command.args(["--upstream", &format!("http://{}", upstream.address)]);
    let mut service = Service::spawn(command).await;
    call(service.address, "GET", "/").await;

    settings.write(&format!("record-faults = '{}'", recording.path()));
    for _ in 0..2 {
        service.signal("HUP").await;
        service.log_line("Reloaded").await;
        call(service.address, "GET", "/").await;
        if !moved.exists() {
            fs::rename(recording.path(), &moved).unwrap();
        }
    }
    service.stop().await;
    for file in [&moved, Path::new(recording.path())] {
        let text = written(file).await;
        assert_eq!(outcomes(&text), [""], "{text}");
    }
    fs::remove_file(moved).unwrap();

    settings.write("record-faults = '/no/such/folder/file'");
    let service = Command::new(env!("CARGO_BIN_EXE_retry-service"))
        .args(["--forward", "--config", settings.path()])
        .output()
        .await
        .unwrap();
    let error = String::from_utf8(service.stderr).unwrap();
    assert!(error.contains(":1: record-faults: '/no/such/folder/file': No such file"), "{error}");
}

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
use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command, time::sleep};

/// Sends requests through a gateway, and returns the statuses that the client gets, 0 for an incomplete response, and the
/// recording.
async fn record(upstream: &Backend, requests: usize, more: &[&str]) -> (Vec<u16>, String) {
    let file = TempFile::new("");
    let mut service = gateway(upstream.address(), &[&["--record-faults", file.path()], more].concat()).await;
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
    let script = "ok*2,status=503;retry-after=0,reset,ok,down=100ms,close,truncate=70000,ok*3";
    let (statuses, recording) = record(&backend(script).await, 5, &[]).await;
    let expected = ["", "", "status=503;retry-after=0", "reset", "", "down", "close", "truncate=70000"];
    assert_eq!(outcomes(&recording)[..8], expected, "{recording}");
    assert!(!recording.contains("hush"), "{recording}");

    let script = recording.parse::<Script>().unwrap_or_else(|error| panic!("{error}: {recording}")).as_recording();
    let (replayed_statuses, replayed) = record(&Backend::start(script).await.unwrap(), 5, &[]).await;
    assert_eq!(replayed_statuses, statuses, "{recording}\n{replayed}");
    assert_eq!(outcomes(&replayed), outcomes(&recording), "{recording}\n{replayed}");
}

#[tokio::test]
async fn an_attempt_that_timed_out_does_so_in_the_replay() {
    let timeout = &["--attempt-timeout", "300ms"];
    let (_, recording) = record(&backend("delay=1m,ok").await, 1, timeout).await;
    let script = recording.parse::<Script>().unwrap_or_else(|error| panic!("{error}: {recording}")).as_recording();
    let (_, replayed) = record(&Backend::start(script).await.unwrap(), 1, timeout).await;
    for text in [recording, replayed] {
        assert!(
            text.lines().nth(1).is_some_and(|line| line.ends_with("canceled by a timeout or the client")),
            "{text}"
        );
    }
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
async fn configured(upstream: &Upstream, settings: &TempFile) -> Service {
    let mut command = Command::new(env!("CARGO_BIN_EXE_retry-service"));
    command.args(["--forward", "--listen", "127.0.0.1:0", "--config", settings.path()]);
    command.args(["--upstream", &format!("http://{}", upstream.address)]);
    Service::spawn(command).await
}

#[cfg(unix)]
#[tokio::test]
async fn a_recording_goes_on_after_a_reload() {
    let upstream = Upstream::start(|number, _| match number {
        0 => ok("").pausing(0, Duration::from_secs(60)),
        _ => Reply::new("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"),
    });
    let (upstream, recording) = (upstream.await, TempFile::new(""));
    let settings = TempFile::new(&format!("record-faults = '{}'", recording.path()));
    let mut service = configured(&upstream, &settings).await;
    let mut in_flight = TcpStream::connect(service.address).await.unwrap();
    in_flight.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let received = async {
        while upstream.received().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    within("a request", received).await;

    for (more, outcome) in [("", "Reloaded"), ("upstream-ca = '/no/such/file'", "Reload failed")] {
        settings.write(&format!("record-faults = '{}'\n{more}", recording.path()));
        service.signal("HUP").await;
        service.log_line(outcome).await;
    }
    assert_eq!(call(service.address, "GET", "/").await.status, 404);
    drop(in_flight);
    service.stop().await;
    let text = fs::read_to_string(recording.path()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[..2].iter().all(|line| line.starts_with("# retry-service")), "{text}");
    assert!(lines[2].starts_with("delay=") && lines[3].starts_with("status=404"), "{text}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_reload_starts_and_moves_a_recording() {
    let upstream = Upstream::playing([ok("")]).await;
    let (settings, recording) = (TempFile::new(""), TempFile::new(""));
    let moved = Path::new(recording.path()).with_extension("moved");
    let mut service = configured(&upstream, &settings).await;
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
}

#[tokio::test]
async fn a_file_that_cannot_be_recorded_to_is_reported() {
    let pipe = TempFile::new("");
    fs::remove_file(pipe.path()).unwrap();
    assert!(Command::new("mkfifo").arg(pipe.path()).status().await.unwrap().success());
    for (path, expected) in
        [("/no/such/folder/file", "No such file"), (pipe.path(), "is a named pipe; expected a file")]
    {
        let settings = TempFile::new(&format!("record-faults = '{path}'"));
        let service =
            Command::new(env!("CARGO_BIN_EXE_retry-service")).args(["--forward", "--config", settings.path()]).output();
        let error = String::from_utf8(within("an error", service).await.unwrap().stderr).unwrap();
        assert!(error.contains(&format!(":1: record-faults: '{path}': {expected}")), "{error}");
    }
}

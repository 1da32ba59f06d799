//! Every behavior of the backend with every kind of request, over both protocols. The expected outcomes are the table in
//! `docs/what-is-retried.md`, which was reviewed row by row. `UPDATE_DOCS=1` writes the observed outcomes to it, to be
//! reviewed again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the test's message")]

#[path = "../../delayed-backend/tests/support/watchdog.rs"]
mod watchdog;

use std::{env, fmt::Write as _, fs, sync::Arc, time::Duration};

use delayed_backend::Backend;
use http::{Request, Response};
use retry_client::{Body, Client, Error, History, ResponseBody, RetryPolicy, retry_core::Jitter};
use tokio::{sync::Semaphore, task::JoinSet};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/what-is-retried.md");
const BEGIN: &str = "<!-- table -->\n";
const END: &str = "<!-- end of table -->";

/// There is no `reset-after` in the body: over HTTP/2, whether the client reads the head before the reset depends on
/// timing.
const BEHAVIORS: [&str; 26] = [
    "ok",
    "delay=10ms",
    "drip=1ms",
    "status=503",
    "status=503;retry-after=0",
    "status=500",
    "early",
    "hang",
    "reset",
    "close",
    "reset-after=20",
    "close-after=20",
    "stall-after=20",
    "truncate",
    "close-after=300",
    "stall-after=300",
    "chunked",
    "chunked;drip=1ms",
    "chunked;truncate",
    "chunked;close-after=300",
    "chunked;stall-after=300",
    "garbage",
    "huge-headers",
    "down=60ms",
    "goaway",
    "refused-stream",
];

#[derive(Clone, Copy)]
enum Kind {
    Get,
    GetText,
    Put,
    Post,
    PostWithKey,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Get, "GET"),
    (Kind::GetText, "GET as text"),
    (Kind::Put, "PUT"),
    (Kind::Post, "POST"),
    (Kind::PostWithKey, "POST with key"),
];

const PROTOCOLS: [(bool, &str); 2] = [(false, "HTTP/1.1"), (true, "HTTP/2")];

/// Long enough for any response, even on a busy machine.
const LONG_TIMEOUT: Duration = Duration::from_secs(30);

/// How many cells are observed at the same time.
const CONCURRENCY: usize = 24;

const PAYLOAD: &str = "a payload";
const PAYLOAD_SHA256: &str = "d0c27dd3ba9c7d7f7be628d7bec50b9dc6ae296d21315ea880bce1d3042ff571";
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Returns what the caller gets, and after how many attempts.
async fn observe(behavior: &str, kind: Kind, http2: bool) -> String {
    let backend = Backend::start(format!("{behavior},{behavior},ok").parse().unwrap()).await.unwrap();
    let waits = RetryPolicy::builder().count(6).interval(Duration::from_millis(40)).jitter(Jitter::None);
    let client = Client::builder(backend.url())
        .policy(waits.build().unwrap())
        .status_codes([503])
        .timeout(if never_responds(behavior) { Duration::from_secs(1) } else { LONG_TIMEOUT })
        .http2_prior_knowledge(http2)
        .build()
        .unwrap();
    let cell = match kind {
        Kind::GetText => text_cell(client.get(&target()).text().await, &backend),
        _ => response_cell(client.execute(request(kind)).await).await,
    };
    let cell = if behavior.starts_with("down") { without_count(&cell) } else { cell };
    for body in backend.requests().into_iter().filter_map(|request| request.body) {
        let (length, sha256) = match kind {
            Kind::Get | Kind::GetText => (0, EMPTY_SHA256),
            Kind::Put | Kind::Post | Kind::PostWithKey => (PAYLOAD.len() as u64, PAYLOAD_SHA256),
        };
        // The backend responded early, and may not have read the body.
        if behavior != "early" || body.length == length {
            assert_eq!((body.length, &*body.sha256), (length, sha256), "{behavior}: what arrived");
        }
    }
    cell
}

fn never_responds(behavior: &str) -> bool {
    behavior.split(';').any(|part| part.starts_with("hang") || part.starts_with("stall"))
}

/// Replaces the number of attempts during an outage, which depends on timing, if there are several.
fn without_count(cell: &str) -> String {
    match cell.rsplit_once(" · ") {
        Some((cell, "1")) => format!("{cell} · 1"),
        Some((cell, _)) => format!("{cell} · several"),
        None => cell.to_owned(),
    }
}

/// Long enough for the response, which echoes it, to have a body that can be incomplete.
fn target() -> String {
    format!("/echo?{}", "x".repeat(400))
}

fn request(kind: Kind) -> Request<Body> {
    let (method, body) = match kind {
        Kind::Get | Kind::GetText => ("GET", Body::empty()),
        Kind::Put => ("PUT", PAYLOAD.into()),
        Kind::Post | Kind::PostWithKey => ("POST", PAYLOAD.into()),
    };
    let request = Request::builder().method(method).uri(target());
    let request = if matches!(kind, Kind::PostWithKey) { request.header("idempotency-key", "k") } else { request };
    request.body(body).unwrap()
}

async fn response_cell(outcome: Result<Response<ResponseBody>, Error>) -> String {
    let response = match outcome {
        Ok(response) => response,
        Err(error) => return error_cell(&error),
    };
    let (status, attempts) = (response.status().as_u16(), response.extensions().get::<History>().unwrap().attempts());
    let incomplete = if response.into_body().bytes().await.is_err() { ", body incomplete" } else { "" };
    format!("{status}{incomplete} · {attempts}")
}

fn text_cell(outcome: Result<String, Error>, backend: &Backend) -> String {
    match outcome {
        // A text has no history: the backend counts instead.
        Ok(_) => format!("200 · {}", backend.received()),
        Err(error) if error.status_code().is_some() => {
            format!("{} · {}", error.status_code().unwrap().as_u16(), backend.received())
        }
        Err(error) => error_cell(&error),
    }
}

fn error_cell(error: &Error) -> String {
    let history = error.history().unwrap();
    format!("error: {:?}, {} · {}", error.kind(), history.reason(), history.attempts())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_what_is_retried_is_what_happens() {
    watchdog::watch();
    let mut cells = JoinSet::new();
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    for (row, behavior) in BEHAVIORS.into_iter().enumerate() {
        for (column, (kind, _)) in KINDS.into_iter().enumerate() {
            for (protocol, (http2, _)) in PROTOCOLS.into_iter().enumerate() {
                let permits = Arc::clone(&permits);
                cells.spawn(async move {
                    let _permit = permits.acquire().await;
                    (row, column, protocol, observe(behavior, kind, http2).await)
                });
            }
        }
    }
    let mut seen = vec![[const { [const { String::new() }; KINDS.len()] }; PROTOCOLS.len()]; BEHAVIORS.len()];
    for (row, column, protocol, cell) in cells.join_all().await {
        seen[row][protocol][column] = cell;
    }
    let observed = table(&seen);
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).unwrap();
    let (expected, after) = rest.split_once(END).unwrap();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(DOCUMENT, [before, BEGIN, &observed, END, after].concat()).unwrap();
        return;
    }
    for (observed, expected) in observed.lines().zip(expected.lines()) {
        assert_eq!(observed, expected);
    }
    assert_eq!(observed.lines().count(), expected.lines().count());
}

fn table(seen: &[[[String; KINDS.len()]; PROTOCOLS.len()]]) -> String {
    let mut table = String::from("| behavior | |");
    KINDS.iter().for_each(|(_, name)| write!(table, " {name} |").unwrap());
    table.push_str("\n|---|---|---|---|---|---|---|\n");
    for (behavior, protocols) in BEHAVIORS.iter().zip(seen) {
        for ((_, protocol), cells) in PROTOCOLS.iter().zip(protocols) {
            writeln!(table, "| `{behavior}` | {protocol} | {} |", cells.join(" | ")).unwrap();
        }
    }
    table
}

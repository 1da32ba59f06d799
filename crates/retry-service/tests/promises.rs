//! The table in `docs/gateway.md` that shows what clients get for each failure of the upstream. A gateway with default
//! settings, except for short delays, produces it. `UPDATE_DOCS=1` writes what is observed, for review.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed expectation is the message")]

mod support;

use std::{env, fmt::Write as _, fs, net::SocketAddr, time::Duration};

use delayed_backend::Backend;
use support::{backend, gateway, refusing};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

const GUIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/gateway.md");
const BEGIN: &str = "<!-- promises -->\n";
const END: &str = "<!-- end of promises -->";

/// A failure of the first two attempts; the third one succeeds.
#[derive(Clone, Copy)]
struct Row {
    what: &'static str,
    behavior: &'static str,
    target: &'static str,
    upstream_http2: bool,
    /// Further lines of the request's head.
    head: &'static str,
}

const fn row(what: &'static str, behavior: &'static str, target: &'static str) -> Row {
    Row { what, behavior, target, upstream_http2: false, head: "" }
}

/// The response to this echoes the request: it is shorter than `--response-buffer`, and has no `ETag`.
const SHORT: &str = concat!("/echo?", "0123456789012345678901234567890123456789012345678901234567890123456789");
/// The response to this is longer than `--response-buffer`, and has an `ETag`.
const LONG: &str = "/bytes/300000";

fn rows() -> Vec<Row> {
    vec![
        row("the connection is refused", "refused", SHORT),
        Row { upstream_http2: true, ..row("the stream is refused unprocessed (HTTP/2)", "refused-stream", SHORT) },
        row("the connection is closed or reset before a response", "reset", SHORT),
        row("no response within `--timeout`", "hang", SHORT),
        row("the response is not HTTP", "garbage", SHORT),
        row("the response head is malformed, too large or contradictory", "huge-headers", SHORT),
        row("502, 503 or 504", "status=503", SHORT),
        row("502, 503 or 504 with `Retry-After`", "status=503;retry-after=0", SHORT),
        row("another status", "status=500", SHORT),
        row("a short response with a `Content-Length` is incomplete", "truncate", SHORT),
        row("a short response with a `Content-Length` stalls", "stall-after=200", SHORT),
        row("a short chunked response is incomplete", "chunked;truncate", SHORT),
        row("a short chunked response stalls", "chunked;stall-after=200", SHORT),
        Row {
            upstream_http2: true,
            ..row("a short HTTP/2 response without a length is reset", "chunked;truncate", SHORT)
        },
        row("a long response with a strong `ETag` is incomplete", "close-after=200000", LONG),
        row("a long chunked response with a strong `ETag` is incomplete", "chunked;close-after=200000", LONG),
        Row {
            head: "range: bytes=0-299999\r\n",
            ..row("a long response that cannot be resumed is incomplete", "close-after=200000", LONG)
        },
    ]
}

/// What a client gets, and after how many attempts.
async fn observe(row: &Row, method: &str) -> String {
    let flags: &[&str] = if row.upstream_http2 { &["--upstream-http2"] } else { &[] };
    let flags = [&["--timeout", "1s"], flags].concat();
    if row.behavior == "refused" {
        return observe_refused(row, method).await;
    }
    let backend = backend(&format!("{0},{0},ok", row.behavior)).await;
    let service = gateway(backend.address(), &flags).await;
    let got = call(service.address, method, row).await;
    match backend.requests().len() {
        1 => format!("{got} after 1 attempt"),
        attempts => format!("{got} after {attempts} attempts"),
    }
}

/// The upstream refuses connections until the gateway has noticed that it is down.
async fn observe_refused(row: &Row, method: &str) -> String {
    let (address, socket) = refusing();
    let mut service = gateway(address, &["--outage-wait", "1h"]).await;
    let address = service.address;
    let (method, row) = (method.to_owned(), *row);
    let call = tokio::spawn(async move { call(address, &method, &row).await });
    service.log_line("is down").await;
    let _backend = Backend::start_on(socket.listen(16).unwrap(), "ok".parse().unwrap()).unwrap();
    format!("{} if the upstream is back within `--outage-wait`", call.await.unwrap())
}

/// The status, or that the response is incomplete.
async fn call(service: SocketAddr, method: &str, row: &Row) -> String {
    let Row { target, head, .. } = row;
    // The backend serves bytes for GET only, and echoes the body of a POST.
    let (target, body) = match (method, *target) {
        ("POST", SHORT) => (SHORT, "x".repeat(1000)),
        ("POST", _) => ("/echo", "x".repeat(300_000)),
        (_, target) => (target, String::new()),
    };
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let request = format!("{method} {target} HTTP/1.1\r\nhost: a\r\n{head}{length}connection: close\r\n\r\n{body}");
    let mut stream = TcpStream::connect(service).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    let ended = timeout(Duration::from_secs(60), stream.read_to_end(&mut response)).await.unwrap();
    let text = String::from_utf8_lossy(&response);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return "incomplete".to_owned() };
    let announced = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let is_complete = match announced {
        Some(length) => body.len() == length,
        None => body.ends_with("\r\n0\r\n\r\n"),
    };
    if ended.is_err() || !is_complete {
        return "incomplete".to_owned();
    }
    head.get(9..12).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_promises_is_what_is_observed() {
    support::watch();
    let mut cells = JoinSet::new();
    for (index, row) in rows().into_iter().enumerate() {
        cells.spawn(async move { (index, row.what, observe(&row, "GET").await, observe(&row, "POST").await) });
    }
    let mut cells = cells.join_all().await;
    cells.sort_unstable();
    let mut table = String::from("\n| failure of two attempts in a row | GET | POST |\n|---|---|---|\n");
    for (_, what, get, post) in cells {
        writeln!(table, "| {what} | {get} | {post} |").unwrap();
    }
    table.push('\n');
    let guide = fs::read_to_string(GUIDE).unwrap();
    let (before, rest) = guide.split_once(BEGIN).unwrap();
    let (documented, after) = rest.split_once(END).unwrap();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(GUIDE, [before, BEGIN, &table, END, after].concat()).unwrap();
        return;
    }
    for (observed, documented) in table.lines().zip(documented.lines()) {
        assert_eq!(observed, documented);
    }
    assert_eq!(table.lines().count(), documented.lines().count());
}

//! The same tasks with this project's crates and with the usual ones: how many lines each takes, and what becomes of it.
//! `docs/coming-from.md` and the README have the tables, which `UPDATE_DOCS=1` writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first error")]

mod side_by_side {
    pub(crate) mod operations;
    pub(crate) mod requests;
}

use std::{
    env,
    fmt::{Debug, Write as _},
    fs,
    time::Duration,
};

use delayed_backend::Backend;
use tokio::time::{Instant, timeout};

use crate::side_by_side::{
    operations::{self, Fault, Server},
    requests::{self, BoxError},
};

const BEGIN: &str = "<!-- side by side -->\n";
const END: &str = "<!-- end of side by side -->";
const OPERATIONS: &str = include_str!("side_by_side/operations.rs");
const REQUESTS: &str = include_str!("side_by_side/requests.rs");

/// One task: the lines of both solutions, and what becomes of them.
struct Row {
    task: &'static str,
    lines: [usize; 2],
    outcomes: [String; 2],
}

/// Returns the lines of a function's body.
fn lines(source: &str, module: &str, function: &str) -> usize {
    let module = source.split_once(&format!("mod {module} {{")).unwrap().1.split("\n}\n").next().unwrap();
    let function = module.split_once(&format!("fn {function}(")).unwrap().1.split("\n    }\n").next().unwrap();
    let signature_ends = function.find("{\n").unwrap();
    function[signature_ends..].lines().skip(1).filter(|line| !line.trim().is_empty()).count()
}

fn row(source: &str, usual: &str, task: &'static str, function: &str, outcomes: [String; 2]) -> Row {
    Row { task, lines: ["ours", usual].map(|module| lines(source, module, function)), outcomes }
}

fn outcome(result: &Result<impl Debug, impl Debug>, attempts: u64) -> String {
    let plural = if attempts == 1 { "" } else { "s" };
    format!("{} after {attempts} attempt{plural}", if result.is_ok() { "succeeds" } else { "fails" })
}

/// Awaits a call for at most a minute.
async fn ends<T: Debug, E: Debug>(call: impl Future<Output = Result<T, E>>) -> String {
    let begin = Instant::now();
    match timeout(Duration::from_secs(60), call).await {
        Ok(_) => format!("ends after {} s", begin.elapsed().as_secs()),
        Err(_) => "still waits after a minute".to_owned(),
    }
}

async fn compare_operations() -> Vec<Row> {
    use operations::{backon, ours};

    let row = |task, function, outcomes| row(OPERATIONS, "backon", task, function, outcomes);
    let mut rows = Vec::new();

    let hanging = || Server::failing(u32::MAX, Fault::Hangs);
    let (one, other) = (hanging(), hanging());
    let outcomes = [ends(ours::deadline(&one)).await, ends(backon::deadline(&other)).await];
    rows.push(row("5 s for all attempts, of a server that hangs", "deadline", outcomes));

    let missing = || Server::failing(u32::MAX, Fault::NotFound);
    let (one, other) = (missing(), missing());
    let results = (ours::classifier(&one).await, backon::classifier(&other).await);
    let outcomes = [outcome(&results.0, one.calls().into()), outcome(&results.1, other.calls().into())];
    rows.push(row("retry only one kind of error", "classifier", outcomes));

    let down = || Server::failing(u32::MAX, Fault::Busy);
    let (one, other) = (down(), down());
    ours::budget(&one, 100).await;
    backon::budget(&other, 100).await;
    let outcomes = [&one, &other].map(|server| format!("{} attempts", server.calls()));
    rows.push(row("100 calls of a server that is down; ours with a budget", "budget", outcomes));

    let busy = || Server::failing(2, Fault::Busy);
    let (one, other) = (busy(), busy());
    let results = (ours::blocking(&one), backon::blocking(&other));
    let outcomes = [outcome(&results.0, one.calls().into()), outcome(&results.1, other.calls().into())];
    rows.push(row("blocking code", "blocking", outcomes));

    let (mut one, mut other) = (busy(), busy());
    let results = (ours::mutable_reference(&mut one).await, backon::mutable_reference(&mut other).await);
    let outcomes = [outcome(&results.0, one.calls().into()), outcome(&results.1, other.calls().into())];
    rows.push(row("an operation that takes `&mut self`", "mutable_reference", outcomes));
    rows
}

/// Runs both solutions against servers that play `script`.
async fn with_backends<T, U>(
    script: &str,
    ours: impl AsyncFn(&str) -> Result<T, BoxError>,
    usual: impl AsyncFn(&str) -> Result<U, BoxError>,
) -> [String; 2]
where
    T: Debug,
    U: Debug,
{
    let limit = Duration::from_secs(60);
    let start = || async { Backend::start(script.parse().unwrap()).await.unwrap() };
    let (one, other) = (start().await, start().await);
    let results = (timeout(limit, ours(&one.url())).await.unwrap(), timeout(limit, usual(&other.url())).await.unwrap());
    [outcome(&results.0, one.received()), outcome(&results.1, other.received())]
}

async fn compare_requests() -> Vec<Row> {
    use requests::{ours, usual};

    let row = |task, function, outcomes| row(REQUESTS, "usual", task, function, outcomes);
    vec![
        row(
            "JSON from a server that is busy at first",
            "get_json",
            with_backends(
                r#"status=503,status=200;body={"name":"tea"}"#,
                async |url| ours::get_json(url).await.map(|product| product.name),
                async |url| usual::get_json(url).await.map(|product| product.name),
            )
            .await,
        ),
        row(
            "a POST with a key, reset after it was sent",
            "post_with_key",
            with_backends("reset,ok", ours::post_with_key, usual::post_with_key).await,
        ),
        row(
            "a POST without a key, reset after it was sent",
            "post",
            with_backends("reset,ok", ours::post, usual::post).await,
        ),
        row(
            "a body that ends early",
            "incomplete_body",
            with_backends("truncate=5,ok", ours::incomplete_body, usual::incomplete_body).await,
        ),
        row(
            "retries in a tower stack, without reqwest",
            "tower_layer",
            with_backends("status=503,ok", ours::tower_layer, usual::tower_layer).await,
        ),
    ]
}

#[tokio::test]
async fn no_task_takes_more_lines_than_with_the_usual_crates() {
    let requests = compare_requests().await;
    tokio::time::pause();
    let operations = compare_operations().await;
    let operations = table("backon", &operations);
    let requests = table("reqwest-retry, or tower", &requests);
    check("../../docs/coming-from.md", &format!("{operations}{requests}"));
    check("README.md", &requests);
}

fn table(usual: &str, rows: &[Row]) -> String {
    let mut table = format!("\n| task | lines | with {usual} | outcome | with {usual} |\n|---|--:|--:|---|---|\n");
    for Row { task, lines: [ours, theirs], outcomes: [outcome, other] } in rows {
        assert!(ours <= theirs, "{task}: {ours} lines, and {theirs} with {usual}");
        writeln!(table, "| {task} | {ours} | {theirs} | {outcome} | {other} |").unwrap();
    }
    table
}

/// Compares a table with the one that a document shows, or writes it.
fn check(document: &str, table: &str) {
    let document = format!("{}/{document}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&document).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (shown, after) = rest.split_once(END).unwrap();
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&document, format!("{before}{BEGIN}{table}\n{END}{after}")).unwrap();
    } else {
        assert_eq!(shown, format!("{table}\n"), "run the test with UPDATE_DOCS=1 to update the page");
    }
}

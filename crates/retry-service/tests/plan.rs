//! What `plan` says about outages is what the gateway does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a failed expectation is the message")]

mod support;

use std::time::Duration;

use delayed_backend::Backend;
use support::{Service, backend, call, refusing};
use tokio::{process::Command, time::Instant};

/// How long the outages last.
const OUTAGE: Duration = Duration::from_secs(1);

/// What the plan says about one request.
#[derive(Debug)]
struct Outcome {
    words: String,
    status: u16,
    /// The least time until the response.
    after: Duration,
    retries: usize,
}

impl Outcome {
    fn parse(words: &str) -> Self {
        let (_, rest) = words.split_once("then ").unwrap_or(("", words));
        let number = |text: &str| text.split(' ').next().unwrap().parse().unwrap();
        Self {
            words: words.to_owned(),
            status: number(rest),
            after: rest.split_once(" after ").map_or(Duration::ZERO, |(_, after)| time(after)),
            retries: rest.split_once(", ").map_or(0, |(_, retries)| usize::from(number(retries))),
        }
    }
}

/// Parses the time at the start of a text.
fn time(text: &str) -> Duration {
    let text = text.split([' ', ',']).next().unwrap();
    let (number, unit) = text.split_at(text.find(char::is_alphabetic).unwrap());
    let number: f64 = number.parse().unwrap();
    Duration::from_secs_f64(if unit == "ms" { number / 1000.0 } else { number })
}

/// Returns what the plan says about a GET and a POST in an outage of a second.
async fn planned(fault: &str, flags: &[&str]) -> [Outcome; 2] {
    let output = Command::new(env!("CARGO_BIN_EXE_retry-service")).args(["plan", "--forward"]).args(flags).output();
    let plan = String::from_utf8(output.await.unwrap().stdout).unwrap();
    let (_, table) = plan.split_once("the client gets\n").unwrap();
    let mut rows = Vec::new();
    let (mut upstream, mut request) = (String::new(), String::new());
    for line in table.lines().take_while(|line| !line.is_empty()) {
        let cells = [&line[..19], &line[21..28], &line[30..41]].map(str::trim);
        if !cells[0].is_empty() {
            upstream = cells[0].to_owned();
        }
        if !cells[1].is_empty() {
            request = cells[1].to_owned();
        }
        if upstream == fault && cells[2].starts_with("1s") {
            rows.push((request.clone(), line[43..].to_owned()));
        }
    }
    ["GET", "POST"].map(|method| {
        let row = rows.iter().find(|(request, _)| [method, "any"].contains(&&**request));
        Outcome::parse(&row.unwrap_or_else(|| panic!("no {fault} in {plan}")).1)
    })
}

/// Compares the responses of a gateway with its plan. The upstream fails as many attempts as the plan says: so nothing
/// depends on when they arrive.
async fn check(fault: &str, flags: &[&str], expected: [&str; 2]) {
    let outcomes = planned(fault, flags).await;
    assert_eq!([&*outcomes[0].words, &outcomes[1].words], expected, "{flags:?}");
    for (outcome, method) in outcomes.into_iter().zip(["GET", "POST"]) {
        let script = match (fault, outcome.status) {
            ("never responds", 200) => format!("hang*{},ok", outcome.retries),
            ("never responds", _) => "hang".to_owned(),
            (_, 200) => format!("status=503*{},ok", outcome.retries),
            _ => "status=503".to_owned(),
        };
        let upstream = backend(&script).await;
        let service = Service::start(upstream.address(), &[&["--forward"], flags].concat()).await;
        compare(&service, method, &outcome).await;
        assert_eq!(upstream.requests().len(), outcome.retries + 1, "{method} {outcome:?}");
    }
}

async fn compare(service: &Service, method: &str, outcome: &Outcome) {
    let begin = Instant::now();
    let response = call(service.address, method, "/echo").await;
    assert_eq!(response.status, outcome.status, "{method} {outcome:?}");
    assert!(begin.elapsed() >= outcome.after, "{method} {outcome:?} {:?}", begin.elapsed());
}

const WITHOUT_JITTER: [&str; 2] = ["--jitter", "none"];

#[tokio::test]
async fn an_upstream_that_responds_with_503() {
    let check = async |flags: &[&str], expected| {
        check("responds with 503", &[&WITHOUT_JITTER, flags].concat(), expected).await;
    };
    check(&["--interval", "10ms"], ["503 after 70ms, 3 retries", "503 at once"]).await;
    check(&["--interval", "600ms"], ["200 after 1.8s, 2 retries", "503 at once"]).await;
    check(&["--status-codes", "off"], ["503 at once"; 2]).await;
    let deadline = ["--interval", "200ms", "--deadline", "500ms", "--attempt-timeout", "400ms"];
    check(&deadline, ["503 after 200ms, 1 retry (--deadline)", "503 at once"]).await;
}

#[tokio::test]
async fn an_upstream_that_never_responds() {
    let check = async |flags: &[&str], expected| {
        check("never responds", &[&WITHOUT_JITTER, flags].concat(), expected).await;
    };
    let quick = ["--interval", "10ms", "--timeout", "200ms"];
    check(&quick, ["504 after 870ms, 3 retries (--timeout)", "504 after 200ms (--timeout)"]).await;
    let slow = ["--attempt-timeout", "700ms"];
    check(&slow, ["200 after 1.7s, 2 retries", "504 after 700ms (--attempt-timeout)"]).await;
    check(&["--deadline", "300ms"], ["504 after 300ms (--deadline)"; 2]).await;
}

/// Compares the responses while the upstream refuses connections for a second.
async fn check_refused(flags: &[&str], expected: &str) {
    let outcomes = planned("refuses connections", flags).await;
    for (outcome, method) in outcomes.into_iter().zip(["GET", "POST"]) {
        assert_eq!(outcome.words, expected, "{flags:?}");
        let (address, socket) = refusing();
        let service = Service::start(address, &[&["--forward"], flags].concat()).await;
        let returns = async {
            tokio::time::sleep(OUTAGE).await;
            Backend::start_on(socket.listen(16).unwrap(), "ok".parse().unwrap()).unwrap()
        };
        let _backend = tokio::join!(compare(&service, method, &outcome), returns);
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_connections() {
    check_refused(&[], "parked, then 200 after 1s to 2s").await;
    check_refused(&["--outage-wait", "300ms"], "parked, then 503 after 300ms (--outage-wait)").await;
    check_refused(&["--deadline", "300ms"], "parked, then 503 after 300ms (--deadline)").await;
    let off = ["--outage-wait", "off", "--jitter", "none", "--interval", "10ms"];
    check_refused(&off, "502 after 70ms, 3 retries").await;
}

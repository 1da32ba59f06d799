//! Callers that wait for an upstream that is away for eight seconds, each on its own connection.

use std::{collections::BTreeMap, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    clock::now,
    gateway::Gateway,
    upstream::{Event, Upstream},
};

const AWAY: Duration = Duration::from_secs(8);
const DELAY: Duration = Duration::from_millis(20);
/// Requests per second.
const RATE: u32 = 4_000;
/// For how long nothing happens before the memory is read.
const SETTLE: Duration = Duration::from_secs(1);
const SUCCESS: &str = "HTTP/1.1 200";

/// Prints what waiting costs. Returns whether all callers that waited got their responses.
pub(crate) async fn run(gateway: &str, folder: &Path, requests: usize) -> bool {
    let mut upstream = Upstream::start(folder, DELAY).await;
    let gateway = Gateway::start(gateway, upstream.port, &[], folder).await;
    // What all requests share is allocated for the first ones.
    let mut first = send(&gateway, 0..100).await;
    for (_, stream) in &mut first {
        assert_eq!(status(stream).await, SUCCESS);
    }
    drop(first);
    let gone = upstream.stop("KILL").await;

    let before = gateway.resident();
    let mut waiting = send(&gateway, 100..100 + requests).await;
    sleep(SETTLE).await;
    let parked = gateway.resident();
    // Some callers leave: every second of those in the middle.
    let (mut number, middle) = (0, requests / 10..requests * 9 / 10);
    waiting.retain(|_| {
        number += 1;
        !(middle.contains(&number) && number % 2 == 0)
    });
    let left = requests - waiting.len();
    sleep(SETTLE).await;
    let after = gateway.resident();
    let away = AWAY.saturating_sub(Duration::from_micros(now() - gone));
    sleep(away).await;
    upstream.listen().await;
    let back = now();

    let mut responses = BTreeMap::new();
    for (_, stream) in &mut waiting {
        *responses.entry(status(stream).await).or_insert(0) += 1;
    }
    let seconds = (now() - back) as f64 / 1e6;
    drop(gateway);
    println!("{requests} requests wait, {left} of their callers leave; away for {AWAY:?}");
    let each = |bytes: i64, requests| bytes as f64 / 1024.0 / requests as f64;
    println!("memory: {:.1} KiB for each waiting request", each(parked - before, requests));
    println!("        {:.1} KiB less for each caller that leaves", each(parked - after, left));
    println!("responses to those that stay, within {seconds:.2} s: {responses:?}");

    let arrived: Vec<_> = upstream
        .records()
        .iter()
        .filter(|record| record.event == Event::Arrived)
        .map(|record| record.request)
        .collect();
    let arrived = &arrived[100..];
    let mut in_order = arrived.to_vec();
    in_order.sort_unstable();
    let late = |(place, request)| place - in_order.binary_search(request).unwrap().min(place);
    let late = arrived.iter().enumerate().map(late).max().unwrap_or(0);
    println!("{} of them reached the upstream, at most {late} places later than they were sent", arrived.len());
    responses.get(SUCCESS) == Some(&waiting.len()) && arrived.len() == waiting.len()
}

/// Sends requests, each on its own connection.
async fn send(gateway: &Gateway, numbers: std::ops::Range<usize>) -> Vec<(usize, TcpStream)> {
    let mut sent = Vec::with_capacity(numbers.len());
    let mut due = interval(Duration::from_secs(1) / RATE);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in numbers {
        due.tick().await;
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(format!("GET /{number} HTTP/1.1\r\nHost: outage\r\n\r\n").as_bytes()).await.unwrap();
        sent.push((number, stream));
    }
    sent
}

/// Returns the version and the status of a response.
async fn status(stream: &mut TcpStream) -> String {
    let mut start = [0; SUCCESS.len()];
    match stream.read_exact(&mut start).await {
        Ok(_) => String::from_utf8_lossy(&start).into_owned(),
        Err(error) => error.to_string(),
    }
}

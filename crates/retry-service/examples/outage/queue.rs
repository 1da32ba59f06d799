//! Callers that wait for an upstream that is away for eight seconds, each on its own connection.

use std::{collections::BTreeMap, ops::Range, path::Path, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    clock::{SECOND, now},
    gateway::Gateway,
    upstream::{Event, Upstream},
};

const AWAY: Duration = Duration::from_secs(8);
/// How long the upstream takes for a response.
const DELAY: Duration = Duration::from_millis(100);
/// Requests per second.
const RATE: u32 = 4_000;
/// For how long nothing happens before the memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// Requests before the outage, which pay for what all share.
const FIRST: usize = 100;
const SUCCESS: &str = "HTTP/1.1 200";

/// Prints what waiting costs. Returns whether all clients that waited got their responses.
pub(crate) async fn run(gateway: &str, folder: &Path, requests: usize) -> bool {
    let mut upstream = Upstream::start(folder, DELAY).await;
    let gateway = Gateway::start(gateway, upstream.port, &[], folder).await;
    for mut stream in send(&gateway, 0..FIRST).await {
        assert_eq!(status(&mut stream).await, SUCCESS);
    }
    let empty = gateway.resident();
    // Connections without a request, to compare with.
    let mut idle = send(&gateway, FIRST..FIRST + requests).await;
    for stream in &mut idle {
        assert_eq!(status(stream).await, SUCCESS);
    }
    sleep(SETTLE).await;
    let connected = gateway.resident();
    drop(idle);
    sleep(SETTLE).await;

    let begin = now();
    upstream.stop("KILL").await;
    let first = FIRST + requests;
    let mut waiting = send(&gateway, first..first + requests).await;
    sleep(SETTLE).await;
    let parked = gateway.resident();
    // Some leave, and as many others come.
    let leaving = requests * 2 / 5;
    let mut number = 0;
    waiting.retain(|_| {
        number += 1;
        number % 2 == 1 || number > 2 * leaving
    });
    sleep(SETTLE).await;
    waiting.extend(send(&gateway, first + requests..first + requests + leaving).await);
    sleep(SETTLE).await;
    let replaced = gateway.resident();

    sleep(AWAY.saturating_sub(Duration::from_micros(now() - begin))).await;
    upstream.listen().await;
    let back = now();
    let mut responses = BTreeMap::new();
    for stream in &mut waiting {
        *responses.entry(status(stream).await).or_insert(0) += 1;
    }
    let seconds = (now() - back) as f64 / SECOND as f64;
    drop(gateway);

    let each = |bytes: i64| bytes as f64 / 1024.0 / requests as f64;
    println!("{requests} idle connections: {:.1} KiB for each", each(connected - empty));
    println!("{requests} requests wait, each on a connection: {:.1} KiB for each", each(parked - empty));
    println!("after {leaving} clients have left and others have come: {:.1} KiB for each", each(replaced - empty));
    println!("responses within {seconds:.1} s after an outage of {AWAY:?}: {responses:?}");
    let (arrived, latest) = order_of_arrival(&upstream, first);
    println!("{arrived} requests reached the upstream, at most {latest} places later than they were sent");
    responses.get(SUCCESS) == Some(&requests) && arrived == requests
}

/// Returns how many requests reached the upstream after the `first` ones, and how many of those that were sent later were
/// before one of them, at most.
fn order_of_arrival(upstream: &Upstream, first: usize) -> (usize, usize) {
    let records = upstream.records().into_iter().filter(|record| record.event == Event::Arrived);
    let arrived: Vec<_> = records.map(|record| record.request).skip(first).collect();
    let mut in_order = arrived.clone();
    in_order.sort_unstable();
    let late = |(place, request)| place - in_order.binary_search(request).unwrap().min(place);
    (arrived.len(), arrived.iter().enumerate().map(late).max().unwrap_or(0))
}

/// Sends requests, each on its own connection.
async fn send(gateway: &Gateway, numbers: Range<usize>) -> Vec<TcpStream> {
    let mut sent = Vec::with_capacity(numbers.len());
    let mut due = interval(Duration::from_secs(1) / RATE);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in numbers {
        due.tick().await;
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(format!("GET /{number} HTTP/1.1\r\nHost: outage\r\n\r\n").as_bytes()).await.unwrap();
        sent.push(stream);
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

//! Clients that send requests at a fixed rate, whatever the responses do, and measure how long each takes.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    task::JoinSet,
};

/// When each request that has not been sent yet is due.
type Schedule = Arc<Mutex<UnboundedReceiver<Instant>>>;

/// Sends requests for some seconds, and prints p50, p99 and p99.9 in microseconds, and how many requests succeeded and
/// failed.
pub(crate) async fn run(address: &str, [rate, seconds, connections]: [u32; 3]) {
    let (send, schedule) = unbounded_channel();
    let schedule = Arc::new(Mutex::new(schedule));
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (client, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        clients.spawn(send_requests(client, address.to_owned(), schedule.clone()));
    }
    // A thread, because the timers of tokio are precise to a millisecond only.
    let pacer = thread::spawn(move || pace(rate, seconds, &send));
    let outcomes = clients.join_all().await.concat();
    pacer.join().unwrap();
    let mut latencies: Vec<_> = outcomes.iter().flatten().collect();
    latencies.sort_unstable();
    let [p50, p99, p999] =
        [0.5, 0.99, 0.999].map(|part| latencies[(latencies.len() as f64 * part) as usize].as_micros());
    println!("{p50} {p99} {p999} {} {}", latencies.len(), outcomes.len() - latencies.len());
}

/// Sends the due time of each request when it is due.
#[allow(clippy::disallowed_methods, reason = "measures, in a thread of its own")]
pub(crate) fn pace(rate: u32, seconds: u32, send: &UnboundedSender<Instant>) {
    let start = Instant::now();
    for number in 0..rate * seconds {
        let due = start + Duration::from_secs(1) * number / rate;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let _ = send.send(due);
    }
}

/// Sends requests when they are due, one after the other. Returns how long each took from the time when it was due, and
/// `None` for each that failed. If the time was counted from when a request was sent, a proxy that stops for a moment
/// would delay only one request per connection.
async fn send_requests(
    mut client: SendRequest<Empty<Bytes>>,
    host: String,
    schedule: Schedule,
) -> Vec<Option<Duration>> {
    let mut outcomes = Vec::new();
    // A connection that fails is not replaced.
    while client.ready().await.is_ok() {
        let Some(due) = schedule.lock().await.recv().await else { break };
        let request = Request::get("/hello").header(HOST, &host).body(Empty::new()).unwrap();
        let is_ok = match client.send_request(request).await {
            Ok(response) => response.status() == StatusCode::OK && response.into_body().collect().await.is_ok(),
            Err(_) => false,
        };
        outcomes.push(is_ok.then(|| due.elapsed()));
    }
    outcomes
}

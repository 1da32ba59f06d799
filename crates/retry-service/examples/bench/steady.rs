//! Clients that send requests of several kinds at a fixed rate, each on a connection that is idle or on a new one, and
//! report what becomes of each.

use std::{
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{sync::mpsc::unbounded_channel, task::JoinSet, time::timeout_at};

use crate::fixed_rate::pace;

/// How long a client waits for a response.
const LIMIT: Duration = Duration::from_secs(10);

type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// Sends requests for some seconds, of these kinds in turn: a method, or `POST+key` for one with an `Idempotency-Key`.
/// Prints a line for each: its number, how many microseconds after it was due it ended, and the status of the response,
/// or 0 if none arrived completely. The number is the query of its target.
pub(crate) async fn run(address: &str, kinds: &str, [rate, seconds]: [u32; 2]) {
    let kinds: Vec<_> = kinds.split(',').collect();
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let (send, mut schedule) = unbounded_channel();
    let pacer = thread::spawn(move || pace(rate, seconds, &send));
    let mut requests = JoinSet::new();
    for (number, kind) in kinds.iter().cycle().enumerate() {
        let Some(due) = schedule.recv().await else { break };
        let request = request(address, kind, number);
        requests.spawn(report(client.clone(), request, number, due));
    }
    pacer.join().unwrap();
    println!("{}", requests.join_all().await.join("\n"));
}

fn request(address: &str, kind: &str, number: usize) -> Request<Full<Bytes>> {
    let (method, has_key) = kind.strip_suffix("+key").map_or((kind, false), |method| (method, true));
    let body = if method == "GET" { Full::default() } else { Full::from(format!("order {number}")) };
    let mut request = Request::builder().method(method).uri(format!("http://{address}/echo?{number}"));
    if has_key {
        request = request.header("idempotency-key", format!("\"{number}\""));
    }
    request.body(body).unwrap()
}

async fn report(client: HttpClient, request: Request<Full<Bytes>>, number: usize, due: Instant) -> String {
    let exchange = async {
        let response = client.request(request).await.ok()?;
        let status = response.status().as_u16();
        response.into_body().collect().await.ok().map(|_| status)
    };
    let status = timeout_at((due + LIMIT).into(), exchange).await.ok().flatten().unwrap_or(0);
    format!("{number} {} {status}", due.elapsed().as_micros())
}

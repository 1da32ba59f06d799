//! Changes of the script while requests arrive. `scripts/script-changes.py` does more of it, over the control API.

#![allow(clippy::unwrap_used, reason = "a failed expectation is the message")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use delayed_backend::{Backend, Script};
use http_body_util::{BodyExt as _, Empty};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

mod support;
use support::watch;

const CHANGES: usize = 20;
const STATUSES: [u16; 3] = [200, 202, 503];

/// Returns a script whose behaviors all name it.
fn script(number: usize) -> Script {
    let behavior = |(position, status): (usize, u16)| {
        format!("status={status};header=x-script: {number};body={number}.{position}")
    };
    STATUSES.into_iter().enumerate().map(behavior).collect::<Vec<_>>().join(",").parse().unwrap()
}

/// Sends requests on one connection until `stop`, and returns the bodies of the responses.
async fn load(address: SocketAddr, stop: Arc<AtomicBool>) -> Vec<String> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut bodies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let request = Request::get("/hello").header("host", "test").body(Empty::<Bytes>::new()).unwrap();
        sender.ready().await.unwrap();
        let (head, body) = sender.send_request(request).await.unwrap().into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
        let (number, position) = body.split_once('.').unwrap();
        assert_eq!(head.headers.get("x-script").unwrap(), number, "{body}");
        let expected = STATUSES.get(position.parse::<usize>().unwrap()).unwrap();
        assert_eq!(head.status.as_u16(), *expected, "{body}");
        bodies.push(body);
    }
    bodies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_meets_one_script_whole_and_none_is_lost() {
    watch();
    let backend = Backend::start(script(0)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let loads: Vec<_> = (0..4).map(|_| tokio::spawn(load(backend.address(), Arc::clone(&stop)))).collect();
    for number in 1..=CHANGES {
        let before = backend.received();
        while backend.received() < before + 5 {
            tokio::task::yield_now().await;
        }
        backend.set_script(script(number));
    }
    stop.store(true, Ordering::Relaxed);
    let mut received = Vec::new();
    for load in loads {
        received.extend(load.await.unwrap());
    }

    let mut positions: HashMap<String, usize> = HashMap::new();
    let mut recorded = Vec::new();
    for request in backend.requests() {
        let (_, body) = request.behavior.split_once("body=").unwrap();
        let (number, position) = body.split_once('.').unwrap();
        let expected = positions.entry(number.to_owned()).or_default();
        assert_eq!(position.parse(), Ok(*expected % STATUSES.len()), "script {number} is played in order");
        *expected += 1;
        recorded.push(body.to_owned());
    }
    assert!(positions.len() >= CHANGES, "{positions:?}");
    received.sort();
    recorded.sort();
    assert_eq!(received, recorded);
}

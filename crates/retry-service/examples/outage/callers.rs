//! Callers that send requests at a steady rate, whatever the responses do.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::clock::{Micros, now};

/// The kinds of requests. Each caller's number determines which it sends.
pub(crate) const KINDS: [&str; 4] = ["GET", "PUT", "POST with a key", "POST"];

pub(crate) struct Outcome {
    pub(crate) request: usize,
    pub(crate) sent: Micros,
    pub(crate) ended: Micros,
    /// What the client got instead of its response.
    pub(crate) failure: Option<String>,
}

impl Outcome {
    pub(crate) fn kind(&self) -> usize {
        self.request % KINDS.len()
    }

    /// Whether the request may have been processed when its connection closed, and may not be repeated.
    pub(crate) fn is_uncertain(&self) -> bool {
        let closed = |failure: &String| failure.contains("the upstream closed the connection");
        KINDS[self.kind()] == "POST" && self.failure.as_ref().is_some_and(closed)
    }
}

/// Sends numbered requests, and returns their outcomes when all have ended.
pub(crate) async fn send_all(gateway: SocketAddr, requests: u32, rate: u32) -> Vec<Outcome> {
    // The gateway closes connections that are idle for longer.
    let client = Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(10))
        .build_http();
    let begin = Instant::now();
    let mut callers = JoinSet::new();
    for request in 0..requests {
        sleep_until(begin + Duration::from_secs(1) * request / rate).await;
        callers.spawn(call(client.clone(), gateway, request as usize));
    }
    callers.join_all().await
}

async fn call(client: Client<HttpConnector, Full<Bytes>>, gateway: SocketAddr, request: usize) -> Outcome {
    let sent = now();
    let failure = respond(client, gateway, request).await.err();
    Outcome { request, sent, ended: now(), failure }
}

async fn respond(client: Client<HttpConnector, Full<Bytes>>, gateway: SocketAddr, number: usize) -> Result<(), String> {
    let kind = KINDS[number % KINDS.len()];
    let mut request = Request::builder().method(kind.split(' ').next().unwrap());
    if kind == "POST with a key" {
        request = request.header("idempotency-key", number);
    }
    let body = if kind == "GET" { Bytes::new() } else { Bytes::from_static(&[b'x'; 100]) };
    let request = request.uri(format!("http://{gateway}/{number}")).body(Full::new(body)).unwrap();
    let response = client.request(request).await.map_err(|error| format!("no response: {error:?}"))?;
    let status = response.status();
    let body = response.into_body().collect().await.map_err(|error| format!("incomplete: {error}"))?.to_bytes();
    if status == StatusCode::OK && body == format!("/{number}") {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&body);
    let message = text.split_once("\"message\":\"").map_or(&*text, |(_, rest)| rest);
    Err(format!("{} {}", status.as_u16(), message.split(['"', '(']).next().unwrap().trim()))
}

//! Clients that wait for responses that never arrive.

use std::{
    io::{ErrorKind, Read as _},
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{MissedTickBehavior, interval},
};

/// Requests per second. A backlog in an outage grows gradually, too.
const RATE: u32 = 4_000;

/// Sends this many requests, each on its own connection, and prints `sent`. When its standard input ends, prints how many
/// of them are still waiting for their response.
pub(crate) async fn run(address: &str, requests: usize) {
    let mut held = Vec::with_capacity(requests);
    let mut due = interval(Duration::from_secs(1) / RATE);
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..requests {
        due.tick().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: bench\r\n\r\n").await.unwrap();
        held.push(stream);
    }
    println!("sent");
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
    println!("{}", held.iter().filter(|stream| is_waiting(stream)).count());
}

/// Whether a connection is open and has received nothing.
fn is_waiting(stream: &TcpStream) -> bool {
    stream.try_read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

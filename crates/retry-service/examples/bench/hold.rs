//! Callers that wait for answers that do not come.

use std::io::Read as _;

use tokio::{io::AsyncWriteExt as _, net::TcpStream};

/// Sends so many requests, each on its own connection, says so, and holds them until its input ends.
pub(crate) async fn run(address: &str, requests: usize) {
    let mut held = Vec::with_capacity(requests);
    for _ in 0..requests {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: bench\r\n\r\n").await.unwrap();
        held.push(stream);
    }
    println!("holding");
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
}

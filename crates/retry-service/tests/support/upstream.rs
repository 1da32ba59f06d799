//! An upstream of raw sockets that plays given bytes and notes what it receives.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

use super::message::{fields, position};

/// What is sent in reply to one request, and whether the connection ends after it.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    closes: bool,
    pauses: Option<(usize, Duration)>,
}

impl Reply {
    /// After these bytes the connection stays open for another request.
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), closes: false, pauses: None }
    }

    /// After these bytes the connection ends.
    pub(crate) fn then_close(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Pauses after so many bytes.
    pub(crate) fn pausing(self, after: usize, pause: Duration) -> Self {
        Self { pauses: Some((after, pause)), ..self }
    }
}

/// A response of 200 with a length.
pub(crate) fn ok(body: &str) -> Reply {
    Reply::new(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

/// A request as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Counts connections from 0.
    pub(crate) connection: usize,
    /// The bytes of it, framing included.
    pub(crate) text: String,
}

impl Received {
    pub(crate) fn line(&self) -> &str {
        self.text.split("\r\n").next().unwrap()
    }

    /// The values of a field, a line each.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.text, name)
    }

    /// The body with its framing.
    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").unwrap().1
    }
}

/// Reads whole requests, and gives each the reply that a function of its number, from 0, and its bytes returns.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    _tasks: JoinSet<()>,
}

impl Upstream {
    pub(crate) async fn start(reply: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let (all, reply) = (Arc::clone(&received), Arc::new(reply));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            for connection in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (all, reply) = (Arc::clone(&all), Arc::clone(&reply));
                connections.spawn(async move {
                    let mut bytes = Vec::new();
                    while let Some(text) = read_request(&mut stream, &mut bytes).await {
                        let number = {
                            let mut all = all.lock().unwrap();
                            all.push(Received { connection, text: text.clone() });
                            all.len() - 1
                        };
                        if play(&mut stream, &reply(number, &text)).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, received, _tasks: tasks }
    }

    /// The n-th request gets the n-th of these replies; further ones get the last.
    pub(crate) async fn playing(replies: impl Into<Vec<Reply>>) -> Self {
        let replies = replies.into();
        Self::start(move |number, _| replies[number.min(replies.len() - 1)].clone()).await
    }

    /// What it has received so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The one request that it has received.
    #[track_caller]
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received[0].clone()
    }
}

/// An error ends the connection, whether by script or not.
async fn play(stream: &mut TcpStream, reply: &Reply) -> Result<(), std::io::Error> {
    let (before, pause) = reply.pauses.unwrap_or((reply.bytes.len(), Duration::ZERO));
    let (first, second) = reply.bytes.split_at(before);
    stream.write_all(first).await?;
    if !pause.is_zero() {
        sleep(pause).await;
    }
    stream.write_all(second).await?;
    if reply.closes {
        stream.shutdown().await?;
        return Err(std::io::ErrorKind::ConnectionAborted.into());
    }
    Ok(())
}

/// Reads a request by what its head says of its length; bytes that follow it stay in the buffer.
pub(crate) async fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(length) = request_length(bytes) {
            let request: Vec<u8> = bytes.drain(..length).collect();
            return Some(String::from_utf8_lossy(&request).into_owned());
        }
        if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
            return None;
        }
    }
}

/// The length of the request that the bytes begin with, once it is whole.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = position(bytes, b"\r\n\r\n")? + 4;
    let (text, rest) = (String::from_utf8_lossy(&bytes[..head]), &bytes[head..]);
    if fields(&text, "transfer-encoding").iter().any(|codings| codings.contains("chunked")) {
        let last = if rest.starts_with(b"0\r\n") { 0 } else { position(rest, b"\r\n0\r\n")? + 2 };
        // Trailers, or an empty line at once.
        let end = position(&rest[last + 1..], b"\r\n\r\n")?;
        return Some(head + last + 1 + end + 4);
    }
    let length = fields(&text, "content-length").first().and_then(|length| length.parse().ok()).unwrap_or(0);
    (rest.len() >= length).then_some(head + length)
}

//! An upstream on raw sockets: it sends given bytes, and records what it receives.

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

/// The bytes to send in response to a request, and whether to close the connection after them.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    closes: bool,
    pauses: Option<(usize, Duration)>,
}

impl Reply {
    /// Sends these bytes, and keeps the connection open for another request.
    pub(crate) fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), closes: false, pauses: None }
    }

    /// Closes the connection after these bytes.
    pub(crate) fn then_close(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Pauses after this number of bytes.
    pub(crate) fn pausing(self, after: usize, pause: Duration) -> Self {
        Self { pauses: Some((after, pause)), ..self }
    }
}

/// A 200 with a `Content-Length`.
pub(crate) fn ok(body: &str) -> Reply {
    Reply::new(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

/// A request as it was received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// The number of the connection, from 0.
    pub(crate) connection: usize,
    /// The received bytes, including the framing.
    pub(crate) text: String,
}

impl Received {
    pub(crate) fn line(&self) -> &str {
        self.text.split("\r\n").next().unwrap()
    }

    /// The values of a field, one per line.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.text, name)
    }

    /// The body, including its framing.
    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").unwrap().1
    }
}

/// Reads complete requests. A function of the number of the request, from 0, and of its bytes returns the reply.
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

    /// Sends these replies in turn, and the last one to all further requests.
    pub(crate) async fn playing(replies: impl Into<Vec<Reply>>) -> Self {
        let replies = replies.into();
        Self::start(move |number, _| replies[number.min(replies.len() - 1)].clone()).await
    }

    /// The requests received so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The only request received so far.
    #[track_caller]
    pub(crate) fn only(&self) -> Received {
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:?}");
        received[0].clone()
    }
}

/// Sends a reply. An error closes the connection, whether it is part of the reply or not.
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

/// Reads a request according to its framing. Bytes that follow it stay in the buffer.
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

/// The length of the request at the start of the bytes; `None` until it is complete.
fn request_length(bytes: &[u8]) -> Option<usize> {
    let head = position(bytes, b"\r\n\r\n")? + 4;
    let (text, rest) = (String::from_utf8_lossy(&bytes[..head]), &bytes[head..]);
    if fields(&text, "transfer-encoding").iter().any(|codings| codings.contains("chunked")) {
        let last = if rest.starts_with(b"0\r\n") { 0 } else { position(rest, b"\r\n0\r\n")? + 2 };
        // Trailers, or just an empty line.
        let end = position(&rest[last + 1..], b"\r\n\r\n")?;
        return Some(head + last + 1 + end + 4);
    }
    let length = fields(&text, "content-length").first().and_then(|length| length.parse().ok()).unwrap_or(0);
    (rest.len() >= length).then_some(head + length)
}

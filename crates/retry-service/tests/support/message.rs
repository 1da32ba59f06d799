//! Raw HTTP/1.1 messages: sends them, receives them, and parses them strictly.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::within::within;

/// A response as a client receives it.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The status line and the header lines, as received.
    pub(crate) head: String,
    /// The body as far as it was received, without its framing.
    pub(crate) body: Vec<u8>,
    /// Whether the body is complete according to its framing.
    pub(crate) is_complete: bool,
    /// The lines after the last chunk.
    pub(crate) trailers: String,
}

impl Response {
    /// Parses what was received on a connection, and skips interim responses.
    #[track_caller]
    pub(crate) fn parse(received: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(&received[..received.len().min(2000)]);
        let end = position(received, b"\r\n\r\n").unwrap_or_else(|| panic!("no response: {shown:?}"));
        let (head, rest) = (String::from_utf8_lossy(&received[..end]).into_owned(), &received[end + 4..]);
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.unwrap_or_else(|| panic!("no status: {shown:?}"));
        if status < 200 && status != 101 {
            return Self::parse(rest);
        }
        let mut response = Self { status, head, body: Vec::new(), is_complete: false, trailers: String::new() };
        if !response.fields("transfer-encoding").is_empty() {
            assert_eq!(response.fields("transfer-encoding"), ["chunked"], "{shown}");
            assert!(response.fields("content-length").is_empty(), "both a length and chunks: {shown}");
            response.take_chunks(rest);
        } else if let Some(length) = response.field("content-length") {
            let length: usize = length.parse().unwrap();
            response.body = rest[..rest.len().min(length)].to_vec();
            response.is_complete = rest.len() >= length;
        } else {
            response.body = rest.to_vec();
            response.is_complete = true;
        }
        response
    }

    fn take_chunks(&mut self, mut rest: &[u8]) {
        while let Some(line) = position(rest, b"\r\n") {
            let size = std::str::from_utf8(&rest[..line]).unwrap();
            let size = usize::from_str_radix(size.split(';').next().unwrap(), 16).unwrap();
            rest = &rest[line + 2..];
            if size == 0 {
                self.trailers = String::from_utf8_lossy(rest).into_owned();
                self.is_complete = rest == b"\r\n" || rest.ends_with(b"\r\n\r\n");
                return;
            }
            self.body.extend_from_slice(&rest[..rest.len().min(size)]);
            if rest.len() < size + 2 {
                return;
            }
            rest = &rest[size + 2..];
        }
    }

    /// The values of a field, one per line.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        fields(&self.head, name)
    }

    /// The value of a field that occurs at most once.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.fields(name);
        assert!(fields.len() <= 1, "{name} occurs twice: {}", self.head);
        fields.first().copied()
    }

    /// Asserts that the head has this line.
    #[track_caller]
    pub(crate) fn has_header(&self, line: &str) {
        assert!(self.head.lines().any(|header| header == line), "{line:?} is not in {:?}", self.head);
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A member of the JSON object in the body.
    #[track_caller]
    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        let text = self.text();
        serde_json::from_str::<serde_json::Value>(&text).expect(&text)[name].clone()
    }
}

/// The values of a field in the head of a message, one per line, exactly as they follow the colon and a space.
pub(crate) fn fields<'a>(message: &'a str, name: &str) -> Vec<&'a str> {
    let lines = message.split("\r\n").skip(1).take_while(|line| !line.is_empty());
    let fields = lines.filter_map(|line| line.split_once(':'));
    let named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.strip_prefix(' ').unwrap_or(value)).collect()
}

/// Sends these bytes, and returns what is received until the connection is closed or reset.
pub(crate) async fn exchange_bytes(address: SocketAddr, request: impl AsRef<[u8]>) -> Vec<u8> {
    let (mut reading, mut writing) = TcpStream::connect(address).await.unwrap().into_split();
    let mut received = Vec::new();
    let exchange = async {
        // An early response may close the connection before everything is sent; a reset is an error as well.
        let _ = tokio::join!(writing.write_all(request.as_ref()), reading.read_to_end(&mut received));
    };
    within("the end of the connection", exchange).await;
    received
}

/// Sends these bytes, and parses what is received until the connection is closed or reset.
pub(crate) async fn exchange(address: SocketAddr, request: impl AsRef<[u8]>) -> Response {
    Response::parse(&exchange_bytes(address, request).await)
}

/// Sends a request with these lines in its head, and `Host` and `Connection: close`.
pub(crate) async fn send(address: SocketAddr, head: &str, body: &str) -> Response {
    exchange(address, format!("{head}\r\nhost: shop.example\r\nconnection: close\r\n\r\n{body}")).await
}

pub(crate) async fn get(address: SocketAddr) -> Response {
    send(address, "GET / HTTP/1.1", "").await
}

pub(crate) async fn post(address: SocketAddr) -> Response {
    send(address, "POST / HTTP/1.1\r\ncontent-length: 5", "hello").await
}

/// Reads until the received bytes end with `end`, and returns them.
#[track_caller]
pub(crate) fn read_until(stream: &mut TcpStream, end: &str) -> impl Future<Output = String> {
    let what = format!("{end:?}");
    within(what, async move {
        let mut received = Vec::new();
        while !received.ends_with(end.as_bytes()) {
            let read = stream.read_buf(&mut received).await;
            let text = String::from_utf8_lossy(&received);
            assert!(matches!(read, Ok(1..)), "{read:?} before {end:?}, after {text:?}");
        }
        String::from_utf8(received).unwrap()
    })
}

/// The position of `part`.
pub(crate) fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

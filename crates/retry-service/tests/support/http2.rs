//! HTTP/2: a client, and a peer frame by frame for what a well-behaved library does not send.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::within::within;

/// The bytes of a response that may be sent before the client opens the windows (RFC 9113, section 6.9.2).
pub(crate) const INITIAL_WINDOW: usize = 65_535;

/// A well-behaved client that speaks HTTP/2 only.
pub(crate) fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(true).build_http()
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// The body of a stream.
pub(crate) fn body_of(frames: &[Frame], stream: u32) -> Vec<u8> {
    let data = frames.iter().filter(|frame| frame.kind == DATA && frame.stream == stream);
    data.flat_map(|frame| frame.payload.clone()).collect()
}

/// The identifier of the setting: RFC 9113, section 6.5.2.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// One end of a connection.
pub(crate) struct Peer {
    stream: TcpStream,
}

impl Peer {
    /// Connects as a client.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[]).await
    }

    /// Connects as a client with this initial window.
    pub(crate) async fn connect_with_window(address: SocketAddr, window: u32) -> Self {
        let mut setting = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        setting.extend(window.to_be_bytes());
        Self::connect_with(address, &setting).await
    }

    async fn connect_with(address: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        let mut peer = Self { stream };
        peer.send(SETTINGS, 0, 0, settings).await;
        peer
    }

    /// Accepts a connection as a server.
    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        let (mut stream, _) = within("a connection", listener.accept()).await.unwrap();
        let mut preface = [0; PREFACE.len()];
        within("the preface", stream.read_exact(&mut preface)).await.unwrap();
        assert_eq!(preface, PREFACE);
        let mut peer = Self { stream };
        peer.send(SETTINGS, 0, 0, &[]).await;
        peer
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Sends a head, or trailers, without checking the fields. `flags` are none or [`END_STREAM`].
    pub(crate) async fn send_fields(&mut self, flags: u8, stream: u32, fields: &[(&str, &str)]) {
        let block = fields.iter().flat_map(|(name, value)| encoded(name, value)).collect::<Vec<_>>();
        let mut pieces = block.chunks(16_384).peekable();
        let mut kind = HEADERS;
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            self.send(kind, last | if kind == HEADERS { flags } else { 0 }, stream, piece).await;
            kind = CONTINUATION;
        }
    }

    /// Sends the head of a request.
    pub(crate) async fn request(&mut self, flags: u8, stream: u32, method: &str, path: &str, more: &[(&str, &str)]) {
        let pseudo = [(":method", method), (":scheme", "http"), (":path", path)];
        let authority: &[_] =
            if more.iter().any(|(name, _)| *name == ":authority") { &[] } else { &[(":authority", "shop.example")] };
        self.send_fields(flags, stream, &[&pseudo[..], authority, more].concat()).await;
    }

    /// The next DATA, HEADERS, RST_STREAM or GOAWAY frame; `None` once the connection is closed.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            if within("a frame", self.stream.read_exact(&mut head)).await.is_err() {
                return None;
            }
            let number = |bytes: &[u8]| bytes.iter().fold(0, |number, &byte| number << 8 | usize::from(byte));
            let mut payload = vec![0; number(&head[..3])];
            within("a frame's payload", self.stream.read_exact(&mut payload)).await.unwrap();
            let stream = u32::try_from(number(&head[5..]) & 0x7fff_ffff).unwrap();
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK == 0 => {
                    let reply = if frame.kind == PING { frame.payload } else { Vec::new() };
                    self.send(frame.kind, ACK, 0, &reply).await;
                }
                DATA | HEADERS | RST_STREAM | GOAWAY => return Some(frame),
                _ => {}
            }
        }
    }

    /// Reads DATA frames until they have at least this many bytes; returns how many.
    pub(crate) async fn receive(&mut self, length: usize) -> usize {
        let mut received = 0;
        while received < length {
            let frame = self.frame().await.unwrap_or_else(|| panic!("the end after {received} of {length} bytes"));
            received += if frame.kind == DATA { frame.payload.len() } else { 0 };
        }
        received
    }

    /// Opens the windows of the connection and of a stream by this many bytes.
    pub(crate) async fn open_windows(&mut self, stream: u32, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap().to_be_bytes();
        for stream in [0, stream] {
            self.send(WINDOW_UPDATE, 0, stream, &bytes).await;
        }
    }

    /// Reads until the peer has ended or reset this stream, or the connection; returns the frames.
    pub(crate) async fn rest_of(&mut self, stream: u32) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.frame().await {
            let is_last =
                frame.kind == GOAWAY || frame.stream == stream && (frame.kind == RST_STREAM || frame.ends_stream());
            frames.push(frame);
            if is_last {
                break;
            }
        }
        frames
    }

    /// Reads the head of the next request, and returns its stream.
    pub(crate) async fn next_request(&mut self) -> u32 {
        loop {
            let frame = self.frame().await.expect("a request");
            if frame.kind == HEADERS {
                return frame.stream;
            }
        }
    }
}

/// A literal field without indexing or Huffman coding (RFC 7541, section 6.2.2).
fn encoded(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        // An integer with a prefix of seven bits (section 5.1).
        if text.len() < 127 {
            field.push(u8::try_from(text.len()).unwrap());
        } else {
            field.push(127);
            let mut rest = text.len() - 127;
            while rest >= 128 {
                field.push(u8::try_from(rest % 128 + 128).unwrap());
                rest /= 128;
            }
            field.push(u8::try_from(rest).unwrap());
        }
        field.extend(text.as_bytes());
    }
    field
}

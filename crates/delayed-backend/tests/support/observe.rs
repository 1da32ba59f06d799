//! Describes what arrives on a connection.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a failed expectation is the message")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n";

/// How long to wait for more of a response. Allows for a busy machine.
const RESPONSE_LIMIT: Duration = Duration::from_secs(3);
/// If a connection sends nothing for this long after a complete response, nothing follows it.
const QUIET_PERIOD: Duration = Duration::from_millis(400);

/// How a connection ended, if it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fin,
    Rst,
    Open,
}

/// Reads until the connection is quiet or has ended.
async fn read(stream: &mut (impl AsyncRead + Unpin), is_complete: impl Fn(&[u8]) -> bool) -> (Vec<u8>, End) {
    let mut bytes = Vec::new();
    loop {
        let limit = if is_complete(&bytes) { QUIET_PERIOD } else { RESPONSE_LIMIT };
        match timeout(limit, stream.read_buf(&mut bytes)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => return (bytes, End::Fin),
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionReset => return (bytes, End::Rst),
            // A FIN below TLS.
            Ok(Err(error)) if error.kind() == ErrorKind::UnexpectedEof => return (bytes, End::Fin),
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => return (bytes, End::Open),
        }
    }
}

/// Requests `/hello` twice, and describes the first response and whether there is a second one.
pub(crate) async fn http1(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    stream.write_all(REQUEST).await.unwrap();
    let (response, end) = read(&mut stream, is_complete_http1).await;
    let response = describe_http1(&response);
    let end = match end {
        End::Fin => "FIN",
        End::Rst => "RST",
        End::Open if response == "no response" => "open",
        End::Open => {
            stream.write_all(REQUEST).await.unwrap();
            match read(&mut stream, |bytes| !bytes.is_empty()).await.0.is_empty() {
                true => "open, no response to the next request",
                false => "open",
            }
        }
    };
    format!("{response}; {end}")
}

/// Returns whether a response is complete, or will never be.
fn is_complete_http1(response: &[u8]) -> bool {
    let description = describe_http1(response);
    let is_long_enough = || {
        let sizes = description.strip_suffix(" bytes").and_then(|text| text.rsplit_once(" of "));
        sizes.is_none_or(|(sent, length)| {
            let sent = sent.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
            sent >= length.parse().unwrap()
        })
    };
    let has_head = response.windows(4).any(|bytes| bytes == b"\r\n\r\n");
    has_head && !description.ends_with("no last one") && is_long_enough()
}

fn describe_http1(response: &[u8]) -> String {
    if response.is_empty() {
        return "no response".to_owned();
    }
    let text = String::from_utf8_lossy(response);
    let Some(rest) = text.strip_prefix("HTTP/1.1 ") else {
        return "not HTTP".to_owned();
    };
    let Some((head, body)) = rest.split_once("\r\n\r\n") else {
        return format!("{} bytes", response.len());
    };
    let mut description = head.get(..3).unwrap().to_owned();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    for name in ["location: ", "retry-after: ", "connection: "] {
        if let Some(value) = field(name) {
            description += &format!(", `{name}{}`", if value.ends_with("GMT") { "(a date)" } else { value });
        }
    }
    if head.len() > 2000 {
        description += &format!(", a head of {} KiB", head.len() / 1024);
    }
    if field("transfer-encoding: ").is_some() {
        description += &format!(", {}", describe_chunks(body));
    } else if let Some(length) = field("content-length: ") {
        description += &format!(", {} of {length} bytes", body.len());
    }
    description
}

fn describe_chunks(mut body: &str) -> String {
    let mut length = 0;
    while let Some((size, rest)) = body.split_once("\r\n") {
        match usize::from_str_radix(size, 16) {
            Ok(0) if rest.len() < 2 => break,
            Ok(0) if rest.len() == 2 => return format!("{length} bytes in chunks"),
            Ok(0) => return format!("{length} bytes in chunks and {} more", rest.len() - 2),
            Ok(size) => {
                length += size.min(rest.len());
                body = rest.get(size + 2..).unwrap_or_default();
            }
            Err(_) => return format!("{length} bytes in chunks, an invalid one"),
        }
    }
    format!("{length} bytes in chunks, no last one")
}

/// Requests `/hello`, sends a PING and requests it again, and describes the frames.
pub(crate) async fn http2(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    let mut start = PREFACE.to_vec();
    start.extend(frame(SETTINGS, 0, 0, b""));
    start.extend(headers(1));
    stream.write_all(&start).await.unwrap();
    let (received, end) = read(&mut stream, is_complete_http2).await;
    let response = describe_http2(&received, 1);
    let response = if response.is_empty() { "no response".to_owned() } else { response };
    let end = match end {
        End::Fin => "FIN",
        End::Rst => "RST",
        End::Open => {
            stream.write_all(&frame(PING, 0, 0, b"12345678")).await.unwrap();
            let (received, _) = read(&mut stream, |_| true).await;
            let pong = frames(&received).0.iter().any(|frame| frame.kind == PING);
            stream.write_all(&headers(3)).await.unwrap();
            let (received, _) = read(&mut stream, |bytes| !bytes.is_empty()).await;
            match (pong, describe_http2(&received, 3).is_empty()) {
                (true, false) => "open",
                (true, true) => "open, no response to the next request",
                (false, false) => "open, no response to PING",
                (false, true) => "open, no response to PING or the next request",
            }
        }
    };
    format!("{response}; {end}")
}

/// A frame (RFC 9113, section 4.1).
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

/// Returns all complete frames, and the number of bytes after them.
fn frames(mut bytes: &[u8]) -> (Vec<Frame<'_>>, usize) {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, s0, s1, s2, s3, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let Some(payload) = rest.get(..length) else { break };
        frames.push(Frame { kind: *kind, flags: *flags, stream: u32::from_be_bytes([*s0, *s1, *s2, *s3]), payload });
        bytes = &rest[length..];
    }
    (frames, bytes.len())
}

/// Returns whether the first response is complete, or will never be.
fn is_complete_http2(bytes: &[u8]) -> bool {
    let description = describe_http2(bytes, 1);
    ["END_STREAM", "RST_STREAM", "GOAWAY"].iter().any(|end| description.contains(end))
}

/// Describes the frames of a stream.
fn describe_http2(bytes: &[u8], stream: u32) -> String {
    let mut described: Vec<String> = Vec::new();
    let mut data = BTreeMap::<usize, usize>::new();
    let (frames, rest) = frames(bytes);
    for frame in frames {
        let end = if frame.flags & 1 != 0 { " END_STREAM" } else { "" };
        let code = |at: usize| h2::Reason::from(u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap()));
        match frame.kind {
            0 if frame.stream == stream => {
                // The lengths of DATA frames depend on timing.
                let index = described.iter().position(|text| text.starts_with("DATA")).unwrap_or(described.len());
                let length = data.entry(index).or_default();
                *length += frame.payload.len();
                let text = format!("DATA {length}{end}");
                if index == described.len() { described.push(text) } else { described[index] = text }
            }
            1 if frame.stream == stream => described.push(format!("HEADERS{end}")),
            3 if frame.stream == stream => described.push(format!("RST_STREAM {:?}", code(0))),
            7 => {
                let last = u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
                described.push(format!("GOAWAY {:?} (last stream {last})", code(4)));
            }
            _ => {}
        }
    }
    if rest > 0 {
        described.push("an incomplete frame".to_owned());
    }
    described.join(", ")
}

/// A request for `/hello` (RFC 7541, appendix A).
fn headers(stream: u32) -> Vec<u8> {
    const END_STREAM_AND_HEADERS: u8 = 5;
    frame(1, END_STREAM_AND_HEADERS, stream, b"\x82\x86\x04\x06/hello\x01\x04test")
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

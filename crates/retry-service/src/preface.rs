//! Which version of HTTP a caller speaks.

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::sleep};

/// How HTTP/2 begins (RFC 9113, section 3.4). No request of HTTP/1.1 begins so.
const PREFACE: [u8; 3] = *b"PRI";

/// How long to wait for the rest of a start that is too short to tell.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether the caller speaks HTTP/2 from its first byte on. Takes nothing from the stream.
///
/// # Errors
///
/// When the caller goes without having said anything.
pub(crate) async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut start = [0; PREFACE.len()];
    loop {
        let read = stream.peek(&mut start).await?;
        let same = start.iter().zip(&PREFACE).take(read).all(|(byte, expected)| byte == expected);
        match read {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if !same => return Ok(false),
            _ if read == PREFACE.len() => return Ok(true),
            _ => sleep(PAUSE).await,
        }
    }
}

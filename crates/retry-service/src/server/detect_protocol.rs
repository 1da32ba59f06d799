//! Detects whether a client speaks HTTP/1.1 or HTTP/2.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The connection preface of HTTP/2: RFC 9113, section 3.4. An HTTP/1.1 request may begin with the same letters, as any
/// token is a method.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads the first bytes of a connection, until the protocol is known, which most often takes one read.
///
/// # Errors
///
/// Returns an error if the connection fails, or is closed before its first byte.
pub(crate) async fn read_start(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<BytesMut> {
    let mut stream = stream.take(PREFACE.len() as u64);
    let mut start = BytesMut::with_capacity(PREFACE.len());
    while PREFACE.starts_with(&start) && !is_http2(&start) {
        if stream.read_buf(&mut start).await? == 0 {
            // hyper responds to an incomplete preface as to a malformed HTTP/1.1 request.
            return if start.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(start) };
        }
    }
    Ok(start)
}

/// Whether a connection that starts with these bytes is an HTTP/2 connection.
pub(crate) fn is_http2(start: &[u8]) -> bool {
    start == PREFACE
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn http2_is_detected_by_its_complete_preface() {
        let check = async |sent: &[u8], http2| {
            for size in [1, 5, 24] {
                let (mut near, mut far) = duplex(64);
                let mut pieces = sent.chunks(size);
                let send = async {
                    for piece in &mut pieces {
                        far.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    drop(far);
                };
                let (start, ()) = tokio::join!(read_start(&mut near), send);
                let start = start.unwrap();
                assert_eq!(is_http2(&start), http2, "{}", sent.escape_ascii());
                let mut all = start.to_vec();
                near.read_to_end(&mut all).await.unwrap();
                assert_eq!(all, sent, "{}", sent.escape_ascii());
            }
        };
        check(PREFACE, true).await;
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", true).await;
        check(b"PRINT /x HTTP/1.1\r\n\r\n", false).await;
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", false).await;
        check(b"PRI", false).await;
        check(b"GET / HTTP/1.1\r\n\r\n", false).await;
        let (mut near, far) = duplex(64);
        drop(far);
        assert!(read_start(&mut near).await.is_err());
    }
}

//! Detects whether a client speaks HTTP/1.1 or HTTP/2.

use std::io;

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    net::TcpStream,
};

/// The connection preface of HTTP/2: RFC 9113, section 3.4. An HTTP/1.1 request may begin with the same letters, as any
/// token is a method.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads the preface of HTTP/2, or what there is of it. Reads nothing if the connection does not start like it: hyper
/// would allocate a buffer of twice the size for the head of a request that reaches it in two parts.
///
/// # Errors
///
/// Returns an error if the connection fails, or is closed before its first byte.
pub(crate) async fn read_preface(stream: &mut TcpStream) -> io::Result<BytesMut> {
    let mut start = [0; PREFACE.len()];
    let length = stream.peek(&mut start).await?;
    if PREFACE.starts_with(start.get(..length).unwrap_or_default()) {
        read_start(stream).await
    } else {
        Ok(BytesMut::new())
    }
}

/// Reads the first bytes of a connection, until the protocol is known.
async fn read_start(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<BytesMut> {
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
    use tokio::{
        io::{AsyncWriteExt as _, duplex},
        net::TcpListener,
    };

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

    #[tokio::test]
    async fn an_http1_request_is_left_unread() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = async |sent: &[u8], expected: &[u8]| {
            let mut far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut near, _) = listener.accept().await.unwrap();
            far.write_all(sent).await.unwrap();
            far.shutdown().await.unwrap();
            assert_eq!(read_preface(&mut near).await.unwrap(), expected, "{}", sent.escape_ascii());
        };
        check(b"GET / HTTP/1.1\r\n\r\n", b"").await;
        check(b"PRIX * HTTP/1.1\r\n\r\n", b"").await;
        check(b"PRI", b"PRI").await;
        check(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", PREFACE).await;
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut near, _) = listener.accept().await.unwrap();
        drop(far);
        assert!(read_preface(&mut near).await.is_err());
    }
}

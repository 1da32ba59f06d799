//! Detects whether a client speaks HTTP/1.1 or HTTP/2.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The connection preface of HTTP/2: RFC 9113, section 3.4. An HTTP/1.1 request may begin with the same letters, as any
/// token is a method.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first bytes of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Start {
    bytes: [u8; PREFACE.len()],
    length: usize,
}

impl Start {
    /// Reads until the protocol is known, which most often takes one read.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection fails, or is closed before its first byte.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut start = Self::default();
        loop {
            let rest = start.bytes.get_mut(start.length..).unwrap_or_default();
            let read = stream.read(rest).await?;
            start.length += read;
            match read {
                0 if start.length == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                // hyper responds to it as to a malformed HTTP/1.1 request.
                0 => return Ok(start),
                _ if !PREFACE.starts_with(start.bytes()) || start.is_http2() => return Ok(start),
                _ => {}
            }
        }
    }

    pub(crate) fn is_http2(&self) -> bool {
        self.bytes() == PREFACE
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
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
                let (start, ()) = tokio::join!(Start::read(&mut near), send);
                let start = start.unwrap();
                assert_eq!(start.is_http2(), http2, "{}", sent.escape_ascii());
                let mut all = start.bytes().to_vec();
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
        assert!(Start::read(&mut near).await.is_err());
    }
}

//! A stream that records when bytes are read and written.
//!
//! After a write error it can still be read: a server that rejects an upload responds and then closes, and the kernel may
//! have received that response already.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::TokioIo,
};
use socket2::SockRef;
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};

use crate::activity::Activity;

/// Counts a connection towards the limit until its stream is dropped, or the permit is taken out.
pub(crate) type ConnectionPermit = Mutex<Option<OwnedSemaphorePermit>>;

/// A TCP stream that records progress in an [`Activity`]. It is beneath TLS, so that the bytes of a handshake count
/// too.
#[derive(Debug)]
pub(crate) struct TrackedIo {
    io: TokioIo<TcpStream>,
    activity: Activity,
    /// Bytes to be read before those of `io`.
    prefix: Bytes,
    proxied: bool,
    /// Whether TLS is above: then bytes may arrive at any time that are not a response.
    is_tls: bool,
    /// Whether a write failed. Further writes are discarded, and the read side decides the outcome of the exchange.
    write_closed: bool,
    /// Whether the write failed because of a reset: then the end of the stream is an error.
    reset: bool,
    _permit: Arc<ConnectionPermit>,
}

impl TrackedIo {
    pub(crate) fn new(io: TokioIo<TcpStream>, activity: Activity, permit: Arc<ConnectionPermit>, is_tls: bool) -> Self {
        let (prefix, _permit) = (Bytes::new(), permit);
        Self { io, activity, prefix, proxied: false, is_tls, write_closed: false, reset: false, _permit }
    }

    /// Puts back bytes that were read.
    pub(crate) fn unread(mut self, prefix: Bytes) -> Self {
        self.prefix = prefix;
        self
    }

    /// Marks requests on it as requests to a proxy, which needs the absolute URL.
    pub(crate) fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    fn note_write(&mut self, written: io::Result<usize>, length: usize) -> io::Result<usize> {
        match written {
            Ok(written) => {
                self.activity.record_progress();
                // What arrives after a request was written may be its response.
                self.activity.take_peek_request();
                Ok(written)
            }
            Err(error) if is_closed(&error) => {
                self.write_closed = true;
                // The kernel reports a broken pipe if the peer closed in order.
                self.reset = error.kind() != io::ErrorKind::BrokenPipe;
                Ok(length)
            }
            Err(error) => Err(error),
        }
    }

    /// Checks the socket if a request is about to be sent: the server may have closed it, or sent unexpected bytes.
    fn poll_peek(&self) -> Poll<io::Result<()>> {
        if !self.activity.take_peek_request() {
            return Poll::Pending;
        }
        // Asks the kernel, as the runtime may not have processed the latest event yet.
        match SockRef::from(self.io.inner()).peek(&mut [MaybeUninit::uninit()]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
            // The end of the stream.
            Ok(0) => Poll::Ready(Ok(())),
            Ok(_) if self.is_tls => Poll::Pending,
            Ok(_) => {
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "unexpected bytes before the request")))
            }
        }
    }

    /// Reads what was received before a reset, and then returns the reset.
    fn poll_read_before_reset(&mut self, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut received = [MaybeUninit::uninit(); 4096];
        let length = received.len().min(buf.remaining());
        let mut received = ReadBuf::uninit(received.get_mut(..length).unwrap_or_default());
        ready!(Pin::new(&mut self.io).poll_read(cx, received.unfilled()))?;
        if received.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buf.put_slice(received.filled());
        Poll::Ready(Ok(()))
    }
}

/// Whether a write failed because the peer receives nothing more.
fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

impl Connection for TrackedIo {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.proxied)
    }
}

impl Read for TrackedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let length = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix.split_to(length));
            return Poll::Ready(Ok(()));
        }
        if self.reset {
            return self.poll_read_before_reset(cx, buf);
        }
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending => self.poll_peek(),
            Poll::Ready(read) => {
                read?;
                self.activity.record_read();
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Write for TrackedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_closed {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        Poll::Ready(self.note_write(written, buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_closed { Poll::Ready(Ok(())) } else { Pin::new(&mut self.io).poll_flush(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_closed { Poll::Ready(Ok(())) } else { Pin::new(&mut self.io).poll_shutdown(cx) }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A head without a body is a single buffer, for which a plain write is cheaper.
        if let [buf] = bufs {
            return self.poll_write(cx, buf);
        }
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if self.write_closed {
            return Poll::Ready(Ok(length));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        Poll::Ready(self.note_write(written, length))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        task::yield_now,
    };

    use super::*;

    /// Returns both ends of a connection, the near one tracked.
    async fn pair() -> (TrackedIo, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (TrackedIo::new(TokioIo::new(near), Activity::of_connection(), Arc::default(), false), far)
    }

    /// The peer has closed: nothing more can be written, but what it sent can still be read.
    #[tokio::test]
    async fn received_bytes_can_be_read_after_a_write_error() {
        let (near, mut far) = pair().await;
        far.write_all(b"abc").await.unwrap();
        drop(far);
        let mut stream = TokioIo::new(near);
        while !stream.inner().write_closed {
            stream.write_all(b"defg").await.unwrap();
            yield_now().await;
        }
        stream.flush().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "abc");
        stream.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn unread_bytes_are_read_first_whatever_the_size_of_the_buffer() {
        let (near, mut far) = pair().await;
        far.write_all(b"def").await.unwrap();
        let mut stream = TokioIo::new(near.unread(Bytes::from("abc")));
        let mut text = [0; 2];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"ab");
        let mut text = [0; 4];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"cdef");
    }
}

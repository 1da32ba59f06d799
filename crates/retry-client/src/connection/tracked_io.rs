//! Connections, watched for progress.
//!
//! A connection whose write side has failed goes on to be read: a server that refuses an upload closes behind its
//! response, and what the kernel has received of that is still there.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
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

use crate::connection::stall_timeout::Activity;

/// A place among the connections that there may be, until this is dropped or left.
#[derive(Debug)]
pub(crate) struct Place(Mutex<Option<OwnedSemaphorePermit>>);

impl Place {
    pub(crate) fn new(permit: OwnedSemaphorePermit) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(permit))))
    }

    /// Leaves it to another connection.
    pub(crate) fn leave(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// A socket that can be looked at without reading from it.
pub(crate) trait Socket {
    /// How many bytes wait to be read, of which one is enough to be told; none if the other end has closed.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing waits, or what went wrong with the connection.
    fn peek(&self) -> io::Result<usize>;
}

impl Socket for TokioIo<TcpStream> {
    /// Asks the kernel: what it has got last, the runtime may not have noticed.
    fn peek(&self) -> io::Result<usize> {
        SockRef::from(self.inner()).peek(&mut [MaybeUninit::uninit()])
    }
}

/// A connection that notes when bytes move on it. It lies beneath TLS, so that a handshake and its bytes
/// count as well.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    io: T,
    activity: Activity,
    /// Bytes to be read before those of `io`.
    early: Bytes,
    proxied: bool,
    /// Whether TLS lies above, so that bytes may come at any time which are no response.
    secured: bool,
    /// Whether writing has failed. What is written then is lost; the read side decides what became of the exchange.
    unwritable: bool,
    /// Whether that was by a reset: then the end of what can be read is none that the other end has announced.
    reset: bool,
    /// Among the connections that there may be, until it is dropped.
    _place: Arc<Place>,
}

impl<T> Watched<T> {
    pub(crate) fn new(io: T, activity: Activity, place: Arc<Place>) -> Self {
        Self {
            io,
            activity,
            early: Bytes::new(),
            proxied: false,
            secured: false,
            unwritable: false,
            reset: false,
            _place: place,
        }
    }

    /// Says that TLS is to be spoken on it.
    pub(crate) fn secured(mut self, secured: bool) -> Self {
        self.secured = secured;
        self
    }

    /// Gives back bytes that were read too far.
    pub(crate) fn unread(mut self, early: Bytes) -> Self {
        self.early = early;
        self
    }

    /// Says that requests on it go to a proxy, which has to be told the whole URL.
    pub(crate) fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }
}

impl<T: Connection> Connection for Watched<T> {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.proxied)
    }
}

impl<T: Socket> Watched<T> {
    /// Looks at the socket when nothing is known to wait there, if a request is about to be sent: the server may have
    /// closed, or sent what nobody asked for.
    fn poll_unread(&self) -> Poll<io::Result<()>> {
        if !self.activity.take_look() {
            return Poll::Pending;
        }
        match self.io.peek() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
            // The end.
            Ok(0) => Poll::Ready(Ok(())),
            Ok(_) if self.secured => Poll::Pending,
            Ok(_) => Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "bytes came that nobody asked for"))),
        }
    }
}

impl<T: Read + Unpin> Watched<T> {
    /// Reads what was received before a reset, and then tells of that.
    fn poll_rest(&mut self, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let mut rest = [MaybeUninit::uninit(); 4096];
        let most = rest.len().min(buf.remaining());
        let mut rest = ReadBuf::uninit(rest.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(&mut self.io).poll_read(cx, rest.unfilled()))?;
        if rest.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buf.put_slice(rest.filled());
        Poll::Ready(Ok(()))
    }
}

impl<T> Watched<T> {
    /// Notes what a write came to.
    fn written(&mut self, written: io::Result<usize>, bytes: usize) -> io::Result<usize> {
        match written {
            Ok(written) => {
                self.activity.touch();
                // A request goes out, so that what comes from here on may be its response.
                self.activity.take_look();
                Ok(written)
            }
            Err(error) if is_end(&error) => {
                self.unwritable = true;
                // Behind a close that was announced, the kernel says that the pipe is broken.
                self.reset = error.kind() != io::ErrorKind::BrokenPipe;
                Ok(bytes)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a write failed because the other end takes nothing more.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

impl<T: Read + Socket + Unpin> Read for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let fits = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(fits));
            return Poll::Ready(Ok(()));
        }
        if self.reset {
            return self.poll_rest(cx, buf);
        }
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending => self.poll_unread(),
            Poll::Ready(read) => {
                read?;
                self.activity.hear();
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.unwritable {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        Poll::Ready(self.written(written, buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unwritable { Poll::Ready(Ok(())) } else { Pin::new(&mut self.io).poll_flush(cx) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unwritable { Poll::Ready(Ok(())) } else { Pin::new(&mut self.io).poll_shutdown(cx) }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // The head of a request without a body comes alone: a plain write is cheaper.
        if let [buf] = bufs {
            return self.poll_write(cx, buf);
        }
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if self.unwritable {
            return Poll::Ready(Ok(bytes));
        }
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs));
        Poll::Ready(self.written(written, bytes))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        sync::Semaphore,
    };

    use super::*;

    impl Socket for TokioIo<DuplexStream> {
        fn peek(&self) -> io::Result<usize> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    /// An end that has closed: nothing more can be written, and what it has sent can still be read.
    #[tokio::test]
    async fn what_was_received_is_read_though_nothing_more_can_be_written() {
        let (near, mut far) = duplex(16);
        far.write_all(b"abc").await.unwrap();
        drop(far);
        let mut watched = TokioIo::new(watched(near).await);
        watched.write_all(b"defg").await.unwrap();
        watched.flush().await.unwrap();
        let mut text = String::new();
        watched.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "abc");
        watched.shutdown().await.unwrap();
    }

    async fn watched(near: DuplexStream) -> Watched<TokioIo<DuplexStream>> {
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        Watched::new(TokioIo::new(near), Activity::by_byte(), Place::new(place))
    }

    #[tokio::test]
    async fn what_was_read_too_far_is_read_first_however_small_the_buffer() {
        let (near, mut far) = duplex(16);
        far.write_all(b"def").await.unwrap();
        let mut watched = TokioIo::new(watched(near).await.unread(Bytes::from("abc")));
        let mut text = [0; 2];
        watched.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"ab");
        let mut text = [0; 4];
        watched.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"cdef");
    }
}

//! Connections, watched for progress.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::sync::OwnedSemaphorePermit;

use crate::idle::Activity;

/// A connection that notes when bytes move on it. It lies beneath TLS, so that a handshake and its bytes
/// count as well.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    io: T,
    activity: Activity,
    /// Bytes to be read before those of `io`.
    early: Bytes,
    proxied: bool,
    /// Among the connections that there may be, until it is dropped.
    _place: Arc<OwnedSemaphorePermit>,
}

impl<T> Watched<T> {
    pub(crate) fn new(io: T, activity: Activity, place: Arc<OwnedSemaphorePermit>) -> Self {
        Self { io, activity, early: Bytes::new(), proxied: false, _place: place }
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

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let fits = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(fits));
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.activity.hear();
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.activity.touch();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
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
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.activity.touch();
        Poll::Ready(Ok(written))
    }
}

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        sync::Semaphore,
    };

    use super::*;

    #[tokio::test]
    async fn what_was_read_too_far_is_read_first_however_small_the_buffer() {
        let (near, mut far) = duplex(16);
        far.write_all(b"def").await.unwrap();
        let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let watched = Watched::new(TokioIo::new(near), Activity::by_byte(), Arc::new(place));
        let mut watched = TokioIo::new(watched.unread(Bytes::from("abc")));
        let mut text = [0; 2];
        watched.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"ab");
        let mut text = [0; 4];
        watched.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"cdef");
    }
}

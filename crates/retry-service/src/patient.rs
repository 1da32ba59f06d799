//! Connections with callers: slow to read, or to be broken off.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// Says that a connection is to end with a reset: its caller has part of an answer, and must not take it for whole,
/// as it would where the end of the connection is the end of the answer (HTTP/1.0).
#[derive(Clone, Debug, Default)]
pub(crate) struct Reset(Arc<AtomicBool>);

impl Reset {
    pub(crate) fn ask(&self) {
        self.0.store(true, Relaxed);
    }
}

/// What can end with a reset.
pub(crate) trait Resettable {
    /// Makes the close to come a reset.
    fn reset_on_close(&self);
}

impl Resettable for TcpStream {
    fn reset_on_close(&self) {
        // Where that fails, the connection is gone already.
        let _ = self.set_zero_linger();
    }
}

/// A stream on which a write may be stuck only so long.
#[derive(Debug)]
pub(crate) struct Patient<T: Resettable> {
    io: T,
    reset: Reset,
    patience: Duration,
    /// Made when a write has to wait: most never do.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<T: Resettable> Drop for Patient<T> {
    fn drop(&mut self) {
        if self.reset.0.load(Relaxed) {
            self.io.reset_on_close();
        }
    }
}

impl<T: Resettable> Patient<T> {
    pub(crate) fn new(io: T, patience: Duration, reset: Reset) -> Self {
        Self { io, reset, patience, waiting: None }
    }

    /// Of a protocol that can break off one answer and go on with the others.
    pub(crate) fn without_reset(mut self) -> Self {
        self.reset = Reset::default();
        self
    }

    /// The stream itself.
    pub(crate) fn stream(&self) -> &T {
        &self.io
    }

    /// Ends a write that has waited for too long.
    fn limit<R>(&mut self, polled: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        if polled.is_ready() {
            self.waiting = None;
            return polled;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        waiting.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Resettable + Unpin> AsyncRead for Patient<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Resettable + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.limit(polled, cx)
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
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.limit(polled, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::Instant,
    };

    use super::*;

    impl Resettable for DuplexStream {
        fn reset_on_close(&self) {}
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_reads_nothing_is_given_up_on() {
        let (near, _far) = duplex(4);
        let begin = Instant::now();
        let error = Patient::new(near, SECOND, Reset::default()).write_all(&[0; 9]).await.unwrap_err();
        assert_eq!((error.kind(), begin.elapsed()), (io::ErrorKind::TimedOut, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_reads_slowly_gets_it_all() {
        let (near, mut far) = duplex(1);
        tokio::spawn(async move {
            while far.read_u8().await.is_ok() {
                sleep(SECOND - Duration::from_millis(1)).await;
            }
        });
        Patient::new(near, SECOND, Reset::default()).write_all(&[0; 9]).await.unwrap();
    }
}

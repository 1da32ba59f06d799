//! A connection's bytes, and the faults that can be ordered for them.
//!
//! hyper never misbehaves, so what it writes goes through a [`FaultyIo`]. The code that answers a
//! request holds the other end, a [`Wire`], and orders what is to go wrong with the bytes to come.
//! Reading is never disturbed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::fault::http2_frames::Frames;

/// What is to go wrong with the bytes a connection sends from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Send so many more bytes, and then end.
    After(u64, End),
    /// Send what has been written by the next flush, and then end.
    Flush(End),
    /// Send these bytes in place of all others, and then close.
    Instead(Bytes),
    /// Finish the HTTP/2 frame under way, send these bytes in place of all others, and then close.
    InsteadOfNextFrame(Bytes),
    /// Send a byte at a time, so far apart.
    Drip(Duration),
}

/// How a connection stops to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a RST.
    Reset,
    /// With a FIN.
    Close,
    /// Without a word.
    Stall,
}

/// The handle by which faults are ordered.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wire(Arc<Mutex<Option<Order>>>);

impl Wire {
    /// Replaces the standing order, if any.
    pub(crate) fn order(&self, order: Option<Order>) {
        *self.standing() = order;
    }

    fn standing(&self) -> MutexGuard<'_, Option<Order>> {
        // The lock is never held across anything that can panic, and an order is never half set.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What faults need of a socket beyond reading and writing.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Makes dropping the socket send a RST.
    fn reset_when_dropped(&self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn reset_when_dropped(&self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

/// A socket that carries out the orders given to its [`Wire`].
#[derive(Debug)]
pub(crate) struct FaultyIo<S> {
    socket: S,
    wire: Wire,
    sent: Frames,
    pause: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl<S: Socket> FaultyIo<S> {
    pub(crate) fn new(socket: S, wire: Wire) -> Self {
        Self { socket, wire, sent: Frames::default(), pause: None, ended: false }
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let order = self.wire.standing().clone();
        match order {
            None | Some(Order::Flush(_)) => self.pass(cx, bytes),
            Some(Order::After(0, end)) => self.end(cx, end).map_ok(|()| 0),
            Some(Order::After(left, end)) => self.pass_some(cx, bytes, left, end),
            Some(Order::Instead(other)) => self.replace(cx, other),
            Some(Order::InsteadOfNextFrame(other)) => match bytes.get(..self.sent.rest_of_frame(bytes)) {
                None | Some([]) => self.replace(cx, other),
                Some(rest_of_frame) => self.pass(cx, rest_of_frame),
            },
            Some(Order::Drip(pace)) => self.pass_slowly(cx, bytes, pace),
        }
    }

    fn pass(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        self.sent.advance(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn pass_some(&mut self, cx: &mut Context<'_>, bytes: &[u8], left: u64, end: End) -> Poll<io::Result<usize>> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let written = ready!(self.pass(cx, bytes.get(..most).unwrap_or_default()))?;
        self.wire.order(Some(Order::After(left - written as u64, end)));
        Poll::Ready(Ok(written))
    }

    fn pass_slowly(&mut self, cx: &mut Context<'_>, bytes: &[u8], pace: Duration) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let written = ready!(self.pass(cx, bytes.get(..1).unwrap_or_default()))?;
        self.pause = Some(Box::pin(tokio::time::sleep(pace)));
        Poll::Ready(Ok(written))
    }

    fn replace(&mut self, cx: &mut Context<'_>, mut other: Bytes) -> Poll<io::Result<usize>> {
        while other.has_remaining() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &other))?;
            other.advance(written);
            self.wire.order(Some(Order::Instead(other.clone())));
        }
        self.end(cx, End::Close).map_ok(|()| 0)
    }

    /// Stops to send. But for a stall this comes out as an error, so that hyper drops the socket.
    fn end(&mut self, cx: &mut Context<'_>, end: End) -> Poll<io::Result<()>> {
        match end {
            End::Stall => return Poll::Pending,
            End::Close => ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?,
            End::Reset => self.socket.reset_when_dropped()?,
        }
        self.ended = true;
        Poll::Ready(Err(ended()))
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "ended as the script says")
}

impl<S: Socket> AsyncWrite for FaultyIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ended { Poll::Ready(Err(ended())) } else { this.write(cx, bytes) }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.socket).poll_flush(cx))?;
        let order = this.wire.standing().clone();
        match order {
            Some(Order::Flush(end)) => this.end(cx, end),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A FIN after the end would spoil a RST.
        if this.ended { Poll::Ready(Ok(())) } else { Pin::new(&mut this.socket).poll_shutdown(cx) }
    }
}

impl<S: Socket> AsyncRead for FaultyIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ended { Poll::Ready(Err(ended())) } else { Pin::new(&mut this.socket).poll_read(cx, buffer) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    impl Socket for DuplexStream {
        fn reset_when_dropped(&self) -> io::Result<()> {
            RESET.store(true, Ordering::Relaxed);
            Ok(())
        }
    }

    static RESET: AtomicBool = AtomicBool::new(false);

    /// What the peer reads, when `text` is written under `order`.
    async fn sent(order: Option<Order>, text: &str) -> (String, io::Result<()>) {
        let (near, mut far) = duplex(1024);
        let wire = Wire::default();
        let mut io = FaultyIo::new(near, wire.clone());
        wire.order(order);
        let result = async {
            io.write_all(text.as_bytes()).await?;
            io.flush().await
        };
        let result = result.await;
        drop(io);
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        (read, result)
    }

    #[tokio::test]
    async fn without_orders_everything_passes() {
        let (read, result) = sent(None, "answer").await;
        assert_eq!(read, "answer");
        result.unwrap();
    }

    #[tokio::test]
    async fn the_end_comes_after_so_many_bytes() {
        for (bytes, expected) in [(0, ""), (1, "a"), (5, "answe")] {
            let (read, result) = sent(Some(Order::After(bytes, End::Close)), "answer").await;
            assert_eq!(read, expected);
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
        let (read, result) = sent(Some(Order::After(6, End::Close)), "answer").await;
        assert_eq!(read, "answer");
        result.unwrap();
    }

    #[tokio::test]
    async fn a_reset_is_asked_of_the_socket() {
        let (read, result) = sent(Some(Order::After(2, End::Reset)), "answer").await;
        assert_eq!(read, "an");
        result.unwrap_err();
        assert!(RESET.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn the_end_waits_for_the_flush() {
        let (read, result) = sent(Some(Order::Flush(End::Close)), "answer").await;
        assert_eq!(read, "answer");
        result.unwrap_err();
    }

    #[tokio::test]
    async fn other_bytes_take_the_place() {
        let (read, result) = sent(Some(Order::Instead("noise".into())), "answer").await;
        assert_eq!(read, "noise");
        result.unwrap_err();
    }

    #[tokio::test]
    async fn a_frame_under_way_is_finished_first() {
        let (near, mut far) = duplex(1024);
        let wire = Wire::default();
        let mut io = FaultyIo::new(near, wire.clone());
        io.write_all(b"\0\0\x03header").await.unwrap();
        wire.order(Some(Order::InsteadOfNextFrame("!".into())));
        io.write_all(b"abcnext").await.unwrap_err();
        drop(io);
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "\0\0\x03headerabc!");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_takes_its_time() {
        let start = Instant::now();
        let (read, result) = sent(Some(Order::Drip(Duration::from_secs(1))), "answer").await;
        assert_eq!(read, "answer");
        result.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_never_ends() {
        let stalled = sent(Some(Order::After(3, End::Stall)), "answer");
        let result = tokio::time::timeout(Duration::from_secs(3600), stalled).await;
        assert!(result.is_err());
    }
}

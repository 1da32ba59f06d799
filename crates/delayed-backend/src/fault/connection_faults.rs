//! A socket whose output can have faults.
//!
//! hyper always sends valid HTTP, so its output passes through a [`FaultyIo`]. The code that responds to a request sets
//! the fault of the following bytes in the connection's [`FaultSlot`]. Input is never changed.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::fault::http2_frames::FrameTracker;

/// A fault of everything that a connection sends from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputFault {
    /// Send this many more bytes, then end the connection.
    EndAfter(u64, ConnectionEnd),
    /// Send everything up to the next flush, then end the connection.
    EndAfterFlush(ConnectionEnd),
    /// Send these bytes instead of all others, then close the connection.
    Replace(Bytes),
    /// Finish the current HTTP/2 frame, send these bytes instead of all others, then close the connection.
    ReplaceNextFrame(Bytes),
    /// Send one byte at a time, with this pause between bytes.
    Drip(Duration),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// With a RST.
    Reset,
    /// With a FIN.
    Close,
    /// Not at all: it stays open, but nothing more is sent.
    Stall,
}

/// Holds the fault of a connection's output, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultSlot(Arc<Mutex<Option<OutputFault>>>);

impl FaultSlot {
    /// Sets or clears the fault.
    pub(crate) fn set(&self, fault: Option<OutputFault>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn get(&self) -> Option<OutputFault> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A socket that a fault can reset.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Configures the socket to send a RST when it is dropped.
    fn reset_on_drop(&self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn reset_on_drop(&self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

/// A socket whose output has the fault in a [`FaultSlot`].
#[derive(Debug)]
pub(crate) struct FaultyIo<S> {
    socket: S,
    fault: FaultSlot,
    frames: FrameTracker,
    pause: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl<S: Socket> FaultyIo<S> {
    pub(crate) fn new(socket: S, fault: FaultSlot) -> Self {
        Self { socket, fault, frames: FrameTracker::default(), pause: None, ended: false }
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.fault.get() {
            None | Some(OutputFault::EndAfterFlush(_)) => self.pass(cx, bytes),
            Some(OutputFault::EndAfter(0, end)) => self.end(cx, end),
            Some(OutputFault::EndAfter(left, end)) => {
                let limit = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let written = ready!(self.pass(cx, bytes.get(..limit).unwrap_or_default()))?;
                self.fault.set(Some(OutputFault::EndAfter(left - written as u64, end)));
                Poll::Ready(Ok(written))
            }
            Some(OutputFault::Replace(replacement)) => self.replace(cx, replacement),
            Some(OutputFault::ReplaceNextFrame(replacement)) => match self.frames.left() {
                0 => self.replace(cx, replacement),
                left => self.pass(cx, bytes.get(..left).unwrap_or(bytes)),
            },
            Some(OutputFault::Drip(pause)) => self.drip(cx, bytes, pause),
        }
    }

    fn pass(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        self.frames.advance(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn drip(&mut self, cx: &mut Context<'_>, bytes: &[u8], pause: Duration) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let written = ready!(self.pass(cx, bytes.get(..1).unwrap_or_default()))?;
        self.pause = Some(Box::pin(tokio::time::sleep(pause)));
        Poll::Ready(Ok(written))
    }

    fn replace(&mut self, cx: &mut Context<'_>, mut replacement: Bytes) -> Poll<io::Result<usize>> {
        while !replacement.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &replacement))?;
            replacement.advance(written);
            self.fault.set(Some(OutputFault::Replace(replacement.clone())));
        }
        self.end(cx, ConnectionEnd::Close)
    }

    /// Ends the connection. The error makes hyper drop the socket; a stall stays pending.
    fn end<T>(&mut self, cx: &mut Context<'_>, end: ConnectionEnd) -> Poll<io::Result<T>> {
        match end {
            ConnectionEnd::Stall => return Poll::Pending,
            ConnectionEnd::Close => ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?,
            ConnectionEnd::Reset => self.socket.reset_on_drop()?,
        }
        self.ended = true;
        Poll::Ready(Err(ended()))
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "ended by the script")
}

impl<S: Socket> AsyncWrite for FaultyIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ended { Poll::Ready(Err(ended())) } else { this.write(cx, bytes) }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.socket).poll_flush(cx))?;
        match this.fault.get() {
            Some(OutputFault::EndAfterFlush(end)) => this.end(cx, end),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A shutdown would send a FIN instead of the RST.
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
        fn reset_on_drop(&self) -> io::Result<()> {
            RESET.store(true, Ordering::Relaxed);
            Ok(())
        }
    }

    static RESET: AtomicBool = AtomicBool::new(false);

    /// Returns what the peer reads when `text` is written with this fault, and the result of writing it.
    async fn sent(fault: Option<OutputFault>, text: &str) -> (String, io::Result<()>) {
        let (near, mut far) = duplex(1024);
        let slot = FaultSlot::default();
        let mut io = FaultyIo::new(near, slot.clone());
        slot.set(fault);
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
    async fn without_a_fault_everything_passes() {
        let (read, result) = sent(None, "response").await;
        assert_eq!(read, "response");
        result.unwrap();
    }

    #[tokio::test]
    async fn the_connection_ends_after_the_given_number_of_bytes() {
        for (bytes, expected) in [(0, ""), (1, "r"), (4, "resp")] {
            let (read, result) = sent(Some(OutputFault::EndAfter(bytes, ConnectionEnd::Close)), "response").await;
            assert_eq!(read, expected);
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
        let (read, result) = sent(Some(OutputFault::EndAfter(8, ConnectionEnd::Close)), "response").await;
        assert_eq!(read, "response");
        result.unwrap();
    }

    #[tokio::test]
    async fn a_reset_configures_the_socket() {
        let (read, result) = sent(Some(OutputFault::EndAfter(2, ConnectionEnd::Reset)), "response").await;
        assert_eq!(read, "re");
        result.unwrap_err();
        assert!(RESET.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn the_end_waits_for_the_flush() {
        let (read, result) = sent(Some(OutputFault::EndAfterFlush(ConnectionEnd::Close)), "response").await;
        assert_eq!(read, "response");
        result.unwrap_err();
    }

    #[tokio::test]
    async fn a_replacement_is_sent_instead_of_the_output() {
        let (read, result) = sent(Some(OutputFault::Replace("noise".into())), "response").await;
        assert_eq!(read, "noise");
        result.unwrap_err();
    }

    #[tokio::test]
    async fn the_current_frame_is_finished_before_the_replacement() {
        let (near, mut far) = duplex(1024);
        let slot = FaultSlot::default();
        let mut io = FaultyIo::new(near, slot.clone());
        io.write_all(b"\0\0\x03header").await.unwrap();
        slot.set(Some(OutputFault::ReplaceNextFrame("!".into())));
        io.write_all(b"abcnext").await.unwrap_err();
        drop(io);
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "\0\0\x03headerabc!");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_pauses_between_bytes() {
        let start = Instant::now();
        let (read, result) = sent(Some(OutputFault::Drip(Duration::from_secs(1))), "response").await;
        assert_eq!(read, "response");
        result.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_never_ends() {
        let stalled = sent(Some(OutputFault::EndAfter(3, ConnectionEnd::Stall)), "response");
        let result = tokio::time::timeout(Duration::from_secs(3600), stalled).await;
        assert!(result.is_err());
    }
}

//! A socket whose output can have faults.
//!
//! hyper always sends valid HTTP, so its output passes through a [`FaultyIo`]. The code that responds to a request sets
//! the fault of the following bytes in the connection's [`FaultSlot`]. Input is never changed.

use std::fmt;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::fault::http2_frames::{FrameTracker, PingFilter};
use crate::fault::outage::Outages;
use crate::recorder::missed_fault::MissedFault;

/// A fault of everything that a connection sends from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputFault {
    /// Send this many more bytes, then end the connection.
    EndAfter(u64, ConnectionEnd),
    /// Insert these bytes at a position, then end the connection if there is an end.
    Insert(Bytes, Position, Option<ConnectionEnd>),
    /// Send at most this many bytes at once, with this pause after them.
    Pace(usize, Duration),
    /// Send the head of the response one byte at a time, with this pause between bytes.
    DripHead(Duration, HeadEnd),
    /// Close the connection once it has been idle for this long.
    CloseIdle(Duration),
    /// Do not respond to HTTP/2 PINGs.
    IgnorePings,
}

/// Where bytes are inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Position {
    /// Before the next byte.
    Here,
    /// After the current HTTP/2 frame.
    AfterFrame,
    /// After everything up to the next flush.
    AfterFlush,
}

/// How the end of a response's head is recognized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadEnd {
    /// By an empty line (HTTP/1.1), with the last four bytes so far.
    EmptyLine(u32),
    /// By the end of a HEADERS frame (HTTP/2).
    Frame,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionEnd {
    /// With a RST.
    Reset,
    /// With a FIN.
    Close,
    /// Not at all: it stays open, but nothing more is sent, and what arrives is discarded.
    Stall,
}

/// Holds the fault of a connection's output, if there is one.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultSlot(Arc<Mutex<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    fault: Option<OutputFault>,
    /// Watches whether the connection ends after some bytes, as its fault says.
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    missed: MissedFault,
    /// The bytes before the end of the connection.
    bytes: u64,
    /// Whether hyper has all of the response.
    response_ended: bool,
}

impl FaultSlot {
    /// Sets or clears the fault.
    pub(crate) fn set(&self, fault: Option<OutputFault>) {
        self.set_watched(fault, None);
    }

    /// Sets or clears the fault. If it ends the connection after some bytes, and they are not sent, that is reported.
    pub(crate) fn set_watched(&self, fault: Option<OutputFault>, missed: Option<MissedFault>) {
        let watch = match (&fault, missed) {
            (Some(OutputFault::EndAfter(bytes, _)), Some(missed)) => {
                Some(Watch { missed, bytes: *bytes, response_ended: false })
            }
            _ => None,
        };
        let before = mem::replace(&mut *self.lock(), Slot { fault, watch });
        before.report();
    }

    /// Changes the fault that the connection plays.
    fn change(&self, fault: OutputFault) {
        self.lock().fault = Some(fault);
    }

    /// Notes that hyper has all of the response, so that the next flush sends the rest of it.
    pub(crate) fn end_response(&self) {
        if let Some(watch) = &mut self.lock().watch {
            watch.response_ended = true;
        }
    }

    /// Reports a fault that the response has not reached, if everything has been sent of it.
    fn flushed(&self) {
        let mut slot = self.lock();
        let watch = slot.watch.take_if(|watch| watch.response_ended);
        let ended = Slot { fault: slot.fault.clone(), watch };
        drop(slot);
        ended.report();
    }

    /// Stops watching: the fault takes effect.
    fn reached(&self) {
        self.lock().watch = None;
    }

    /// Keeps an idle connection open, because it has a request again.
    pub(crate) fn cancel_close(&self) {
        let mut slot = self.lock();
        if matches!(slot.fault, Some(OutputFault::CloseIdle(_))) {
            slot.fault = None;
        }
    }

    #[cfg(test)]
    pub(crate) fn clear(&self) -> Option<OutputFault> {
        self.lock().fault.take()
    }

    fn get(&self) -> Option<OutputFault> {
        self.lock().fault.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Reports that the fault has not been reached, if it is watched.
    fn report(self) {
        if let Some(Watch { missed, bytes, .. }) = self.watch {
            let left = match self.fault {
                Some(OutputFault::EndAfter(left, _)) => left,
                _ => 0,
            };
            missed.report(&format!("as {} bytes have been sent", bytes - left));
        }
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
    outages: Outages,
    frames: FrameTracker,
    pings: PingFilter,
    /// What is sent before anything else.
    ahead: Bytes,
    /// The rest of a blackhole, during which nothing is read or written.
    blackhole: Option<Blackhole>,
    /// The end of a pause between writes.
    pause: Option<Pin<Box<Sleep>>>,
    /// The end of the connection, if nothing is written until then.
    idle: Option<Pin<Box<Sleep>>>,
    ended: Option<ConnectionEnd>,
}

/// Completes at the end of a blackhole.
struct Blackhole(Pin<Box<dyn Future<Output = ()> + Send>>);

impl fmt::Debug for Blackhole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Blackhole")
    }
}

impl<S: Socket> FaultyIo<S> {
    pub(crate) fn new(socket: S, fault: FaultSlot, outages: Outages) -> Self {
        Self {
            socket,
            fault,
            outages,
            frames: FrameTracker::default(),
            pings: PingFilter::default(),
            ahead: Bytes::new(),
            blackhole: None,
            pause: None,
            idle: None,
            ended: None,
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let fault = self.fault.get();
        if fault != Some(OutputFault::IgnorePings) {
            match self.pings.skip(bytes) {
                0 => {}
                skipped => return Poll::Ready(Ok(skipped)),
            }
            let header = self.pings.stop();
            self.ahead = if self.ahead.is_empty() { header.into() } else { self.ahead.clone() };
        }
        ready!(self.write_ahead(cx))?;
        match fault {
            None | Some(OutputFault::Insert(_, Position::AfterFlush, _) | OutputFault::CloseIdle(_)) => {
                self.pass(cx, bytes)
            }
            Some(OutputFault::EndAfter(0, end)) => self.end(cx, end),
            Some(OutputFault::EndAfter(left, end)) => {
                let limit = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let written = ready!(self.pass(cx, bytes.get(..limit).unwrap_or_default()))?;
                self.fault.change(OutputFault::EndAfter(left - written as u64, end));
                Poll::Ready(Ok(written))
            }
            Some(OutputFault::Insert(_, Position::AfterFrame, _)) if self.frames.left() > 0 => {
                self.pass(cx, bytes.get(..self.frames.left()).unwrap_or(bytes))
            }
            Some(OutputFault::Insert(inserted, position, end)) => {
                ready!(self.insert(cx, inserted, position, end))?;
                self.pass(cx, bytes)
            }
            Some(OutputFault::Pace(size, pause)) => self.pace(cx, bytes, size, pause),
            Some(OutputFault::DripHead(pause, head_end)) => self.drip_head(cx, bytes, pause, head_end),
            Some(OutputFault::IgnorePings) => match self.frames.left() {
                0 => {
                    let (taken, header) = self.pings.take(bytes);
                    self.ahead = header.unwrap_or_default().into();
                    Poll::Ready(Ok(taken))
                }
                left => self.pass(cx, bytes.get(..left).unwrap_or(bytes)),
            },
        }
    }

    /// Sends what has been taken, but is to be sent after all.
    fn write_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ahead.is_empty() {
            let ahead = self.ahead.clone();
            let written = ready!(self.pass(cx, &ahead))?;
            self.ahead.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn pass(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        self.idle = None;
        self.frames.advance(bytes.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn pace(&mut self, cx: &mut Context<'_>, bytes: &[u8], size: usize, pause: Duration) -> Poll<io::Result<usize>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let written = ready!(self.pass(cx, bytes.get(..size).unwrap_or(bytes)))?;
        self.pause = Some(Box::pin(sleep(pause)));
        Poll::Ready(Ok(written))
    }

    fn drip_head(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        pause: Duration,
        head_end: HeadEnd,
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.pace(cx, bytes, 1, pause))?;
        let byte = bytes.first().copied().unwrap_or_default();
        let (head_end, ended) = match head_end {
            HeadEnd::EmptyLine(tail) => {
                let tail = tail << 8 | u32::from(byte);
                (HeadEnd::EmptyLine(tail), tail.to_be_bytes() == *b"\r\n\r\n")
            }
            HeadEnd::Frame => (head_end, self.frames.is_after_head()),
        };
        self.fault.set((!ended).then_some(OutputFault::DripHead(pause, head_end)));
        Poll::Ready(Ok(written))
    }

    fn insert(
        &mut self,
        cx: &mut Context<'_>,
        mut bytes: Bytes,
        position: Position,
        end: Option<ConnectionEnd>,
    ) -> Poll<io::Result<()>> {
        while !bytes.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &bytes))?;
            bytes.advance(written);
            // What has been inserted in part is continued before anything else.
            let position = if bytes.is_empty() { position } else { Position::Here };
            self.fault.set(Some(OutputFault::Insert(bytes.clone(), position, end)));
        }
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        match end {
            Some(end) => self.end(cx, end),
            None => {
                self.fault.set(None);
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Ends the connection. The error makes hyper drop the socket; a stall stays pending.
    fn end<T>(&mut self, cx: &mut Context<'_>, end: ConnectionEnd) -> Poll<io::Result<T>> {
        match end {
            ConnectionEnd::Stall => {}
            ConnectionEnd::Close => ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?,
            ConnectionEnd::Reset => self.socket.reset_on_drop()?,
        }
        self.ended = Some(end);
        self.fault.reached();
        self.poll_ended()
    }

    /// Returns what happens to output after the end.
    fn poll_ended<T>(&self) -> Poll<io::Result<T>> {
        match self.ended {
            Some(ConnectionEnd::Stall) => Poll::Pending,
            _ => Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, "ended by the script"))),
        }
    }

    /// Closes an idle connection in time. Ready if it has not been closed.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let idle = match &mut self.idle {
            Some(idle) if matches!(self.fault.lock().fault, Some(OutputFault::CloseIdle(_))) => idle.as_mut().poll(cx),
            _ => Poll::Pending,
        };
        if idle.is_ready() { self.end(cx, ConnectionEnd::Close) } else { Poll::Ready(Ok(())) }
    }

    /// Waits for the end of a blackhole.
    fn poll_blackhole(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(rest) = self.outages.new_blackhole() {
            self.blackhole = Some(Blackhole(Box::pin(rest)));
        }
        if let Some(Blackhole(rest)) = &mut self.blackhole {
            ready!(rest.as_mut().poll(cx));
            self.blackhole = None;
        }
        Poll::Ready(())
    }

    /// Discards what arrives on a connection that is stalled, and notices its end.
    fn discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut discarded = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut discarded);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// A fault that has not taken effect by the end of the connection never does.
impl<S> Drop for FaultyIo<S> {
    fn drop(&mut self) {
        self.fault.set(None);
    }
}

impl<S: Socket> AsyncWrite for FaultyIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_blackhole(cx));
        if this.ended.is_some() { this.poll_ended() } else { this.write(cx, bytes) }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_blackhole(cx));
        if this.ended.is_some() {
            return this.poll_ended();
        }
        ready!(this.write_ahead(cx))?;
        ready!(Pin::new(&mut this.socket).poll_flush(cx))?;
        this.fault.flushed();
        match this.fault.get() {
            Some(OutputFault::Insert(bytes, position @ (Position::AfterFlush | Position::Here), end)) => {
                this.insert(cx, bytes, position, end)
            }
            Some(OutputFault::CloseIdle(length)) => {
                if this.idle.is_none() {
                    this.idle = Some(Box::pin(sleep(length)));
                }
                this.poll_idle(cx)
            }
            _ => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // A shutdown would send a FIN instead of the RST.
        if this.ended.is_some() { Poll::Ready(Ok(())) } else { Pin::new(&mut this.socket).poll_shutdown(cx) }
    }
}

impl<S: Socket> AsyncRead for FaultyIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_blackhole(cx));
        match this.ended {
            None => ready!(this.poll_idle(cx))?,
            Some(ConnectionEnd::Stall) => return this.discard(cx),
            Some(_) => return this.poll_ended(),
        }
        Pin::new(&mut this.socket).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;
    use crate::fault::outage::{Outage, OutageStarter};

    impl Socket for DuplexStream {
        fn reset_on_drop(&self) -> io::Result<()> {
            RESET.store(true, Ordering::Relaxed);
            Ok(())
        }
    }

    static RESET: AtomicBool = AtomicBool::new(false);

    fn insert(bytes: &'static str, position: Position) -> OutputFault {
        OutputFault::Insert(bytes.into(), position, Some(ConnectionEnd::Close))
    }

    /// Returns what the peer reads when `text` is written with this fault, and the result of writing it.
    async fn sent(fault: Option<OutputFault>, text: &str) -> (String, io::Result<()>) {
        let (near, mut far) = duplex(1024);
        let slot = FaultSlot::default();
        let mut io = FaultyIo::new(near, slot.clone(), OutageStarter::default().subscribe());
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
        let (read, result) = sent(Some(insert("", Position::AfterFlush)), "response").await;
        assert_eq!(read, "response");
        result.unwrap_err();
        let (read, result) = sent(Some(insert("!", Position::AfterFlush)), "response").await;
        assert_eq!(read, "response!");
        result.unwrap_err();
    }

    #[tokio::test]
    async fn a_replacement_is_sent_instead_of_the_output() {
        let (read, result) = sent(Some(insert("noise", Position::Here)), "response").await;
        assert_eq!(read, "noise");
        result.unwrap_err();
    }

    #[tokio::test]
    async fn the_current_frame_is_finished_before_the_replacement() {
        let (near, mut far) = duplex(1024);
        let slot = FaultSlot::default();
        let mut io = FaultyIo::new(near, slot.clone(), OutageStarter::default().subscribe());
        io.write_all(b"\0\0\x03header").await.unwrap();
        slot.set(Some(insert("!", Position::AfterFrame)));
        io.write_all(b"abcnext").await.unwrap_err();
        drop(io);
        let mut read = String::new();
        far.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "\0\0\x03headerabc!");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_pauses_between_bytes() {
        let start = Instant::now();
        let (read, result) = sent(Some(OutputFault::Pace(1, Duration::from_secs(1))), "response").await;
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

    #[tokio::test]
    async fn output_continues_after_bytes_without_an_end() {
        let fault = OutputFault::Insert("!".into(), Position::Here, None);
        let (read, result) = sent(Some(fault), "response").await;
        assert_eq!(read, "!response");
        result.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_head_drips() {
        let start = Instant::now();
        let fault = OutputFault::DripHead(Duration::from_secs(1), HeadEnd::EmptyLine(0));
        let (read, result) = sent(Some(fault), "head\r\n\r\nbody").await;
        assert_eq!(read, "head\r\n\r\nbody");
        result.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test]
    async fn responses_to_pings_are_left_out_however_the_output_is_split() {
        let ping = "\0\0\u{8}\u{6}\u{1}............";
        let frame = "\0\0\u{3}\0\0\0\0\0\0abc";
        let empty = "\0\0\0\u{4}\u{1}\0\0\0\0";
        let output = format!("{frame}{ping}{ping}{empty}{frame}{ping}");
        let expected = format!("{frame}{empty}{frame}");
        let end = output.len();
        for (first, second) in (0..end).flat_map(|first| [1, 3, 8, end].map(|length| (first, end.min(first + length))))
        {
            let (near, mut far) = duplex(1024);
            let slot = FaultSlot::default();
            let mut io = FaultyIo::new(near, slot.clone(), OutageStarter::default().subscribe());
            slot.set(Some(OutputFault::IgnorePings));
            for part in [0..first, first..second, second..end] {
                io.write_all(output.get(part).unwrap().as_bytes()).await.unwrap();
                io.flush().await.unwrap();
            }
            drop(io);
            let mut read = String::new();
            far.read_to_string(&mut read).await.unwrap();
            assert_eq!(read, expected, "split at {first} and {second}");
        }
    }

    #[tokio::test]
    async fn the_frame_in_which_pings_are_responded_to_again_is_complete_or_left_out() {
        let ping = "\0\0\u{8}\u{6}\u{1}............";
        let frame = "\0\0\u{3}\0\0\0\0\0\0abc";
        let output = format!("{ping}{frame}");
        for split in 0..output.len() {
            let (near, mut far) = duplex(1024);
            let slot = FaultSlot::default();
            let mut io = FaultyIo::new(near, slot.clone(), OutageStarter::default().subscribe());
            slot.set(Some(OutputFault::IgnorePings));
            io.write_all(output.get(..split).unwrap().as_bytes()).await.unwrap();
            slot.set(None);
            io.write_all(output.get(split..).unwrap().as_bytes()).await.unwrap();
            drop(io);
            let mut read = String::new();
            far.read_to_string(&mut read).await.unwrap();
            assert_eq!(read, if split < 9 { output.as_str() } else { frame }, "split at {split}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_unless_it_has_a_request_again() {
        for (canceled, expected) in [(false, Some(20)), (true, None)] {
            let (near, mut far) = duplex(1024);
            let slot = FaultSlot::default();
            let mut io = FaultyIo::new(near, slot.clone(), OutageStarter::default().subscribe());
            let start = Instant::now();
            slot.set(Some(OutputFault::CloseIdle(Duration::from_secs(20))));
            io.write_all(b"response").await.unwrap();
            io.flush().await.unwrap();
            if canceled {
                slot.cancel_close();
            }
            let read = tokio::time::timeout(Duration::from_secs(3600), io.read(&mut [0])).await;
            assert_eq!(read.map(|read| read.unwrap_err().kind()).ok().map(|_| start.elapsed().as_secs()), expected);
            drop(io);
            far.read_to_string(&mut String::new()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn the_longest_idle_time_does_not_overflow() {
        let (read, result) = sent(Some(OutputFault::CloseIdle(Duration::MAX)), "response").await;
        assert_eq!(read, "response");
        result.unwrap();
    }

    #[tokio::test]
    async fn bytes_that_exceed_the_buffer_of_the_socket_are_inserted_completely() {
        let (near, mut far) = duplex(4);
        let slot = FaultSlot::default();
        let mut io = FaultyIo::new(near, slot.clone(), OutageStarter::default().subscribe());
        slot.set(Some(OutputFault::Insert("0123456789".into(), Position::AfterFlush, None)));
        let write = async {
            io.write_all(b"ab").await.unwrap();
            io.flush().await.unwrap();
            io.write_all(b"cd").await.unwrap();
            drop(io);
        };
        let mut read = String::new();
        let (_, result) = tokio::join!(write, far.read_to_string(&mut read));
        result.unwrap();
        assert_eq!(read, "ab0123456789cd");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_passes_a_blackhole_until_it_ends() {
        let (near, mut far) = duplex(1024);
        let outages = OutageStarter::default();
        let mut io = FaultyIo::new(near, FaultSlot::default(), outages.subscribe());
        outages.start(Outage::Blackhole, Duration::from_secs(3));
        let start = Instant::now();
        far.write_all(b"request").await.unwrap();
        io.read_exact(&mut [0; 7]).await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        outages.start(Outage::Blackhole, Duration::from_secs(3600));
        let end = async {
            sleep(Duration::from_secs(2)).await;
            outages.end();
        };
        let (written, ()) = tokio::join!(io.write_all(b"response"), end);
        written.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(5));
    }
}

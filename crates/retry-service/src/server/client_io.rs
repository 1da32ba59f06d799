//! Connections with callers: slow to ask, slow to read, gone, or to be broken off.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};

use crate::server::{
    connection_state::{Line, REST_BYTES, REST_TIME},
    parse_errors,
};

/// What callers are connected by.
pub(crate) trait Wire {
    /// Makes the close to come a reset.
    fn reset_on_close(&self);

    /// Ready once the caller is gone, and nothing that it has sent waits to be read; with whether something waits.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Waits>;

    /// Whether the caller has reset the connection, though bytes may wait to be read.
    fn is_reset(&self) -> bool;
}

/// What is known of a caller without reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// It is gone.
    Nothing,
    /// Bytes of it wait to be read, and what stands behind them cannot be seen.
    Bytes,
}

impl Wire for TcpStream {
    fn reset_on_close(&self) {
        // Where that fails, the connection is gone already.
        let _ = self.set_zero_linger();
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<Waits> {
        let mut byte = [0];
        let peeked = ready!(self.poll_peek(cx, &mut ReadBuf::new(&mut byte)));
        Poll::Ready(if peeked.is_ok_and(|bytes| bytes > 0) { Waits::Bytes } else { Waits::Nothing })
    }

    fn is_reset(&self) -> bool {
        self.take_error().is_ok_and(|error| error.is_some())
    }
}

/// How often a caller is looked at of whom bytes wait that nobody reads, as when the upstream takes no more of them.
const LOOK: Duration = Duration::from_secs(1);

/// How long a caller is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until the head of its next request is there.
    pub(crate) to_ask: Duration,
    /// Until it takes some of the bytes that wait for it.
    pub(crate) to_take: Duration,
}

/// How much of the next request is read while one is in flight, to find out whether its caller is still there.
const AHEAD: usize = 16 * 1024;

/// Up to so many bytes, the head and the body of an answer are written as one: the plain write saves more than the copy
/// costs.
const SHORT: usize = 512;

/// A connection with a caller.
///
/// hyper is told to leave callers alone that have said all there is to say (`half_close`): it would read on, and to
/// read it takes a buffer. Whether they are still there is looked at here, while something is under way for them.
#[derive(Debug)]
pub(crate) struct Patient<T: Wire> {
    io: T,
    /// What has been read already.
    early: BytesMut,
    line: Line,
    /// Whether it carries many requests at a time, and its protocol looks after them.
    shared: bool,
    patience: Arc<Patience>,
    /// When the wait for the next request began; none until there is such a wait.
    idle: Option<Instant>,
    /// Fires when that wait may have been too long. Moved only then: most waits are short, and cost no timer.
    asking: Option<Pin<Box<Sleep>>>,
    /// Made when a write has to wait: most never do.
    taking: Option<Pin<Box<Sleep>>>,
    /// Fires when a caller is to be looked at whose upload nobody reads.
    looking: Option<Pin<Box<Sleep>>>,
    /// While the connection is closed in stages.
    closing: Option<Box<Closing>>,
}

/// A close in stages: RFC 9112, section 9.6. With bytes unread the kernel would answer a close with a reset, and the
/// caller, still sending, could lose the response.
#[derive(Debug)]
struct Closing {
    end: Pin<Box<Sleep>>,
    bytes: usize,
}

impl<T: Wire> Drop for Patient<T> {
    fn drop(&mut self) {
        if self.http1().is_some_and(Line::is_to_be_reset) {
            self.io.reset_on_close();
        }
    }
}

impl<T: Wire> Patient<T> {
    /// A connection of which the first bytes may have been read already.
    pub(crate) fn new(io: T, early: &[u8], patience: Arc<Patience>, line: Line) -> Self {
        let early = BytesMut::from(early);
        Self {
            io,
            early,
            line,
            shared: false,
            patience,
            idle: None,
            asking: None,
            taking: None,
            looking: None,
            closing: None,
        }
    }

    /// What its requests tell it, if it carries one at a time.
    fn http1(&self) -> Option<&Line> {
        (!self.shared).then_some(&self.line)
    }

    /// Of a protocol that carries many requests at a time, and looks after them itself.
    pub(crate) fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Ends a wait for the head of a request that has been too long.
    fn poll_asking(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shared || self.line.is_tunnel() {
            return Poll::Pending;
        }
        if self.line.is_busy() {
            // No such wait yet. But it may begin unseen, as when the end of a body is noticed elsewhere: look again.
            self.idle = Some(Instant::now());
        }
        let Some(due) = self.idle.get_or_insert_with(Instant::now).checked_add(self.patience.to_ask) else {
            return Poll::Pending;
        };
        let asking = self.asking.get_or_insert_with(|| Box::pin(sleep_until(due)));
        while asking.as_mut().poll(cx).is_ready() {
            if asking.deadline() >= due {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            asking.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// Ends a write that has waited for too long.
    fn poll_taking<R>(&mut self, polled: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        self.line.set_blocked(polled.is_pending());
        if polled.is_ready() {
            self.taking = None;
            // An answer goes out: what comes next is another wait.
            self.idle = None;
            return polled;
        }
        let taking = self.taking.get_or_insert_with(|| Box::pin(sleep(self.patience.to_take)));
        taking.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Wire + Unpin> Patient<T> {
    /// Ready once the caller has reset the connection. No wake-up tells of that while bytes wait before it.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let looking = self.looking.get_or_insert_with(|| Box::pin(sleep(LOOK)));
        while looking.as_mut().poll(cx).is_ready() {
            if self.io.is_reset() {
                return Poll::Ready(());
            }
            looking.as_mut().reset(Instant::now() + LOOK);
        }
        Poll::Pending
    }

    /// Ready once the caller is gone. What it has sent meanwhile, such as its next request, is read for that; once that
    /// is a lot, it is not known any more. The body of a request under way is hyper's to read.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.line.has_upload() {
            return match ready!(self.io.poll_gone(cx)) {
                Waits::Nothing => Poll::Ready(()),
                Waits::Bytes => self.poll_reset(cx),
            };
        }
        let mut piece = [MaybeUninit::uninit(); 512];
        while self.early.len() < AHEAD {
            let mut read = ReadBuf::uninit(&mut piece);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => self.early.extend_from_slice(read.filled()),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Reads what the caller still sends, until it has closed as well or that is no longer worth it.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let new = || Box::new(Closing { end: Box::pin(sleep(REST_TIME)), bytes: REST_BYTES });
        let Closing { end, bytes } = &mut **self.closing.get_or_insert_with(new);
        let mut sink = [MaybeUninit::uninit(); 4096];
        loop {
            let mut read = ReadBuf::uninit(&mut sink);
            match Pin::new(&mut self.io).poll_read(cx, &mut read) {
                Poll::Pending => return end.as_mut().poll(cx),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if read.filled().is_empty() || read.filled().len() > *bytes => {
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(())) => *bytes -= read.filled().len(),
            }
        }
    }
}

impl<T: AsyncRead + Wire + Unpin> AsyncRead for Patient<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let fits = self.early.len().min(buf.remaining());
            buf.put_slice(&self.early.split_to(fits));
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending => self.poll_asking(cx),
            ready => ready,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Wire + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let is_hypers = self.http1().is_some_and(Line::is_silent);
        let refusal = if is_hypers { parse_errors::with_payload(buf, Timestamp::now()) } else { None };
        let polled = match &refusal {
            None => Pin::new(&mut self.io).poll_write(cx, buf),
            // Where there is room for some of it only, its caller has left answers unread, and loses the rest of this.
            Some(refusal) => Pin::new(&mut self.io)
                .poll_write(cx, refusal)
                .map_ok(|written| if written == refusal.len() { buf.len() } else { 0 }),
        };
        self.poll_taking(polled, cx)
    }

    /// hyper asks for this whenever it has done what it could, and has nothing left to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shared {
            self.line.written();
            if self.line.is_busy() && self.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            if !self.http1().is_some_and(Line::has_unread) {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_closing(cx).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().map(|buf| buf.len()).sum::<usize>() <= SHORT {
            let mut joined = [0; SHORT];
            let mut joined = ReadBuf::new(&mut joined);
            bufs.iter().for_each(|buf| joined.put_slice(buf));
            return self.poll_write(cx, joined.filled());
        }
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.poll_taking(polled, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::Instant,
    };

    use super::*;

    impl Wire for DuplexStream {
        fn reset_on_close(&self) {}

        fn poll_gone(&self, _: &mut Context<'_>) -> Poll<Waits> {
            Poll::Pending
        }

        fn is_reset(&self) -> bool {
            false
        }
    }

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience { to_ask: SECOND, to_take: SECOND };

    #[tokio::test]
    async fn a_caller_that_has_gone_is_noticed_behind_what_it_sent_before() {
        let (near, mut far) = duplex(64);
        let line = Line::default();
        let mut near = Patient::new(near, b"GET", Arc::new(PATIENCE), line.clone());
        let _busy = line.enter();
        far.write_all(b" /x").await.unwrap();
        near.flush().await.unwrap();
        drop(far);
        assert_eq!(near.flush().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut read = [0; 6];
        near.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"GET /x", "nothing is lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_reads_nothing_is_given_up_on() {
        let (near, _far) = duplex(4);
        let begin = Instant::now();
        let error = Patient::new(near, b"", Arc::new(PATIENCE), Line::default()).write_all(&[0; 9]).await.unwrap_err();
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
        Patient::new(near, b"", Arc::new(PATIENCE), Line::default()).write_all(&[0; 9]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_asks_nothing_is_given_up_on_though_it_says_something() {
        let (near, mut far) = duplex(9);
        let begin = Instant::now();
        tokio::spawn(async move {
            while far.write_all(b"x").await.is_ok() {
                sleep(SECOND / 4).await;
            }
        });
        let mut near = Patient::new(near, b"", Arc::new(PATIENCE), Line::default());
        let error = near.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!((error.kind(), begin.elapsed()), (io::ErrorKind::TimedOut, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn after_an_answer_the_next_request_has_its_whole_time() {
        let (near, _far) = duplex(9);
        let line = Line::default();
        let mut near = Patient::new(near, b"", Arc::new(PATIENCE), line.clone());
        let begin = Instant::now();
        let mut read = async |patience| tokio::time::timeout(patience, near.read_u8()).await;
        // A wait that goes on, and an answer that takes its time.
        assert!(read(SECOND / 2).await.is_err());
        let busy = line.enter();
        assert!(read(5 * SECOND).await.is_err());
        near.write_all(b"answer").await.unwrap();
        drop(busy);
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), SECOND / 2 + 5 * SECOND + SECOND);
    }
}

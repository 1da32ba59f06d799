//! The IO of client connections: timeouts, clients that are gone, and how a connection is closed.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::connection_state::{ConnectionState, LINGER_BYTES, LINGER_TIME};

/// How often the socket is checked for a reset while an upload is stalled.
const RESET_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How much is read ahead while a request is in flight, to find out whether its client is still there.
const READ_AHEAD: usize = 16 * 1024;

/// Up to this length, a vectored write is copied into one buffer: the plain write saves more than the copy costs.
const MAX_JOINED_WRITE: usize = 512;

/// A socket that can be examined without reading from it.
pub(crate) trait ClientSocket {
    /// Makes closing the socket send a reset.
    fn reset_on_close(&self);

    /// Waits for something to read, and returns whether there is any; if not, the client is gone.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<bool>;

    /// Whether the client has reset the connection, although there may still be bytes to read.
    fn is_reset(&self) -> bool;
}

impl ClientSocket for TcpStream {
    fn reset_on_close(&self) {
        // It fails only on a connection that is gone already.
        let _ = self.set_zero_linger();
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut byte = [0];
        self.poll_peek(cx, &mut ReadBuf::new(&mut byte)).map(|peeked| peeked.is_ok_and(|bytes| bytes > 0))
    }

    fn is_reset(&self) -> bool {
        self.take_error().is_ok_and(|error| error.is_some())
    }
}

/// How long to wait for a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientTimeouts {
    /// For the head of a request.
    pub(crate) header: Duration,
    /// For the client to read some of a response.
    pub(crate) write: Duration,
}

/// A connection with a client.
///
/// hyper notices that a client is gone by reading ahead, which takes a read buffer for each request in flight. Here it
/// is found out without one, so hyper does not read ahead (`half_close`).
#[derive(Debug)]
pub(crate) struct ClientIo<T: ClientSocket> {
    io: T,
    /// Bytes that have been read but not yet returned.
    read_ahead: BytesMut,
    state: ConnectionState,
    /// Over HTTP/2, many requests share the connection, and hyper detects idle and closed connections itself.
    is_http2: bool,
    timeouts: Arc<ClientTimeouts>,
    /// When the wait for the next request began; `None` before the first wait.
    waiting_since: Option<Instant>,
    /// For the header timeout. It is moved only when it fires, as most waits are short.
    header_timer: Option<Pin<Box<Sleep>>>,
    /// Present while a write waits for the client.
    write_timer: Option<Pin<Box<Sleep>>>,
    reset_check: Option<Pin<Box<Sleep>>>,
    /// Present once the write side is shut down while the client may still be sending.
    lingering: Option<Box<Lingering>>,
}

/// A lingering close: RFC 9112, section 9.6. If the socket were closed with unread bytes, the kernel would send a reset,
/// and the client could lose the response.
#[derive(Debug)]
struct Lingering {
    deadline: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<T: ClientSocket> Drop for ClientIo<T> {
    fn drop(&mut self) {
        if !self.is_http2 && self.state.is_reset_on_close() {
            self.io.reset_on_close();
        }
    }
}

impl<T: ClientSocket> ClientIo<T> {
    /// Wraps a connection of which the bytes in `read_ahead` have been read.
    pub(crate) fn new(
        io: T,
        read_ahead: &[u8],
        is_http2: bool,
        timeouts: Arc<ClientTimeouts>,
        state: ConnectionState,
    ) -> Self {
        Self {
            io,
            read_ahead: BytesMut::from(read_ahead),
            state,
            is_http2,
            timeouts,
            waiting_since: None,
            header_timer: None,
            write_timer: None,
            reset_check: None,
            lingering: None,
        }
    }

    /// Fails once the wait for the head of a request has taken too long.
    fn poll_header_timeout(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_http2 || self.state.is_upgraded() {
            return Poll::Pending;
        }
        if self.state.has_request_in_flight() {
            // The wait may begin without a wake-up, when the last guard is dropped elsewhere: keep the timer running.
            self.waiting_since = Some(Instant::now());
        }
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let Some(due) = since.checked_add(self.timeouts.header) else { return Poll::Pending };
        let timer = self.header_timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= due {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// Fails once a write has waited too long for the client.
    fn poll_write_timeout<R>(&mut self, polled: Poll<io::Result<R>>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        self.state.set_write_blocked(polled.is_pending());
        if polled.is_ready() {
            self.write_timer = None;
            // The header timeout begins anew after a response.
            self.waiting_since = None;
            return polled;
        }
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep(self.timeouts.write)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + ClientSocket + Unpin> ClientIo<T> {
    /// Completes once the client has closed or reset the connection. To see that behind what the client has sent
    /// meanwhile, such as its next request, up to `READ_AHEAD` bytes of it are read. The body of a request is left to
    /// hyper.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state.has_upload() {
            let is_readable = ready!(self.io.poll_readable(cx));
            return if is_readable { self.poll_reset(cx) } else { Poll::Ready(()) };
        }
        let mut piece = [MaybeUninit::uninit(); 512];
        while self.read_ahead.len() < READ_AHEAD {
            let mut read = ReadBuf::uninit(&mut piece);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => self.read_ahead.extend_from_slice(read.filled()),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Completes once the client has reset the connection, which causes no wake-up while there are bytes to read.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.reset_check.get_or_insert_with(|| Box::pin(sleep(RESET_CHECK_INTERVAL)));
        while timer.as_mut().poll(cx).is_ready() {
            if self.io.is_reset() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + RESET_CHECK_INTERVAL);
        }
        Poll::Pending
    }

    /// Reads what the client still sends, until it closes the connection or a limit is reached.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let new = || Box::new(Lingering { deadline: Box::pin(sleep(LINGER_TIME)), bytes_left: LINGER_BYTES });
        let Lingering { deadline, bytes_left } = &mut **self.lingering.get_or_insert_with(new);
        let mut discarded = [MaybeUninit::uninit(); 4096];
        loop {
            let mut read = ReadBuf::uninit(&mut discarded);
            match Pin::new(&mut self.io).poll_read(cx, &mut read) {
                Poll::Pending => return deadline.as_mut().poll(cx),
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(())) if read.filled().is_empty() || read.filled().len() > *bytes_left => {
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(())) => *bytes_left -= read.filled().len(),
            }
        }
    }
}

impl<T: AsyncRead + ClientSocket + Unpin> AsyncRead for ClientIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read_ahead.is_empty() {
            let fits = self.read_ahead.len().min(buf.remaining());
            buf.put_slice(&self.read_ahead.split_to(fits));
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending => self.poll_header_timeout(cx),
            ready => ready,
        }
    }
}

impl<T: AsyncRead + AsyncWrite + ClientSocket + Unpin> AsyncWrite for ClientIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.poll_write_timeout(polled, cx)
    }

    /// hyper flushes each time it is polled and has nothing more to write, so a closed connection is noticed here.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_http2 && self.state.has_request_in_flight() && self.poll_closed(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            if self.is_http2 || !self.state.has_unread_body() {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_linger(cx).map(Ok)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.iter().map(|buf| buf.len()).sum::<usize>() <= MAX_JOINED_WRITE {
            let mut joined = [0; MAX_JOINED_WRITE];
            let mut joined = ReadBuf::new(&mut joined);
            bufs.iter().for_each(|buf| joined.put_slice(buf));
            return self.poll_write(cx, joined.filled());
        }
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.poll_write_timeout(polled, cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::Instant,
    };

    use super::*;

    impl ClientSocket for DuplexStream {
        fn reset_on_close(&self) {}

        fn poll_readable(&self, _: &mut Context<'_>) -> Poll<bool> {
            Poll::Pending
        }

        fn is_reset(&self) -> bool {
            false
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn http1(io: DuplexStream, read_ahead: &[u8], state: &ConnectionState) -> ClientIo<DuplexStream> {
        let timeouts = ClientTimeouts { header: SECOND, write: SECOND };
        ClientIo::new(io, read_ahead, false, Arc::new(timeouts), state.clone())
    }

    #[tokio::test]
    async fn a_closed_connection_is_noticed_behind_pipelined_bytes() {
        let (near, mut far) = duplex(64);
        let state = ConnectionState::default();
        let mut near = http1(near, b"GET", &state);
        let _request = state.begin_request();
        far.write_all(b" /x").await.unwrap();
        near.flush().await.unwrap();
        drop(far);
        assert_eq!(near.flush().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut read = [0; 6];
        near.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"GET /x", "nothing is lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_times_out() {
        let (near, _far) = duplex(4);
        let begin = Instant::now();
        let error = http1(near, b"", &ConnectionState::default()).write_all(&[0; 9]).await.unwrap_err();
        assert_eq!((error.kind(), begin.elapsed()), (io::ErrorKind::TimedOut, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_gets_everything() {
        let (near, mut far) = duplex(1);
        tokio::spawn(async move {
            while far.read_u8().await.is_ok() {
                sleep(SECOND - Duration::from_millis(1)).await;
            }
        });
        http1(near, b"", &ConnectionState::default()).write_all(&[0; 9]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_no_complete_head_times_out() {
        let (near, mut far) = duplex(9);
        let begin = Instant::now();
        tokio::spawn(async move {
            while far.write_all(b"x").await.is_ok() {
                sleep(SECOND / 4).await;
            }
        });
        let mut near = http1(near, b"", &ConnectionState::default());
        let error = near.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!((error.kind(), begin.elapsed()), (io::ErrorKind::TimedOut, SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn the_header_timeout_begins_anew_after_a_response() {
        let (near, _far) = duplex(9);
        let state = ConnectionState::default();
        let mut near = http1(near, b"", &state);
        let begin = Instant::now();
        let mut read = async |limit| tokio::time::timeout(limit, near.read_u8()).await;
        // A wait that goes on, and a response that takes its time.
        assert!(read(SECOND / 2).await.is_err());
        let request = state.begin_request();
        assert!(read(5 * SECOND).await.is_err());
        near.write_all(b"response").await.unwrap();
        drop(request);
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), SECOND / 2 + 5 * SECOND + SECOND);
    }
}

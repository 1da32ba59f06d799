//! The IO of client connections: timeouts, detection of disconnects, and the way a connection is closed.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::{
    connection_state::ConnectionState,
    disconnect::{ClientSocket, DisconnectDetector},
    limits::Limits,
    lingering_close::LingeringClose,
    timer::LazyTimer,
};

/// Up to this length, a vectored write is copied into one buffer: the plain write saves more than the copy costs.
const MAX_JOINED_WRITE: usize = 512;

/// A connection with a client.
#[derive(Debug)]
pub(crate) struct ClientIo<T: ClientSocket> {
    io: T,
    state: ConnectionState,
    /// Over HTTP/2, many requests share the connection, and hyper detects idle and closed connections itself.
    is_http2: bool,
    limits: Arc<Limits>,
    disconnect: DisconnectDetector,
    /// When the wait for the next request began; `None` before the first wait.
    waiting_since: Option<Instant>,
    header_timer: LazyTimer,
    /// Present while a write waits for the client.
    write_timer: Option<Pin<Box<Sleep>>>,
    /// Whether a response with a 4xx status was written, and nothing has been read since.
    has_rejected: bool,
    /// Present once the write side is shut down while the client may still be sending.
    lingering: Option<Box<LingeringClose>>,
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
        read_ahead: BytesMut,
        is_http2: bool,
        limits: Arc<Limits>,
        state: ConnectionState,
    ) -> Self {
        Self {
            io,
            state,
            is_http2,
            limits,
            disconnect: DisconnectDetector::new(read_ahead),
            waiting_since: None,
            header_timer: LazyTimer::default(),
            write_timer: None,
            has_rejected: false,
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
        let Some(due) = since.checked_add(self.limits.header_timeout) else { return Poll::Pending };
        self.header_timer.poll_until(due, cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
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
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep(self.limits.client_timeout)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + ClientSocket + Unpin> AsyncRead for ClientIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.has_rejected = false;
        if self.disconnect.take_read_ahead(buf) {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Pending => self.poll_header_timeout(cx),
            Poll::Ready(read) => {
                self.disconnect.note_read(buf.remaining() == 0);
                Poll::Ready(read)
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + ClientSocket + Unpin> AsyncWrite for ClientIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.has_rejected = is_client_error(buf);
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        self.poll_write_timeout(polled, cx)
    }

    /// hyper flushes each time it is polled and has nothing more to write, so a closed connection is noticed here.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, state, is_http2, disconnect, .. } = &mut *self;
        if !*is_http2 && state.has_request_in_flight() && disconnect.poll_closed(io, state.has_upload(), cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(io).poll_flush(cx)
    }

    /// Lingers if the client may still be sending a request: its body is not read to the end, or the request was rejected.
    /// hyper itself rejects a head that is malformed or too large before it has read all of it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, state, is_http2, has_rejected, lingering, .. } = &mut *self;
        if lingering.is_none() {
            ready!(Pin::new(&mut *io).poll_shutdown(cx))?;
            let may_be_sending = state.has_unread_body() || *has_rejected;
            if *is_http2 || state.is_upgraded() || !may_be_sending {
                return Poll::Ready(Ok(()));
            }
        }
        lingering.get_or_insert_with(LingeringClose::start).poll(io, cx).map(Ok)
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

/// Whether a response with a 4xx status begins here.
fn is_client_error(written: &[u8]) -> bool {
    written.starts_with(b"HTTP/1.") && written.get(8..10) == Some(b" 4")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let limits = Limits { header_timeout: SECOND, client_timeout: SECOND, ..Limits::default() };
        ClientIo::new(io, read_ahead.into(), false, Arc::new(limits), state.clone())
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

    #[tokio::test]
    async fn nothing_is_discarded_when_a_tunnel_is_half_closed() {
        let (near, mut far) = duplex(64);
        let state = ConnectionState::default();
        state.upgrade();
        let mut near = http1(near, b"", &state);
        far.write_all(b"more").await.unwrap();
        near.write_all(b"HTTP/1.1 400 Bad Request").await.unwrap();
        near.shutdown().await.unwrap();
        drop(far);
        let mut read = String::new();
        near.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "more");
    }
}

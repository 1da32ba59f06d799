//! Detects that a client is gone while its request is in flight.
//!
//! hyper would find out by reading ahead, which takes a read buffer for each request in flight. Here it takes none, so
//! hyper does not read ahead (`half_close`).

use std::{
    mem::{self, MaybeUninit},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

/// How often the socket is checked for a reset while an upload is stalled.
const RESET_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How many bytes are read ahead.
const MAX_READ_AHEAD: usize = 16 * 1024;

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

/// Detects a disconnect, and keeps what is read for that.
#[derive(Debug)]
pub(super) struct DisconnectDetector {
    /// Bytes that have been read but not yet taken.
    read_ahead: BytesMut,
    /// Whether hyper's last read filled its buffer.
    was_filled: bool,
    reset_check: Option<Pin<Box<Sleep>>>,
}

impl DisconnectDetector {
    /// Creates a detector for a connection of which these bytes have been read.
    pub(super) fn new(read_ahead: BytesMut) -> Self {
        Self { read_ahead, was_filled: false, reset_check: None }
    }

    /// Moves bytes that have been read to `buf`. Returns whether there were any.
    pub(super) fn take_read_ahead(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let length = self.read_ahead.len().min(buf.remaining());
        buf.put_slice(&self.read_ahead.split_to(length));
        length > 0
    }

    /// Notes that hyper has read from the connection, and whether that filled its buffer.
    pub(super) fn note_read(&mut self, filled: bool) {
        self.was_filled = filled;
    }

    /// Completes once the client has closed or reset the connection. To see that behind what the client has sent
    /// meanwhile, such as its next request, up to `MAX_READ_AHEAD` bytes of it are read. During an upload nothing is
    /// read: the body of the request is left to hyper.
    pub(super) fn poll_closed<T: AsyncRead + ClientSocket + Unpin>(
        &mut self,
        io: &mut T,
        has_upload: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if has_upload {
            // After a read that filled the buffer there is most likely more, which would take a system call to see.
            let is_readable = mem::take(&mut self.was_filled) || ready!(io.poll_readable(cx));
            return if is_readable { self.poll_reset(io, cx) } else { Poll::Ready(()) };
        }
        let mut piece = [MaybeUninit::uninit(); 512];
        while self.read_ahead.len() < MAX_READ_AHEAD {
            let mut read = ReadBuf::uninit(&mut piece);
            match ready!(Pin::new(&mut *io).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => self.read_ahead.extend_from_slice(read.filled()),
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Completes once the client has reset the connection, which causes no wake-up while there are bytes to read.
    fn poll_reset(&mut self, io: &impl ClientSocket, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.reset_check.get_or_insert_with(|| Box::pin(sleep(RESET_CHECK_INTERVAL)));
        while timer.as_mut().poll(cx).is_ready() {
            if io.is_reset() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + RESET_CHECK_INTERVAL);
        }
        Poll::Pending
    }
}

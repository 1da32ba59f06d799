//! A lingering close: RFC 9112, section 9.6.
//!
//! If a socket is closed with unread bytes, the kernel sends a reset, and the client can lose the response.

use std::{
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Sleep, sleep},
};

/// How much of an unneeded request is read, and for how long, so that the client gets to read the response.
pub(crate) const LINGER_BYTES: usize = 1024 * 1024;
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(1);

/// The close of a connection whose write side is shut down while its client may still be sending.
#[derive(Debug)]
pub(super) struct LingeringClose {
    deadline: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl LingeringClose {
    pub(super) fn start() -> Box<Self> {
        Box::new(Self { deadline: Box::pin(sleep(LINGER_TIME)), bytes_left: LINGER_BYTES })
    }

    /// Reads what the client still sends, until it closes the connection or a limit is reached.
    pub(super) fn poll(&mut self, io: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<()> {
        let mut discarded = [MaybeUninit::uninit(); 4096];
        loop {
            let mut read = ReadBuf::uninit(&mut discarded);
            let Poll::Ready(result) = Pin::new(&mut *io).poll_read(cx, &mut read) else {
                return self.deadline.as_mut().poll(cx);
            };
            let length = read.filled().len();
            if result.is_err() || length == 0 || length > self.bytes_left {
                return Poll::Ready(());
            }
            self.bytes_left -= length;
        }
    }
}

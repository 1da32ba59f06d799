//! The rest of a request body that is not forwarded any more: the upstream does not need it, or only its end is
//! missing.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};

use crate::server::lingering_close::{LINGER_BYTES, LINGER_TIME};

/// Reads the rest of a request body before the response ends.
///
/// Otherwise an HTTP/2 client that is still sending would get a reset of the stream after the response, and some
/// clients then report the request as failed.
#[derive(Debug)]
pub(crate) struct UnreadBody {
    dropped: oneshot::Receiver<Incoming>,
    body: Option<Incoming>,
    max_bytes: usize,
    timeout: Option<Pin<Box<Sleep>>>,
}

impl UnreadBody {
    /// `dropped` receives the body when it is not forwarded any more.
    pub(super) fn new(dropped: oneshot::Receiver<Incoming>) -> Self {
        Self { dropped, body: None, max_bytes: LINGER_BYTES, timeout: None }
    }

    /// Completes when the body has been read, or a limit is reached; at once while the body is still forwarded.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.body.is_none() {
            self.body = self.dropped.try_recv().ok();
        }
        let Some(body) = &mut self.body else { return Poll::Ready(()) };
        while let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) {
            let Some(Ok(frame)) = frame else { return Poll::Ready(()) };
            let length = frame.data_ref().map_or(0, Bytes::len);
            match self.max_bytes.checked_sub(length) {
                Some(left) if !body.is_end_stream() => self.max_bytes = left,
                _ => return Poll::Ready(()),
            }
        }
        self.timeout.get_or_insert_with(|| Box::pin(sleep(LINGER_TIME))).as_mut().poll(cx)
    }
}

//! A body that ends before all of it has been sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::fault::io::{ConnectionEnd, FaultSlot, OutputFault};
use crate::routes::responses::ResponseBody;

/// The first bytes of a body.
///
/// If the length of the whole body is known, that length is announced, and a body that is short enough is sent
/// complete. If it is not known (`chunked`), the end of the body is always missing.
#[derive(Debug)]
pub(crate) struct TruncatedBody {
    body: ResponseBody,
    announced: Option<u64>,
    left: u64,
    incomplete: bool,
    ending: Ending,
}

/// How a truncated body ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The connection is closed (HTTP/1.1).
    Close(FaultSlot),
    /// The HTTP/2 stream ends, in contradiction to its `Content-Length`.
    EndStream,
    /// The HTTP/2 stream is reset, because END_STREAM would complete a body without a length.
    Reset(ResetAfterSend),
}

/// Resets a stream once everything before the reset has been sent.
#[derive(Debug, Default)]
pub(crate) enum ResetAfterSend {
    /// The marker frame has not been returned yet.
    #[default]
    Unmarked,
    /// The receiver completes when the marker frame is dropped.
    Marked(oneshot::Receiver<()>),
}

impl TruncatedBody {
    /// Truncates `body` after this many bytes, or after half of them if `None`.
    pub(crate) fn new(body: ResponseBody, bytes: Option<u64>, ending: Ending) -> Self {
        let size = body.size_hint();
        let (announced, left) = (size.exact(), bytes.unwrap_or(size.lower() / 2));
        Self { body, announced, left, incomplete: announced.is_none_or(|length| left < length), ending }
    }

    fn end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match &mut self.ending {
            _ if !self.incomplete => Poll::Ready(None),
            Ending::EndStream => Poll::Ready(None),
            Ending::Close(slot) => {
                // While hyper waits for more of the body, it flushes what it has.
                slot.set(Some(OutputFault::EndAfterFlush(ConnectionEnd::Close)));
                Poll::Pending
            }
            Ending::Reset(reset) => reset.poll_frame(cx),
        }
    }
}

impl ResetAfterSend {
    /// Returns an empty frame, then the error that resets the stream once that frame has been sent.
    ///
    /// h2 discards the queue of a stream that is reset. It sends the frames of a stream in order, and drops each when
    /// it is written to the socket.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match self {
            Self::Unmarked => {
                let (sender, dropped) = oneshot::channel();
                *self = Self::Marked(dropped);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Marker(sender))))))
            }
            Self::Marked(dropped) => {
                // Always an error, because nothing is sent on the channel.
                let _ = ready!(Pin::new(dropped).poll(cx));
                Poll::Ready(Some(Err(Reason::INTERNAL_ERROR.into())))
            }
        }
    }
}

/// The content of an empty DATA frame.
struct Marker(#[expect(dead_code, reason = "only its drop matters")] oneshot::Sender<()>);

impl AsRef<[u8]> for Marker {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl Body for TruncatedBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.left == 0 {
            return self.end(cx);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?;
        let Some(Ok(mut data)) = frame.map(Frame::into_data) else {
            self.left = 0;
            return self.end(cx);
        };
        data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= data.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    /// The length of the whole body, if it is known.
    fn size_hint(&self) -> SizeHint {
        self.announced.map(SizeHint::with_exact).unwrap_or_default()
    }
}

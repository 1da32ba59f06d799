//! A body that ends early.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::fault::connection_faults::{ConnectionEnd, FaultSlot, OutputFault, Position};
use crate::routes::responses::ResponseBody;

/// The first bytes of a body.
///
/// If the length of the full body is known, it becomes the `Content-Length`, and a body that is short enough is sent
/// completely. If the length is unknown (`chunked`), the body is never terminated.
#[derive(Debug)]
pub(crate) struct TruncatedBody {
    body: ResponseBody,
    full_length: Option<u64>,
    left: u64,
    incomplete: bool,
    ending: Ending,
}

/// How a truncated body ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// After these bytes, the connection is closed (HTTP/1.1).
    Close(FaultSlot, Bytes),
    /// The HTTP/2 stream ends with fewer bytes than its `Content-Length`.
    EndStream,
    /// The HTTP/2 stream is reset, because END_STREAM would complete a body without a length.
    /// Before it is, the body returns an empty frame, and the receiver completes when that frame has been sent.
    Reset(Option<oneshot::Receiver<()>>),
}

impl TruncatedBody {
    /// Truncates `body` after this many bytes, or after half of them if `None`.
    pub(crate) fn new(body: ResponseBody, bytes: Option<u64>, ending: Ending) -> Self {
        let size = body.size_hint();
        let (full_length, left) = (size.exact(), bytes.unwrap_or(size.lower() / 2));
        Self { body, full_length, left, incomplete: full_length.is_none_or(|length| left < length), ending }
    }

    fn end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match &mut self.ending {
            _ if !self.incomplete => Poll::Ready(None),
            Ending::EndStream => Poll::Ready(None),
            Ending::Close(slot, bytes) => {
                // hyper flushes its buffer while it waits for more of the body.
                slot.set(Some(OutputFault::Insert(bytes.clone(), Position::AfterFlush, Some(ConnectionEnd::Close))));
                Poll::Pending
            }
            Ending::Reset(marker) => reset_after_send(marker, cx),
        }
    }
}

/// Returns an empty frame, then the error that resets the stream once that frame has been sent.
///
/// h2 discards the queue of a stream that is reset. It sends the frames of a stream in order, and drops each one after
/// writing it to the socket.
fn reset_after_send(
    marker: &mut Option<oneshot::Receiver<()>>,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
    let Some(dropped) = marker else {
        let (sender, dropped) = oneshot::channel();
        *marker = Some(dropped);
        return Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Marker(sender))))));
    };
    // Always an error, because nothing is sent on the channel.
    let _ = ready!(Pin::new(dropped).poll(cx));
    Poll::Ready(Some(Err(Reason::INTERNAL_ERROR.into())))
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

    /// The length of the full body, if it is known.
    fn size_hint(&self) -> SizeHint {
        self.full_length.map(SizeHint::with_exact).unwrap_or_default()
    }
}

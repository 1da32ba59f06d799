//! A body that ends before all of it has been sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::fault::io::{End, Order, Wire};
use crate::routes::responses::AnswerBody;

/// The first bytes of a body.
///
/// If the length is known, that of the whole body is stated, and a body that is short enough is
/// not cut. If it is not (`chunked`), the end of the body is always missing.
#[derive(Debug)]
pub(crate) struct Cut {
    body: AnswerBody,
    promised: Option<u64>,
    left: u64,
    is_cut: bool,
    ending: Ending,
}

/// What happens on the connection where the body is cut.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The connection is closed: HTTP/1.1.
    Close(Wire),
    /// The HTTP/2 stream ends, in contradiction to its `Content-Length`.
    EndStream,
    /// The HTTP/2 stream is reset: without a length, END_STREAM would make the body complete.
    Reset(Sent),
}

/// Whether the bytes before the reset have been sent.
#[derive(Debug, Default)]
pub(crate) enum Sent {
    /// The marker behind these bytes has not been returned yet.
    #[default]
    Unmarked,
    /// The receiver completes when the marker is dropped.
    Marked(oneshot::Receiver<()>),
}

impl Cut {
    /// Cuts `body` after this many bytes, or after half of them.
    pub(crate) fn new(body: AnswerBody, bytes: Option<u64>, ending: Ending) -> Self {
        let size = body.size_hint();
        let (promised, left) = (size.exact(), bytes.unwrap_or(size.lower() / 2));
        Self { body, promised, left, is_cut: promised.is_none_or(|length| left < length), ending }
    }

    /// The length of the whole body, if it is sent.
    pub(crate) fn promised(&self) -> Option<u64> {
        self.promised
    }

    fn end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match &mut self.ending {
            _ if !self.is_cut => Poll::Ready(None),
            Ending::EndStream => Poll::Ready(None),
            Ending::Close(wire) => {
                // hyper, left waiting for more of the body, flushes what it has of it.
                wire.order(Some(Order::Flush(End::Close)));
                Poll::Pending
            }
            Ending::Reset(sent) => sent.poll_reset(cx),
        }
    }
}

impl Sent {
    /// Returns an empty frame, and the error that resets the stream once that frame has been sent.
    ///
    /// h2 discards what a stream still has in its queue when the stream is reset. It drops a DATA
    /// frame when the frame is on its way to the socket, and sends a stream's frames in order.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match self {
            Self::Unmarked => {
                let (sender, dropped) = oneshot::channel();
                *self = Self::Marked(dropped);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_owner(Marker(sender))))))
            }
            Self::Marked(dropped) => {
                // An error, because nothing is ever sent on the channel.
                let _ = ready!(Pin::new(dropped).poll(cx));
                Poll::Ready(Some(Err(Reason::INTERNAL_ERROR.into())))
            }
        }
    }
}

/// The content of an empty DATA frame.
struct Marker(#[expect(dead_code, reason = "it is there to be dropped")] oneshot::Sender<()>);

impl AsRef<[u8]> for Marker {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl Body for Cut {
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

    fn size_hint(&self) -> SizeHint {
        self.promised.map(SizeHint::with_exact).unwrap_or_default()
    }
}

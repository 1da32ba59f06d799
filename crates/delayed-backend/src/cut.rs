//! A body that promises more than it gives.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::answers::AnswerBody;
use crate::wire::{End, Order, Wire};

/// The first bytes of a body, under the length of the whole.
#[derive(Debug)]
pub(crate) struct Cut {
    body: AnswerBody,
    promised: u64,
    left: u64,
    wire: Option<Wire>,
}

impl Cut {
    /// Cuts `body` after so many bytes, or after half of them.
    ///
    /// Under HTTP/1.1 only the end of the connection ends it, which takes its `wire`; an HTTP/2
    /// stream just ends.
    pub(crate) fn new(body: AnswerBody, bytes: Option<u64>, wire: Option<Wire>) -> Self {
        let promised = body.size_hint().lower();
        Self { body, promised, left: bytes.unwrap_or(promised / 2), wire }
    }

    pub(crate) fn promised(&self) -> u64 {
        self.promised
    }

    fn end(&self) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &self.wire {
            None => Poll::Ready(None),
            Some(wire) => {
                // hyper, left waiting for more of the body, flushes what it has of it.
                wire.order(Some(Order::Flush(End::Close)));
                Poll::Pending
            }
        }
    }
}

impl Body for Cut {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 && self.promised > 0 {
            return self.end();
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let Some(Ok(Ok(mut data))) = frame.map(|frame| frame.map(Frame::into_data)) else {
            return Poll::Ready(None);
        };
        data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= data.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}

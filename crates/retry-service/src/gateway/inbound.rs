//! The body of an inbound request, within what one caller may take.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use crate::line::Busy;

/// A body that may stall only so long, and be only so large.
#[derive(Debug)]
pub(crate) struct Inbound {
    body: Incoming,
    left: Option<u64>,
    patience: Duration,
    /// Until its end, as it may outlast the answer.
    busy: Option<Busy>,
    /// Made when the caller has to be waited for.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// It is larger than allowed.
#[derive(Debug, thiserror::Error)]
#[error("the body is too large")]
pub(crate) struct TooLarge;

/// The caller has stopped sending it.
#[derive(Debug, thiserror::Error)]
#[error("the caller sent nothing more of the body for {0:?}")]
pub(crate) struct Stalled(Duration);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Inbound {
    pub(crate) fn new(body: Incoming, limit: Option<u64>, patience: Duration, busy: Busy) -> Self {
        Self { body, left: limit, patience, busy: Some(busy), waiting: None }
    }

    fn count(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BoxError> {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(length).ok_or(TooLarge)?;
        }
        Ok(frame)
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = None;
            if frame.is_none() || self.body.is_end_stream() {
                self.busy = None;
            }
            return Poll::Ready(frame.map(|frame| self.count(frame?)));
        }
        let patience = self.patience;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(patience)));
        waiting.as_mut().poll(cx).map(|()| Some(Err(Stalled(patience).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

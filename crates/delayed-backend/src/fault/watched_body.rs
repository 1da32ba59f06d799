//! A body whose end is noted, to find out whether its response has reached a fault.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::fault::connection_faults::FaultSlot;
use crate::routes::responses::ResponseBody;

/// A body that tells the connection when hyper has all of it (HTTP/1.1).
#[derive(Debug)]
pub(crate) struct WatchedBody(pub(crate) ResponseBody, pub(crate) FaultSlot);

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.1.end_response();
    }
}

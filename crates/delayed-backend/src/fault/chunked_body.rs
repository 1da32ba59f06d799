//! A body that is sent without its length.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::routes::responses::ResponseBody;

/// A body that hides its exact length, so that hyper sends no `Content-Length`.
#[derive(Debug)]
pub(crate) struct ChunkedBody {
    body: ResponseBody,
    /// The second half of a frame whose first half has been returned.
    second_half: Bytes,
}

impl ChunkedBody {
    pub(crate) fn new(body: ResponseBody) -> Self {
        Self { body, second_half: Bytes::new() }
    }
}

impl Body for ChunkedBody {
    type Data = Bytes;
    type Error = h2::Error;

    /// Returns each frame of the body in two halves, so that even a short body takes more than one chunk.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.second_half.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(mem::take(&mut self.second_half)))));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?;
        let mut data = match frame.map(Frame::into_data) {
            Some(Ok(data)) => data,
            Some(Err(trailers)) => return Poll::Ready(Some(Ok(trailers))),
            None => return Poll::Ready(None),
        };
        self.second_half = data.split_off(data.len().div_ceil(2));
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    /// A lower bound only: an exact size would become the `Content-Length`.
    fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.body.size_hint().lower());
        hint
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::routes::responses::boxed;

    async fn chunks(text: &'static str) -> Vec<Bytes> {
        let mut body = ChunkedBody::new(boxed(Full::from(text)));
        let mut chunks = Vec::new();
        while let Some(frame) = body.frame().await {
            chunks.push(frame.unwrap().into_data().unwrap());
        }
        chunks
    }

    #[tokio::test]
    async fn each_frame_is_sent_in_halves() {
        assert_eq!(chunks("").await, Vec::<Bytes>::new());
        assert_eq!(chunks("a").await, ["a"]);
        assert_eq!(chunks("abc").await, ["ab", "c"]);
    }

    #[test]
    fn the_length_is_only_a_lower_bound() {
        let hint = ChunkedBody::new(boxed(Full::from("abc"))).size_hint();
        assert_eq!((hint.lower(), hint.exact()), (3, None));
    }
}

//! The body of a request that is passed on, and recorded at its end.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::recorder::Recorder;
use crate::recorder::body::BodyRecord;

/// A body that is recorded when it has been passed on completely.
#[derive(Debug)]
pub(crate) struct PassingBody<B: Body> {
    body: B,
    recorder: Arc<Recorder>,
    number: NonZeroU64,
    /// `None` once the body has been recorded.
    record: Option<BodyRecord>,
}

impl<B: Body> PassingBody<B> {
    /// Passes on the body of the request with this number.
    pub(crate) fn new(body: B, recorder: Arc<Recorder>, number: NonZeroU64) -> Self {
        let mut body = Self { body, recorder, number, record: Some(BodyRecord::new(0)) };
        // A body that is known to be empty is not polled.
        body.finish(false);
        body
    }

    /// Records the body, if it has ended.
    fn finish(&mut self, is_end: bool) {
        if (is_end || self.body.is_end_stream())
            && let Some(record) = self.record.take()
        {
            self.recorder.add_body(self.number, record.finish().0);
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for PassingBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(Ok(frame)), Some(record)) = (&frame, &mut self.record) {
            record.add(frame);
        }
        // hyper does not poll a body after its trailers.
        self.finish(frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::recorder::Limits;
    use crate::recorder::events::Events;
    use crate::recorder::recorded_request::RecordedRequest;

    #[tokio::test]
    async fn a_body_is_recorded_once_it_has_been_passed_on() {
        let recorder = Arc::new(Recorder::new(Limits::DEFAULT, Events::default()));
        let (head, ()) = Request::new(()).into_parts();
        let body = |text: &'static str| {
            let number = recorder.record(|number| RecordedRequest::new(number, &head, 1, None, "ok".into()));
            PassingBody::new(Full::<Bytes>::from(text), Arc::clone(&recorder), number)
        };
        assert_eq!(body("abc").collect().await.unwrap().to_bytes(), "abc");
        drop(body(""));
        drop(body("abc"));
        let lengths = recorder.report().requests.iter().map(|one| Some(one.body.as_ref()?.length)).collect::<Vec<_>>();
        assert_eq!(lengths, [Some(3), Some(0), None]);
    }
}

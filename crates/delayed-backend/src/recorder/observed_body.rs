//! A response body whose end is recorded.

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::recorder::Recorder;
use crate::recorder::recorded_request::RecordedResponse;

/// The record of a response that is being sent.
#[derive(Debug)]
pub(crate) struct ResponseRecord {
    recorder: Arc<Recorder>,
    number: NonZeroU64,
    start: Instant,
    response: RecordedResponse,
}

impl ResponseRecord {
    /// Records the head of the response to the request with this number, which arrived at `start`.
    pub(crate) fn start(recorder: &Arc<Recorder>, number: NonZeroU64, start: Instant, status: u16) -> Self {
        let response = RecordedResponse { status, length: 0, complete: false, milliseconds: 0 };
        let mut record = Self { recorder: Arc::clone(recorder), number, start, response };
        record.write();
        record
    }

    fn write(&mut self) {
        self.response.milliseconds = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.recorder.set_response(self.number, self.response.clone());
    }
}

/// A body that records its end when it is dropped.
#[derive(Debug)]
pub(crate) struct ObservedBody<B: Body> {
    body: B,
    record: ResponseRecord,
}

impl<B: Body> ObservedBody<B> {
    pub(crate) fn new(body: B, record: ResponseRecord) -> Self {
        Self { body, record }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ObservedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let response = &mut self.record.response;
        match &frame {
            // hyper does not poll a body after its trailers.
            Some(Ok(frame)) if frame.is_trailers() => response.complete = true,
            Some(Ok(frame)) => response.length += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) => {}
            None => response.complete = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body> Drop for ObservedBody<B> {
    fn drop(&mut self) {
        self.record.response.complete |= self.body.is_end_stream();
        self.record.write();
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
    async fn the_end_of_a_body_is_recorded_however_it_ends() {
        let recorder = Arc::new(Recorder::new(Limits::DEFAULT, Events::default()));
        let (head, ()) = Request::new(()).into_parts();
        let body = |text: &'static str| {
            let number = recorder.record(|number| RecordedRequest::new(number, &head, 1, None, "ok".into()));
            let record = ResponseRecord::start(&recorder, number, Instant::now(), 200);
            ObservedBody::new(Full::<Bytes>::from(text), record)
        };
        body("abc").collect().await.unwrap();
        drop(body("abc"));
        drop(body(""));
        let open = body("abc");
        let responses: Vec<_> = recorder.report().requests.iter().filter_map(|one| one.response.clone()).collect();
        let responses: Vec<_> = responses.iter().map(|one| (one.status, one.length, one.complete)).collect();
        assert_eq!(responses, [(200, 3, true), (200, 0, false), (200, 0, true), (200, 0, false)]);
        drop(open);
    }
}

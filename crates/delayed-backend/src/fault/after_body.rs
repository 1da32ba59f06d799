//! A body with a fault after its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::fault::connection_faults::{FaultSlot, OutputFault};
use crate::routes::responses::ResponseBody;

/// A complete body, and what follows it.
#[derive(Debug)]
pub(crate) struct AfterBody {
    body: ResponseBody,
    /// The rest of the body's length, if it is known.
    left: Option<u64>,
    after: Option<After>,
    /// The trailers of an upstream's response, which follow the last frame.
    trailers: Option<Frame<Bytes>>,
}

/// What follows a body.
#[derive(Debug)]
pub(crate) enum After {
    /// A fault of the connection (HTTP/1.1).
    Fault(FaultSlot, OutputFault),
    /// A last frame, which does not count towards the length of the body (HTTP/2).
    Frame(Bytes),
}

impl After {
    /// Returns a fault of the connection that starts when the whole body has been sent.
    pub(crate) fn fault(slot: FaultSlot, fault: OutputFault, http2: bool) -> Self {
        if http2 { Self::Frame(Bytes::from_owner(SetOnDrop(slot, Some(fault)))) } else { Self::Fault(slot, fault) }
    }
}

impl AfterBody {
    pub(crate) fn new(body: ResponseBody, after: After) -> Self {
        Self { left: body.size_hint().exact(), body, after: Some(after), trailers: None }
    }

    /// Sets the fault, or returns the last frame. The trailers are last of all.
    fn end(&mut self) -> Option<Result<Frame<Bytes>, h2::Error>> {
        match self.after.take() {
            Some(After::Frame(frame)) => return Some(Ok(Frame::data(frame))),
            Some(After::Fault(slot, fault)) => slot.set(Some(fault)),
            None => {}
        }
        self.trailers.take().map(Ok)
    }
}

impl Body for AfterBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.after.is_none() || self.left == Some(0) {
            return Poll::Ready(self.end());
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?;
        let data = match frame.map(Frame::into_data) {
            Some(Ok(data)) => data,
            Some(Err(trailers)) => {
                self.trailers = Some(trailers);
                return Poll::Ready(self.end());
            }
            None => return Poll::Ready(self.end()),
        };
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(data.len() as u64);
            // Over HTTP/1.1, a body whose length is known is not polled again.
            if *left == 0 && matches!(self.after, Some(After::Fault(..))) {
                let _ = self.end();
            }
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.after.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Data of length zero that sets a fault when it is dropped, which is when h2 has written it to the connection.
struct SetOnDrop(FaultSlot, Option<OutputFault>);

impl AsRef<[u8]> for SetOnDrop {
    fn as_ref(&self) -> &[u8] {
        &[]
    }
}

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set(self.1.take());
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::{BodyExt as _, Full};

    use super::*;
    use crate::fault::chunked_body::ChunkedBody;
    use crate::routes::responses::boxed;

    #[tokio::test]
    async fn a_frame_follows_the_body_and_does_not_count() {
        let mut body = AfterBody::new(boxed(Full::from("abc")), After::Frame("xy".into()));
        assert_eq!(body.size_hint().exact(), Some(3));
        for expected in ["abc", "xy"] {
            assert!(!body.is_end_stream());
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), expected);
        }
        assert!(body.is_end_stream() && body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_fault_is_set_with_the_last_frame_or_at_the_end_of_a_body_without_a_length() {
        for (chunked, frames) in [(false, 1), (true, 3)] {
            let slot = FaultSlot::default();
            let body = boxed(Full::from("abc"));
            let body = if chunked { ChunkedBody::new(body).boxed_unsync() } else { body };
            let mut body = AfterBody::new(body, After::fault(slot.clone(), OutputFault::IgnorePings, false));
            for left in (0..frames).rev() {
                body.frame().await.transpose().unwrap();
                assert_eq!(slot.clear(), (left == 0).then_some(OutputFault::IgnorePings));
            }
        }
    }

    #[tokio::test]
    async fn trailers_follow_the_fault_or_the_last_frame() {
        for http2 in [false, true] {
            let slot = FaultSlot::default();
            let trailers = std::future::ready(Some(Ok(HeaderMap::new())));
            let body = boxed(Full::from("abc").with_trailers(trailers));
            let after = After::fault(slot.clone(), OutputFault::IgnorePings, http2);
            let mut body = AfterBody::new(ChunkedBody::new(body).boxed_unsync(), after);
            let mut frames = Vec::new();
            while let Some(frame) = body.frame().await {
                assert!(!frames.contains(&true), "the trailers are last");
                frames.push(frame.unwrap().is_trailers());
            }
            assert_eq!(frames.last(), Some(&true));
            assert_eq!(slot.clear(), Some(OutputFault::IgnorePings));
        }
    }

    #[tokio::test]
    async fn over_http2_a_fault_is_set_when_the_last_frame_is_dropped() {
        let slot = FaultSlot::default();
        let mut body =
            AfterBody::new(boxed(Full::from("abc")), After::fault(slot.clone(), OutputFault::IgnorePings, true));
        body.frame().await.unwrap().unwrap();
        let marker = body.frame().await.unwrap().unwrap();
        assert_eq!(slot.clear(), None);
        drop(marker);
        assert_eq!(slot.clear(), Some(OutputFault::IgnorePings));
    }
}

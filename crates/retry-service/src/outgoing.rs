//! The bodies of answers.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use retry_client::ResponseBody;

use crate::{finish::Finish, gateway::Rest};

/// The body of an answer: of this program's own, or the upstream's.
#[derive(Debug)]
pub struct Outgoing {
    body: Kind,
    finish: Option<Finish>,
    /// What is to be read of the request before this ends.
    rest: Option<Box<Rest>>,
}

#[derive(Debug)]
enum Kind {
    Own(Full<Bytes>),
    Upstream(ResponseBody),
}

impl Outgoing {
    pub(crate) fn upstream(body: ResponseBody) -> Self {
        Self { body: Kind::Upstream(body), finish: None, rest: None }
    }

    /// Ends only once the rest of the request was read.
    pub(crate) fn end_after(&mut self, rest: Rest) {
        self.rest = Some(Box::new(rest));
    }

    /// Ties what is to be done at the end of the answer to its body.
    pub(crate) fn finish_with(&mut self, finish: Finish) {
        self.finish = Some(finish);
    }
}

impl From<Full<Bytes>> for Outgoing {
    fn from(body: Full<Bytes>) -> Self {
        Self { body: Kind::Own(body), finish: None, rest: None }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = match &mut self.body {
            Kind::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Kind::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        };
        if let (Poll::Ready(Some(frame)), Some(finish)) = (&frame, &mut self.finish) {
            finish.note(frame.as_ref().ok().map(|frame| frame.data_ref().map_or(0, Bytes::len)));
        }
        if let (Poll::Ready(None), Some(rest)) = (&frame, &mut self.rest) {
            ready!(rest.poll_end(cx));
            self.rest = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
            && match &self.body {
                Kind::Own(body) => body.is_end_stream(),
                Kind::Upstream(body) => body.is_end_stream(),
            }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Kind::Own(body) => body.size_hint(),
            Kind::Upstream(body) => body.size_hint(),
        }
    }
}

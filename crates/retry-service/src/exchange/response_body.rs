//! The bodies of answers.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Response, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use retry_client::ResponseBody;

use crate::{
    exchange::{
        finish::Finish,
        request_body::{Rest, UnderWay},
    },
    server::http2_streams::ResponseStream,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of an answer: of this program's own, or the upstream's.
#[derive(Debug)]
pub struct Outgoing {
    body: Kind,
    finish: Option<Finish>,
    /// What is to be read of the request before this ends.
    rest: Option<Box<Rest>>,
    /// Tells the request's body how far this is.
    under_way: Option<UnderWay>,
    /// Read, and kept for that.
    trailers: Option<Box<Frame<Bytes>>>,
    /// Of HTTP/2, which bounds what its client may leave unread.
    stream: Option<Box<Stream>>,
}

/// How much of a body one frame has at most on a stream, so that its client is seen to take some.
const PIECE: usize = 16 * 1024;

/// The stream of a response, and what is left of a piece that was too large for it.
#[derive(Debug)]
struct Stream {
    response: ResponseStream,
    left: Bytes,
}

#[derive(Debug)]
enum Kind {
    Own(Full<Bytes>),
    Upstream(ResponseBody),
}

impl Kind {
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Upstream(body) => body.is_end_stream(),
        }
    }
}

impl Outgoing {
    /// Leaves out the content of a response to HEAD, but tells its length: hyper sees to that over HTTP/1.1 only. The
    /// upstream has done so itself.
    pub(crate) fn leave_out_content(response: &mut Response<Self>) {
        let Kind::Own(content) = &mut response.body_mut().body else { return };
        // A whole body knows its length.
        let length = std::mem::take(content).size_hint().lower();
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }

    pub(crate) fn upstream(body: ResponseBody) -> Self {
        Self { body: Kind::Upstream(body), finish: None, rest: None, under_way: None, trailers: None, stream: None }
    }

    /// Ends only once the rest of the request was read.
    pub(crate) fn end_after(&mut self, rest: Rest) {
        self.rest = Some(Box::new(rest));
    }

    /// Tells that it is under way, and once it is over.
    pub(crate) fn tell(&mut self, under_way: UnderWay) {
        self.under_way = Some(under_way);
    }

    /// Ties what is to be done at the end of the answer to its body.
    pub(crate) fn finish_with(&mut self, finish: Finish) {
        self.finish = Some(finish);
        self.stream = ResponseStream::current().map(|response| {
            response.begin();
            Box::new(Stream { response, left: Bytes::new() })
        });
    }

    /// The next frame. The last one, and the end, come once the rest of the request was read.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.trailers.is_none() {
            match ready!(self.poll_next(cx)) {
                Some(Ok(frame)) if frame.is_trailers() && self.rest.is_some() => self.trailers = Some(Box::new(frame)),
                None if self.rest.is_some() => {}
                frame => return Poll::Ready(frame),
            }
        }
        if let Some(rest) = &mut self.rest {
            ready!(rest.poll_end(cx));
            self.rest = None;
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(*trailers)))
    }

    /// The next frame for a stream, once there is room for it.
    fn poll_piece(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Stream { response, left } = stream;
        // While there is no room the client is waited for, as if it had not asked.
        ready!(response.poll_room(cx));
        if left.is_empty() {
            let frame = self.poll_body(cx);
            response.asked(frame.is_ready());
            match ready!(frame) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *left = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        } else {
            response.asked(true);
        }
        let piece = left.split_to(left.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(response.count(piece)))))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match &mut self.body {
            Kind::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            Kind::Upstream(body) => Pin::new(body).poll_frame(cx),
        };
        let is_over = self.body.is_end_stream();
        if let (Poll::Ready(frame), Some(finish)) = (&frame, &mut self.finish) {
            match frame {
                Some(Ok(frame)) => finish.sent(frame.data_ref().map_or(0, Bytes::len), is_over),
                Some(Err(error)) => finish.broke_off(error),
                None => finish.ended(),
            }
        }
        frame.map_err(Into::into)
    }
}

impl From<Full<Bytes>> for Outgoing {
    fn from(body: Full<Bytes>) -> Self {
        Self { body: Kind::Own(body), finish: None, rest: None, under_way: None, trailers: None, stream: None }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(mut stream) = self.stream.take() else { return self.poll_body(cx) };
        let polled = self.poll_piece(&mut stream, cx);
        self.stream = Some(stream);
        polled
    }

    fn is_end_stream(&self) -> bool {
        let is_sent = self.stream.as_ref().is_none_or(|stream| stream.left.is_empty());
        is_sent && self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Kind::Own(body) => body.size_hint(),
            Kind::Upstream(body) => body.size_hint(),
        }
    }
}

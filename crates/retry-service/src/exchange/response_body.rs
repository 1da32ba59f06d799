//! The body of a response.

use std::{
    error::Error,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Response, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{Either, Full};
use retry_client::ResponseBody;

use crate::{
    exchange::{in_flight::InFlightRequest, unread_body::UnreadBody, upload_rate::ResponseGuard},
    server::http2_streams::ResponseStream,
};

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a response: one of the upstream, or of the service itself.
#[derive(Debug)]
pub(crate) struct Outgoing {
    body: Either<Full<Bytes>, ResponseBody>,
    in_flight: Option<InFlightRequest>,
    /// What is read of the request before the response ends.
    unread_body: Option<Box<UnreadBody>>,
    /// Marks the response as begun for the body of the request.
    progress: Option<ResponseGuard>,
    /// Trailers of the upstream, kept until the request has been read.
    trailers: Option<Box<Frame<Bytes>>>,
    /// The HTTP/2 stream; `None` over HTTP/1.1.
    stream: Option<Box<StreamBody>>,
    /// An error that the next poll returns.
    error: Option<BoxError>,
}

/// The maximum size of a chunk on a stream. With larger ones a slow client would seem to read nothing.
const MAX_CHUNK: usize = 16 * 1024;

/// The stream of a response, and what is left of a chunk that was too large for it.
#[derive(Debug)]
struct StreamBody {
    response: ResponseStream,
    remaining: Bytes,
}

impl Outgoing {
    /// Removes the content of a response to HEAD, and sets its length. hyper does so over HTTP/1.1 only, and responses
    /// of the upstream have no content.
    pub(crate) fn remove_content(response: &mut Response<Self>) {
        let Either::Left(content) = &mut response.body_mut().body else { return };
        // The length of a full body is known.
        let length = std::mem::take(content).size_hint().lower();
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }

    fn new(body: Either<Full<Bytes>, ResponseBody>) -> Self {
        Self { body, in_flight: None, unread_body: None, progress: None, trailers: None, stream: None, error: None }
    }

    pub(crate) fn upstream(body: ResponseBody) -> Self {
        Self::new(Either::Right(body))
    }

    /// Makes the response end only after the rest of the request has been read.
    pub(crate) fn end_after(&mut self, unread_body: Box<UnreadBody>) {
        self.unread_body = Some(unread_body);
    }

    /// Marks the response as begun until the body is dropped.
    pub(crate) fn track(&mut self, progress: ResponseGuard) {
        self.progress = Some(progress);
    }

    /// Attaches what is to be dropped with the body.
    pub(crate) fn attach(&mut self, in_flight: InFlightRequest) {
        self.in_flight = Some(in_flight);
        self.stream = ResponseStream::current().map(|response| {
            response.begin();
            Box::new(StreamBody { response, remaining: Bytes::new() })
        });
    }

    /// Returns the next frame. Trailers and the end come only after the rest of the request has been read.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.trailers.is_none() {
            match ready!(self.poll_next(cx)) {
                Some(Ok(frame)) if frame.is_trailers() && self.unread_body.is_some() => {
                    self.trailers = Some(Box::new(frame));
                }
                None if self.unread_body.is_some() => {}
                frame => return Poll::Ready(frame),
            }
        }
        if let Some(body) = &mut self.unread_body {
            ready!(body.poll_read(cx));
            self.unread_body = None;
        }
        Poll::Ready(self.trailers.take().map(|trailers| Ok(*trailers)))
    }

    /// Returns the next frame for a stream, once the connection may buffer it.
    fn poll_chunk(
        &mut self,
        stream: &mut StreamBody,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let StreamBody { response, remaining } = stream;
        ready!(response.poll_capacity(cx));
        if remaining.is_empty() {
            let frame = self.poll_body(cx);
            response.body_polled(frame.is_ready());
            match ready!(frame) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *remaining = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        } else {
            response.body_polled(true);
        }
        let chunk = remaining.split_to(remaining.len().min(MAX_CHUNK));
        Poll::Ready(Some(Ok(Frame::data(response.count_unsent(chunk)))))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let is_last = self.body.is_end_stream();
        if let Some(request) = &mut self.in_flight {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(trailers) = frame.trailers_ref() {
                        request.entry.find_grpc_status(trailers);
                    }
                    request.entry.sent(frame.data_ref().map_or(0, Bytes::len), is_last);
                }
                Some(Err(error)) => {
                    if let Some(error) = error.downcast_ref() {
                        request.incomplete(error);
                    }
                }
                None => request.entry.complete(),
            }
        }
        Poll::Ready(frame)
    }
}

impl From<Full<Bytes>> for Outgoing {
    fn from(body: Full<Bytes>) -> Self {
        Self::new(Either::Left(body))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = match self.stream.take() {
            None => self.poll_body(cx),
            Some(mut stream) => {
                let polled = self.poll_chunk(&mut stream, cx);
                self.stream = Some(stream);
                polled
            }
        };
        let Poll::Ready(Some(Err(error))) = polled else { return polled };
        // hyper drops what it has not sent when it gets an error, and sends it when it has to wait.
        self.error = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let is_sent = self.stream.as_ref().is_none_or(|stream| stream.remaining.is_empty());
        is_sent && self.unread_body.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

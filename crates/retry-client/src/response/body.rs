//! The body of a response: streamed, and watched for progress while it is.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::{connection::exchange::Connection, error::Error, request::buffer_quota::Held, response::resume::Resuming};

/// Reading ahead of the caller has no limit.
const NO_LIMIT: usize = usize::MAX;

/// The body of a response.
///
/// Read it with [`text`](Self::text) or [`bytes`](Self::bytes), or stream it as an [`http_body::Body`].
/// Reading fails when the connection breaks or nothing moves for the client's `timeout`; by then the
/// response has been handed over, so there is no other attempt (but see
/// [`get_text`](crate::Client::get_text)). Dropping it before its end closes an HTTP/1.1 connection.
#[derive(Debug)]
pub struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Buffered(Box<Buffered>),
    Streaming(Streaming),
    Resuming(Box<Resuming>),
}

/// A body that comes over a connection, which is free at the body's end.
#[derive(Debug)]
struct Streaming {
    incoming: Incoming,
    connection: Option<Box<Connection>>,
}

impl Streaming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        let Some(connection) = &mut self.connection else { return polled.map_err(|error| Error::broken(error.into())) };
        match polled {
            Poll::Ready(frame) => {
                connection.progress();
                if frame.is_none() || self.incoming.is_end_stream() {
                    self.give_back();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|error| Error::broken(error.into()))))
            }
            Poll::Pending => connection.poll_silent(cx).map(|limit| Some(Err(Error::idle(limit)))),
        }
    }

    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.give_back();
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// A body that was read, to its end or for a while, before it was handed over.
#[derive(Debug)]
struct Buffered {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// The memory that this takes, if it is counted.
    held: Option<Held>,
    /// What is still to come; `None` once the end was read.
    rest: Option<Streaming>,
}

impl Buffered {
    /// Reads on to the end, or until `bytes` are exceeded or the memory is used up.
    async fn fill(&mut self, bytes: usize) -> Result<(), Error> {
        // A length that was announced has been taken whole.
        let is_taken = self.rest.as_ref().is_some_and(|rest| rest.incoming.size_hint().exact().is_some());
        while let Some(rest) = &mut self.rest {
            let Some(frame) = poll_fn(|cx| rest.poll_frame(cx)).await else {
                self.rest = None;
                break;
            };
            match frame?.into_data() {
                Ok(data) => {
                    let length = data.len();
                    self.append(data);
                    let buffered = self.data.as_ref().map_or(0, Bytes::len);
                    let is_counted = is_taken || self.held.as_mut().is_none_or(|held| held.take(length));
                    if buffered > bytes || !is_counted {
                        break;
                    }
                }
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        Ok(())
    }

    /// Most such bodies come in one piece, which is then kept as it is.
    fn append(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.data = match self.data.take() {
            None => Some(piece),
            Some(data) => {
                let mut data = BytesMut::from(data);
                data.extend_from_slice(&piece);
                Some(data.freeze())
            }
        };
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(data) = self.data.take() {
            self.held = None;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match &mut self.rest {
            Some(rest) => rest.poll_frame(cx),
            None => Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_over = self.rest.as_ref().is_none_or(|rest| rest.incoming.is_end_stream());
        self.data.is_none() && self.trailers.is_none() && is_over
    }

    fn size_hint(&self) -> SizeHint {
        let buffered = self.data.as_ref().map_or(0, |data| data.len() as u64);
        let rest = self.rest.as_ref().map_or_else(|| SizeHint::with_exact(0), |rest| rest.incoming.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(buffered));
        // Whoever knows the whole length announces it, and trailers go with chunks alone.
        if self.trailers.is_none()
            && let Some(upper) = rest.upper()
        {
            hint.set_upper(upper.saturating_add(buffered));
        }
        hint
    }
}

impl ResponseBody {
    pub(crate) fn streaming(incoming: Incoming, connection: Box<Connection>) -> Self {
        let mut streaming = Streaming { incoming, connection: Some(connection) };
        if streaming.incoming.is_end_stream() {
            streaming.give_back();
        }
        Self(Kind::Streaming(streaming))
    }

    pub(crate) fn resuming(body: Resuming) -> Self {
        Self(Kind::Resuming(Box::new(body)))
    }

    /// The same body, read to its end.
    pub(crate) async fn whole(self) -> Result<Self, Error> {
        self.read_ahead(NO_LIMIT, None, None).await
    }

    /// The same body, read to its end, or until it exceeds `bytes`, `time` is over, or there is no more memory to hold
    /// it in.
    pub(crate) async fn read_ahead(
        self,
        bytes: usize,
        time: Option<Duration>,
        held: Option<Held>,
    ) -> Result<Self, Error> {
        let Kind::Streaming(rest) = self.0 else { return Ok(self) };
        let mut buffered = Box::new(Buffered { data: None, trailers: None, held, rest: Some(rest) });
        let filling = buffered.fill(bytes);
        match time {
            None => filling.await?,
            // Once the time is over, what there is goes on.
            Some(time) => timeout(time, filling).await.unwrap_or(Ok(()))?,
        }
        Ok(Self(Kind::Buffered(buffered)))
    }

    /// The trailers that were read before it is handed over.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        match &self.0 {
            Kind::Buffered(buffered) => buffered.trailers.as_ref(),
            _ => None,
        }
    }

    /// Whether its end was read before it was handed over.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(&self.0, Kind::Buffered(buffered) if buffered.rest.is_none())
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or nothing moves for the client's `timeout`.
    pub async fn bytes(self) -> Result<Bytes, Error> {
        match self.0 {
            Kind::Buffered(buffered) if buffered.rest.is_none() => Ok(buffered.data.unwrap_or_default()),
            streamed => Ok(Self(streamed).collect().await?.to_bytes()),
        }
    }

    /// The whole body as text, which has to be UTF-8.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes), and when the body is not UTF-8.
    pub async fn text(self) -> Result<String, Error> {
        String::from_utf8(self.bytes().await?.into()).map_err(|error| Error::bad_response(error.into()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Kind::Buffered(body) => body.poll_frame(cx),
            Kind::Streaming(body) => body.poll_frame(cx),
            Kind::Resuming(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Buffered(body) => body.is_end_stream(),
            Kind::Streaming(body) => body.incoming.is_end_stream(),
            Kind::Resuming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Buffered(body) => body.size_hint(),
            Kind::Streaming(body) => body.incoming.size_hint(),
            Kind::Resuming(body) => body.size_hint(),
        }
    }
}

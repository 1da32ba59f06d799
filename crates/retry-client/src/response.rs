//! The body of a response: streamed, and watched for progress while it is.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{connection::Connection, error::Error, memory::Held, resume::Resuming};

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
    Whole(Box<Whole>),
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

/// A body that has come to its end.
#[derive(Debug)]
struct Whole {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    /// The memory it takes, where that is counted.
    _held: Option<Held>,
}

impl Whole {
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

    /// The same body, once it has come to its end.
    pub(crate) async fn whole(self, held: Option<Held>) -> Result<Self, Error> {
        let mut whole = Whole { data: None, trailers: None, _held: held };
        let mut body = self;
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => whole.append(data),
                Err(frame) => whole.trailers = frame.into_trailers().ok(),
            }
        }
        Ok(Self(Kind::Whole(Box::new(whole))))
    }

    /// Whether it has come to its end before it was handed over.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self.0, Kind::Whole(_))
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or nothing moves for the client's `timeout`.
    pub async fn bytes(self) -> Result<Bytes, Error> {
        match self.0 {
            Kind::Whole(whole) => Ok(whole.data.unwrap_or_default()),
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
            Kind::Whole(whole) => {
                let Whole { data, trailers, .. } = &mut **whole;
                let frame = data.take().map(Frame::data).or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            Kind::Streaming(body) => body.poll_frame(cx),
            Kind::Resuming(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(whole) => whole.data.is_none() && whole.trailers.is_none(),
            Kind::Streaming(body) => body.incoming.is_end_stream(),
            Kind::Resuming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(whole) => SizeHint::with_exact(whole.data.as_ref().map_or(0, |data| data.len() as u64)),
            Kind::Streaming(body) => body.incoming.size_hint(),
            Kind::Resuming(body) => body.size_hint(),
        }
    }
}

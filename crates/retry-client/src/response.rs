//! The body of a response: streamed, and watched for progress while it is.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{error::Error, idle::Idle, resume::Resuming};

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
    Whole(Option<Bytes>),
    Streaming { incoming: Incoming, idle: Option<Idle> },
    Resuming(Box<Resuming>),
}

impl ResponseBody {
    pub(crate) fn streaming(incoming: Incoming, idle: Option<Idle>) -> Self {
        Self(Kind::Streaming { incoming, idle })
    }

    pub(crate) fn resuming(body: Resuming) -> Self {
        Self(Kind::Resuming(Box::new(body)))
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes)))
    }

    /// The whole body.
    ///
    /// # Errors
    ///
    /// When the connection breaks, or nothing moves for the client's `timeout`.
    pub async fn bytes(self) -> Result<Bytes, Error> {
        match self.0 {
            Kind::Whole(bytes) => Ok(bytes.unwrap_or_default()),
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
        let (incoming, idle) = match &mut self.0 {
            Kind::Whole(bytes) => {
                let bytes = bytes.take().filter(|bytes| !bytes.is_empty());
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Kind::Streaming { incoming, idle } => (incoming, idle),
            Kind::Resuming(body) => return body.poll_frame(cx),
        };
        match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(idle) = idle {
                    idle.touch();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(Error::broken(error.into())))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match idle {
                Some(idle) => idle.poll_idle(cx).map(|()| Some(Err(Error::idle(idle.timeout())))),
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Kind::Streaming { incoming, .. } => incoming.is_end_stream(),
            Kind::Resuming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Streaming { incoming, .. } => incoming.size_hint(),
            Kind::Resuming(body) => body.size_hint(),
        }
    }
}

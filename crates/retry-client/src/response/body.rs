//! The body of a response, as it is returned.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::{
    error::Error,
    response::{
        received_body::ReceivedBody,
        resume::{RangeClient, ResumingBody},
    },
};

/// The body of a response.
///
/// Read it with [`text`](Self::text) or [`bytes`](Self::bytes), or as an [`http_body::Body`].
///
/// Reading fails if the connection is closed or reset, or if the client's `timeout` elapses. There is no other attempt
/// then, as the response has been returned already (but see [`get_text`](crate::Client::get_text)). Dropping the body
/// before its end closes an HTTP/1.1 connection.
#[derive(Debug)]
pub struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Received(ReceivedBody),
    Resuming(Box<ResumingBody>),
}

impl ResponseBody {
    /// Wraps a response body, to be resumed by `client` if there is one and the response allows it.
    pub(crate) fn wrap<C: RangeClient + 'static>(
        response: Response<ReceivedBody>,
        request: &Request<()>,
        client: Option<&Arc<C>>,
    ) -> Response<Self> {
        let resuming = client.and_then(|client| ResumingBody::new(client, request, &response));
        response.map(|body| {
            Self(match resuming {
                Some(resuming) => Kind::Resuming(Box::new(resuming.reading(body))),
                None => Kind::Received(body),
            })
        })
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection is closed or reset, or the client's `timeout` elapses.
    pub async fn bytes(self) -> Result<Bytes, Error> {
        match self.0 {
            Kind::Received(body) => body.bytes().await,
            resuming => Ok(Self(resuming).collect().await?.to_bytes()),
        }
    }

    /// Reads the body to its end, as UTF-8.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes), and if the body is not UTF-8.
    pub async fn text(self) -> Result<String, Error> {
        String::from_utf8(self.bytes().await?.into()).map_err(|error| Error::bad_response(error.into()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Kind::Received(body) => Pin::new(body).poll_frame(cx),
            Kind::Resuming(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Received(body) => body.is_end_stream(),
            Kind::Resuming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Received(body) => body.size_hint(),
            Kind::Resuming(body) => body.size_hint(),
        }
    }
}

//! The body of a response, as it is returned.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};

use crate::{
    error::Error,
    response::{
        received_body::ReceivedBody,
        resume::{RangeClient, ResumingBody},
    },
    retry::attempt_request::ReplayableRequest,
};

/// The body of a response.
///
/// Read it with [`text`](Self::text), `json` (feature `json`) or [`bytes`](Self::bytes), or as an [`http_body::Body`].
///
/// Reading fails if the connection is closed or reset, or if the client's `timeout` elapses. There is no other attempt
/// then, as the response has been returned already. To have incomplete bodies retried, read them with
/// [`RequestBuilder::text`](crate::RequestBuilder::text) and its siblings, or turn on
/// [`response_buffer`](crate::ClientBuilder::response_buffer) or [`resume`](crate::ClientBuilder::resume). Dropping the
/// body before its end closes an HTTP/1.1 connection.
#[derive(Debug)]
pub struct ResponseBody {
    kind: Kind,
    /// The maximum size of a body that is read as a whole.
    limit: usize,
}

#[derive(Debug)]
enum Kind {
    Received(ReceivedBody),
    Resuming(Box<ResumingBody>),
}

impl ResponseBody {
    /// Wraps a response body, to be resumed by `client` if there is one and the response allows it.
    pub(crate) fn wrap<C: RangeClient + 'static>(
        response: Response<ReceivedBody>,
        request: &ReplayableRequest<'_>,
        client: Option<&Arc<C>>,
        limit: usize,
    ) -> Response<Self> {
        let resuming = client.and_then(|client| ResumingBody::new(client, request, &response));
        response.map(|body| {
            let kind = match resuming {
                Some(resuming) => Kind::Resuming(Box::new(resuming.reading(body))),
                None => Kind::Received(body),
            };
            Self { kind, limit }
        })
    }

    /// Reads the body to its end.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection is closed or reset, if the client's `timeout` elapses, or if the body is longer
    /// than [`response_limit`](crate::ClientBuilder::response_limit).
    pub async fn bytes(self) -> Result<Bytes, Error> {
        let limit = self.limit;
        if self.size_hint().lower() > limit as u64 {
            return Err(Error::too_large(limit));
        }
        match self.kind {
            Kind::Received(body) if body.is_complete() => Ok(body.into_bytes()),
            Kind::Received(body) => collect(body, limit).await,
            Kind::Resuming(body) => collect(*body, limit).await,
        }
    }

    /// Reads the body to its end, as UTF-8.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes), and if the body is not UTF-8.
    pub async fn text(self) -> Result<String, Error> {
        parse_text(self.bytes().await?)
    }

    /// Reads the body to its end, and parses it as JSON.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes), and if the body is not the JSON of a `T`.
    #[cfg(feature = "json")]
    #[cfg_attr(docsrs, doc(cfg(feature = "json")))]
    pub async fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, Error> {
        parse_json(&self.bytes().await?)
    }
}

pub(crate) fn parse_text(body: Bytes) -> Result<String, Error> {
    String::from_utf8(body.into()).map_err(|error| Error::bad_body("UTF-8", error.into()))
}

#[cfg(feature = "json")]
pub(crate) fn parse_json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|error| Error::bad_body("the JSON that was expected", error.into()))
}

/// Reads a body to its end, unless it is longer than `limit`.
async fn collect(body: impl Body<Data = Bytes, Error = Error>, limit: usize) -> Result<Bytes, Error> {
    let collected = Limited::new(body, limit).collect().await.map_err(|error| match error.downcast::<Error>() {
        Ok(error) => *error,
        // The only other error of `Limited`.
        Err(_) => Error::too_large(limit),
    })?;
    Ok(collected.to_bytes())
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.kind {
            Kind::Received(body) => Pin::new(body).poll_frame(cx),
            Kind::Resuming(body) => Pin::new(&mut **body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Received(body) => body.is_end_stream(),
            Kind::Resuming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Received(body) => body.size_hint(),
            Kind::Resuming(body) => body.size_hint(),
        }
    }
}

//! The body of a request.

use std::{
    any::Any,
    fmt,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};

use crate::{error_chain::BoxError, lock::lock};

/// The body of a request: empty, bytes, or a stream.
///
/// Bytes and text convert into it; for any other [`http_body::Body`] there is [`Body::new`]. It is an [`http_body::Body`]
/// itself, and what the service beneath a [`RetryLayer`](crate::RetryLayer) gets for each attempt.
///
/// ```
/// use retry_client::{Body, http::Request};
///
/// let request = Request::post("/orders").body(Body::from("1 tea"))?;
/// # Ok::<(), retry_client::http::Error>(())
/// ```
#[derive(Default)]
pub struct Body(Kind);

enum Kind {
    Bytes(Bytes),
    /// In a mutex, so that the body is `Sync`, as some clients require. It is locked for its size only.
    Stream(Mutex<Stream>),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

/// A body of any type.
pub(crate) type Stream = UnsyncBoxBody<Bytes, BoxError>;

impl Body {
    /// Creates an empty body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Bytes(Bytes::new()))
    }

    /// Creates a body that is read while it is sent. What was read is buffered for other attempts, up to
    /// [`replay_limit`](crate::ClientBuilder::replay_limit).
    ///
    /// A `String` and a [`Full<Bytes>`](http_body_util::Full) are in memory already. They become bytes, which no limit
    /// applies to.
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        let mut body = Some(body);
        if let Some(body) = take::<Self>(&mut body) {
            return body;
        }
        if let Some(text) = take::<String>(&mut body) {
            return text.into();
        }
        if let Some(full) = take::<Full<Bytes>>(&mut body) {
            return read(full).into();
        }
        body.map_or_else(Self::empty, |body| Self(Kind::Stream(Mutex::new(body.map_err(Into::into).boxed_unsync()))))
    }

    /// Returns the bytes, or the stream as an error.
    pub(crate) fn into_bytes(self) -> Result<Bytes, Stream> {
        match self.0 {
            Kind::Bytes(bytes) => Ok(bytes),
            Kind::Stream(stream) => Err(stream.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// Takes the body if it is a `T`. Costs nothing at run time, as the compiler knows both types.
fn take<T: 'static>(body: &mut Option<impl Any>) -> Option<T> {
    (body as &mut dyn Any).downcast_mut::<Option<T>>()?.take()
}

/// Returns the bytes of a body that has only one frame, which is always ready.
fn read(mut full: Full<Bytes>) -> Bytes {
    let Poll::Ready(frame) = Pin::new(&mut full).poll_frame(&mut Context::from_waker(Waker::noop())) else {
        return Bytes::new();
    };
    frame.and_then(|frame| frame.ok()?.into_data().ok()).unwrap_or_default()
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Kind::Stream(stream) => Pin::new(stream.get_mut().unwrap_or_else(PoisonError::into_inner)).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Bytes(bytes) => bytes.is_empty(),
            Kind::Stream(stream) => lock(stream).is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(stream) => lock(stream).size_hint(),
        }
    }
}

impl From<()> for Body {
    fn from((): ()) -> Self {
        Self::empty()
    }
}

macro_rules! from_sources_of_bytes {
    ($($source:ty),*) => {$(
        impl From<$source> for Body {
            fn from(source: $source) -> Self {
                Self(Kind::Bytes(source.into()))
            }
        }
    )*};
}

from_sources_of_bytes!(Bytes, &'static str, String, &'static [u8], Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Bytes(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            Kind::Stream(_) => f.write_str("Body(stream)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Empty;

    use super::*;

    fn is_bytes(body: Body, expected: &'static str) -> bool {
        body.into_bytes().is_ok_and(|bytes| bytes == expected)
    }

    #[test]
    fn what_is_in_memory_is_not_a_stream() {
        assert!(is_bytes(Body::new("text".to_owned()), "text"));
        assert!(is_bytes(Body::new(Full::from("full")), "full"));
        assert!(is_bytes(Body::new(Empty::new()), ""));
        assert!(is_bytes(Body::new(Body::new(Body::from("twice"))), "twice"));
        assert!(Body::new(Full::from("boxed").boxed()).into_bytes().is_err());
    }

    #[tokio::test]
    async fn it_is_a_body_of_what_it_was_created_from() {
        struct Once(Option<&'static str>);
        impl http_body::Body for Once {
            type Data = Bytes;
            type Error = Infallible;
            fn poll_frame(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text.into()))))
            }
            fn size_hint(&self) -> SizeHint {
                SizeHint::with_exact(self.0.map_or(0, str::len) as u64)
            }
        }
        for body in [Body::from("abc"), Body::new(Once(Some("abc")))] {
            assert_eq!(body.size_hint().exact(), Some(3));
            assert!(!body.is_end_stream());
            assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        }
        assert!(Body::default().is_end_stream() && Body::from(()).frame().await.is_none());
    }

    #[test]
    fn it_can_be_shared_between_threads() {
        fn check<T: Send + Sync + Unpin + 'static>() {}
        check::<Body>();
    }
}

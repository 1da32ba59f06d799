//! The body of a request, as it is passed to the client.

use std::fmt;

use bytes::Bytes;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

use crate::error_chain::BoxError;

/// The body of a request: empty, bytes, or a stream.
///
/// Bytes and text convert into it; for any other [`http_body::Body`] there is [`Body::new`].
pub struct Body(pub(crate) Kind);

pub(crate) enum Kind {
    Bytes(Bytes),
    Stream(UnsyncBoxBody<Bytes, BoxError>),
}

impl Body {
    /// Creates an empty body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Bytes(Bytes::new()))
    }

    /// Creates a body that is read while it is sent. What was read is buffered for other attempts, up to
    /// [`replay_limit`](crate::ClientBuilder::replay_limit).
    pub fn new<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        if body.is_end_stream() {
            return Self::empty();
        }
        Self(Kind::Stream(body.map_err(Into::into).boxed_unsync()))
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

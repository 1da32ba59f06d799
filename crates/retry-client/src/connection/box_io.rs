//! The stream of a connection, whatever its type.

use hyper::rt::{Read, Write};

/// A stream with or without TLS.
pub(crate) type BoxIo = Box<dyn Io>;

pub(crate) trait Io: Read + Write + Send + Sync + Unpin {}

impl<T: Read + Write + Send + Sync + Unpin> Io for T {}

//! Searching the chain of an error's sources.

use std::{error::Error as StdError, io, iter::successors};

/// Any error that can be sent to another thread.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// Returns the first error of type `E` in the chain, `error` included.
pub(crate) fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut chain = successors(Some(error), |&error| match error.downcast_ref().and_then(io::Error::get_ref) {
        // `io::Error::source` skips the error that it wraps.
        Some(wrapped) => Some(wrapped as _),
        None => error.source(),
    });
    chain.find_map(|error| error.downcast_ref())
}

/// Returns the innermost error: it says what happened, the errors around it say where.
pub(crate) fn root<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    successors(Some(error), |&error| error.source()).last().unwrap_or(error)
}

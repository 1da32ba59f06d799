//! How much of the response to a gRPC call is buffered until its status is known.
//!
//! Nothing in a response says whether the call is unary. But a unary call has at most one message, with the trailers right
//! behind it, and if it fails, usually none. A response is therefore buffered until its trailers arrive, or what shows that
//! it is a stream: a second message, or a message without anything behind it.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::{
    error::Error,
    grpc::first_message::FirstMessage,
    request::buffer_quota::BufferQuota,
    response::{buffering::BufferLimits, received_body::ReceivedBody},
};

/// How long the trailers may come after the first message. Servers write both at once; for a stream, this is how much later
/// its first message arrives.
const TRAILERS_WAIT: Duration = Duration::from_millis(10);

/// Reads the body of a response until its trailers have arrived, or until it is longer than a unary one.
pub(crate) async fn read_until_status(
    body: &mut ReceivedBody,
    limits: BufferLimits,
    quota: &BufferQuota,
) -> Result<(), Error> {
    let began = Instant::now();
    body.reserve(Some(quota.reserve_none()));
    let mut message = FirstMessage::default();
    let first = body.read_ahead(limits.bytes, |data| {
        message.push(data);
        message.is_complete() || message.exceeds(limits.bytes)
    });
    // After that time, what was read is returned.
    timeout(limits.time, first).await.unwrap_or(Ok(()))?;
    if message.is_alone() {
        let left = limits.time.saturating_sub(began.elapsed());
        let trailers = body.read_ahead(limits.bytes, |data| !data.is_empty());
        timeout(left.min(TRAILERS_WAIT), trailers).await.unwrap_or(Ok(()))?;
    }
    Ok(())
}

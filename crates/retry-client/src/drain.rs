//! Reading a response nobody wants, so that its connection can be used again.

use std::{pin::pin, time::Duration};

use bytes::Buf;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

/// How much is read, and for how long, before the connection is the cheaper loss.
const BYTES: usize = 64 * 1024;
const TIME: Duration = Duration::from_secs(1);

/// Reads to the end, within bounds; then drops the body, which past the bounds closes its connection.
pub(crate) async fn drain(body: impl Body) {
    if body.is_end_stream() || body.size_hint().lower() > BYTES as u64 {
        return;
    }
    let mut body = pin!(body);
    let read = async {
        let mut left = BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Buf::remaining)) else { return };
            left = rest;
        }
    };
    // It ended, or is given up on: both are fine.
    let _ = timeout(TIME, read).await;
}

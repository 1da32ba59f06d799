//! Draining the response of a failed attempt, so that its connection can be reused.

use std::{pin::pin, time::Duration};

use bytes::Buf;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

/// Beyond these limits, a new connection is cheaper.
const MAX_BYTES: usize = 64 * 1024;
const MAX_TIME: Duration = Duration::from_secs(1);

/// Reads the body to its end and drops it. Beyond the limits it is dropped unread, which closes its connection.
pub(crate) async fn drain(body: impl Body) {
    if body.is_end_stream() || body.size_hint().lower() > MAX_BYTES as u64 {
        return;
    }
    let mut body = pin!(body);
    let read = async {
        let mut left = MAX_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Buf::remaining)) else { return };
            left = rest;
        }
    };
    let _ = timeout(MAX_TIME, read).await;
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http_body::Frame;
    use tokio::time::Instant;

    use super::*;

    /// An endless body of 1 KiB frames, or one that stalls if there is no counter.
    struct Endless<'a>(Option<&'a Cell<usize>>);

    impl Body for Endless<'_> {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(read) = self.0 else { return Poll::Pending };
            read.set(read.get() + 1024);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1024])))))
        }
    }

    #[tokio::test]
    async fn draining_stops_at_the_byte_limit() {
        let read = Cell::new(0);
        drain(Endless(Some(&read))).await;
        assert_eq!(read.get(), MAX_BYTES + 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_stops_at_the_time_limit() {
        let begin = Instant::now();
        drain(Endless(None)).await;
        assert_eq!(begin.elapsed(), MAX_TIME);
    }
}

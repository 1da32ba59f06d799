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

    /// A body of 1 KiB frames without end; or one of which nothing comes.
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
    async fn a_body_without_end_is_given_up_on_after_some_bytes() {
        let read = Cell::new(0);
        drain(Endless(Some(&read))).await;
        assert_eq!(read.get(), BYTES + 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_is_given_up_on_after_some_time() {
        let begin = Instant::now();
        drain(Endless(None)).await;
        assert_eq!(begin.elapsed(), TIME);
    }
}

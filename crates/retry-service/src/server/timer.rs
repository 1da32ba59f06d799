//! A timer for waits that are usually short.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer whose deadline may change. It is created when it is first polled, and a later deadline moves it only when it
/// fires, as most waits end before that.
#[derive(Debug, Default)]
pub(crate) struct LazyTimer(Option<Pin<Box<Sleep>>>);

impl LazyTimer {
    /// Completes at `due`.
    pub(crate) fn poll_until(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_deadline_may_become_later_or_earlier() {
        const SECOND: Duration = Duration::from_secs(1);
        let (begin, mut timer) = (Instant::now(), LazyTimer::default());
        let mut polled = poll_fn(|cx| timer.poll_until(begin + 5 * SECOND, cx));
        assert!(timeout(SECOND, &mut polled).await.is_err());
        poll_fn(|cx| timer.poll_until(begin + 9 * SECOND, cx)).await;
        assert_eq!(begin.elapsed(), 9 * SECOND);
        let mut timer = LazyTimer::default();
        let mut polled = poll_fn(|cx| timer.poll_until(begin + 20 * SECOND, cx));
        assert!(timeout(SECOND, &mut polled).await.is_err());
        poll_fn(|cx| timer.poll_until(begin + 12 * SECOND, cx)).await;
        assert_eq!(begin.elapsed(), 12 * SECOND);
    }
}

//! When an attempt is late.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// Measures how long an attempt has had an endpoint: while it waits for one, it is not slow.
pub(crate) struct HedgeTimer {
    /// `None` if no attempt is late, however long it takes.
    delay: Option<Duration>,
    running: Option<(Instant, Option<Pin<Box<Sleep>>>)>,
}

impl HedgeTimer {
    pub(crate) fn new(delay: Option<Duration>) -> Self {
        Self { delay, running: None }
    }

    /// Ready when the attempt is late, with the delay. Must be polled whenever that begins or ends: `has_endpoint`.
    pub(crate) fn poll_late(&mut self, has_endpoint: bool, cx: &mut Context<'_>) -> Poll<Duration> {
        if !has_endpoint {
            self.running = None;
            return Poll::Pending;
        }
        let start = || (Instant::now(), self.delay.map(|delay| Box::pin(sleep(delay))));
        match (self.running.get_or_insert_with(start), self.delay) {
            ((_, Some(sleep)), Some(delay)) => sleep.as_mut().poll(cx).map(|()| delay),
            _ => Poll::Pending,
        }
    }

    /// Returns how long the attempt has had an endpoint.
    pub(crate) fn elapsed(&self) -> Option<Duration> {
        self.running.as_ref().map(|(since, _)| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_late_when_it_has_had_an_endpoint_for_so_long() {
        let mut timer = HedgeTimer::new(Some(SECOND));
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..3 {
            // Parked for longer than the delay, and then sent to an endpoint that turns out to be down.
            assert!(timer.poll_late(false, cx).is_pending());
            advance(2 * SECOND).await;
            assert!(timer.poll_late(true, cx).is_pending());
            advance(SECOND / 2).await;
            assert!(timer.poll_late(true, cx).is_pending());
            assert_eq!(timer.elapsed(), Some(SECOND / 2));
        }
        let begin = Instant::now();
        assert_eq!(poll_fn(|cx| timer.poll_late(true, cx)).await, SECOND);
        assert_eq!(begin.elapsed(), SECOND / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_delay_the_time_is_only_measured() {
        let mut timer = HedgeTimer::new(None);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(timer.poll_late(true, cx).is_pending());
        advance(SECOND).await;
        assert!(timer.poll_late(true, cx).is_pending());
        assert_eq!(timer.elapsed(), Some(SECOND));
    }
}

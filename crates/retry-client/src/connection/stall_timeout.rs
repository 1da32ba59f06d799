//! The stall timeout: how long an exchange may make no progress. Users know it as the idle timeout; in the code, *idle*
//! is a connection without an exchange.
//!
//! It does not limit the duration of the exchange: any byte read or written restarts it. It starts when the connection is
//! ready. Ballerina's `timeout` (Netty's `IdleStateHandler`) is the same.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use crate::activity::Activity;

/// The stall timeout of one exchange after the other.
#[derive(Debug)]
pub(crate) struct StallTimeout {
    timeout: Duration,
    activity: Activity,
    /// Created when it is first polled, and reset only when it fires: neither progress nor the next exchange touches
    /// the timer.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whether the response is being waited for. While its reader does not poll it, no time passes.
    waiting: bool,
}

impl StallTimeout {
    pub(crate) fn new(timeout: Duration, activity: Activity) -> Self {
        Self { timeout, activity, sleep: None, waiting: false }
    }

    /// Starts an exchange, and returns its activity.
    pub(crate) fn start_exchange(&mut self) -> &Activity {
        self.waiting = false;
        self.activity.await_head();
        if self.activity.last_progress().is_none() {
            self.activity.record_progress();
        }
        &self.activity
    }

    /// Returns the time of the last progress. `None` while the clock is stopped.
    pub(crate) fn last_progress(&self) -> Option<Instant> {
        self.activity.last_progress()
    }

    /// Notes that what was waited for has arrived.
    pub(crate) fn stop_waiting(&mut self) {
        self.waiting = false;
    }

    /// Ready with the timeout when there was no progress for as long, counted from the first poll since
    /// [`stop_waiting`](Self::stop_waiting).
    pub(crate) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        if !self.waiting {
            self.waiting = true;
            self.activity.restart();
        }
        let timeout = self.timeout;
        loop {
            let deadline = self.activity.last_progress().unwrap_or_else(Instant::now).checked_add(timeout);
            // A timeout beyond the range of the clock never elapses.
            let Some(deadline) = deadline else { return Poll::Pending };
            // The deadline may move to an earlier time: progress during the grace starts the clock.
            let wake_up = || Instant::now().checked_add(timeout).map_or(deadline, |soon| soon.min(deadline));
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(wake_up())));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= deadline {
                return Poll::Ready(timeout);
            }
            sleep.as_mut().reset(wake_up());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::sleep;

    use super::*;
    use crate::activity::MAX_HEAD_READS;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_grace_delays_the_timeout() {
        let begin = Instant::now();
        let mut timeout = StallTimeout::new(2 * SECOND, Activity::of_exchange(SECOND));
        poll_fn(|cx| timeout.poll_stalled(cx)).await;
        assert_eq!(begin.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_grace_ends_with_the_first_progress() {
        let begin = Instant::now();
        let activity = Activity::of_exchange(900 * SECOND);
        let writer = activity.clone();
        tokio::spawn(async move {
            sleep(SECOND).await;
            writer.record_progress();
        });
        let mut timeout = StallTimeout::new(2 * SECOND, activity);
        poll_fn(|cx| timeout.poll_stalled(cx)).await;
        assert_eq!(begin.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_passes_while_paused() {
        let begin = Instant::now();
        let activity = Activity::of_connection();
        let writer = activity.clone();
        tokio::spawn(async move {
            sleep(SECOND).await;
            writer.pause();
            sleep(10 * SECOND).await;
            writer.record_progress();
        });
        let mut timeout = StallTimeout::new(2 * SECOND, activity);
        poll_fn(|cx| timeout.poll_stalled(cx)).await;
        assert_eq!(begin.elapsed(), (1 + 10 + 2) * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_without_end_times_out() {
        let begin = Instant::now();
        let activity = Activity::of_connection();
        let mut timeout = StallTimeout::new(2 * SECOND, activity.clone());
        timeout.start_exchange();
        tokio::spawn(async move {
            loop {
                sleep(SECOND).await;
                activity.record_read();
            }
        });
        poll_fn(|cx| timeout.poll_stalled(cx)).await;
        assert_eq!(begin.elapsed(), (MAX_HEAD_READS + 2) * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_exchange_restarts_the_clock() {
        let activity = Activity::of_connection();
        let mut timeout = StallTimeout::new(2 * SECOND, activity.clone());
        poll_fn(|cx| timeout.poll_stalled(cx)).await;
        activity.pause();
        timeout.start_exchange();
        let begin = Instant::now();
        poll_fn(|cx| timeout.poll_stalled(cx)).await;
        assert_eq!(begin.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_passes_while_nothing_is_waited_for() {
        let mut timeout = StallTimeout::new(2 * SECOND, Activity::of_connection());
        sleep(10 * SECOND).await;
        let begin = Instant::now();
        poll_fn(|cx| timeout.poll_stalled(cx)).await;
        assert_eq!(begin.elapsed(), 2 * SECOND);
        timeout.stop_waiting();
        sleep(10 * SECOND).await;
        poll_fn(|cx| timeout.poll_stalled(cx)).await;
        assert_eq!(begin.elapsed(), 14 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn fires_after_the_timeout_without_progress() {
        let begin = Instant::now();
        let mut timeout = StallTimeout::new(2 * SECOND, Activity::of_connection());
        poll_fn(|cx| timeout.poll_stalled(cx)).await;
        assert_eq!(begin.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_restarts_the_clock() {
        let begin = Instant::now();
        let activity = Activity::of_connection();
        let writer = activity.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                sleep(SECOND).await;
                writer.record_progress();
            }
        });
        let mut timeout = StallTimeout::new(2 * SECOND, activity);
        poll_fn(|cx| timeout.poll_stalled(cx)).await;
        assert_eq!(begin.elapsed(), 7 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_beyond_the_clock_never_fires() {
        let mut timeout = StallTimeout::new(Duration::MAX, Activity::of_connection());
        assert!(tokio::time::timeout(1000 * SECOND, poll_fn(|cx| timeout.poll_stalled(cx))).await.is_err());
    }
}

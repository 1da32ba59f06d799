//! The idle timeout: how long an exchange may make no progress.
//!
//! Not a limit on the whole exchange: any byte read or written starts it anew, and it starts when the
//! connection is ready. Ballerina's `timeout` (Netty's `IdleStateHandler`) means the same.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// When something last moved. Shared by whoever moves things and whoever watches.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Moments>);

#[derive(Debug)]
struct Moments {
    origin: Instant,
    /// Nanoseconds since `origin`.
    last: AtomicU64,
}

impl Activity {
    pub(crate) fn start() -> Self {
        Self(Arc::new(Moments { origin: Instant::now(), last: AtomicU64::new(0) }))
    }

    pub(crate) fn touch(&self) {
        let nanos = self.0.origin.elapsed().as_nanos();
        self.0.last.store(u64::try_from(nanos).unwrap_or(u64::MAX), Relaxed);
    }

    fn last(&self) -> Instant {
        self.0.origin + Duration::from_nanos(self.0.last.load(Relaxed))
    }
}

/// Watches one exchange.
#[derive(Debug)]
pub(crate) struct Idle {
    timeout: Duration,
    since: Instant,
    /// Bytes on the connection, where it carries this exchange alone.
    connection: Option<Activity>,
    /// Parts of the request body, which matter where the connection is shared.
    upload: Option<Activity>,
    /// Made at the first poll that has to wait, and moved only when it fires: progress costs no timer.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    pub(crate) fn start(timeout: Duration, connection: Option<Activity>, upload: Option<Activity>) -> Self {
        Self { timeout, since: Instant::now(), connection, upload, sleep: None }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Notes progress of the exchange itself, where the connection does not show it.
    pub(crate) fn touch(&mut self) {
        if self.connection.is_none() {
            self.since = Instant::now();
        }
    }

    /// Ready once nothing has moved for the timeout.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let Some(due) = self.due() else { return Poll::Pending };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }

    /// When the exchange will have been idle for too long, as things stand; never for a timeout beyond the clock.
    fn due(&self) -> Option<Instant> {
        let activities = [&self.connection, &self.upload];
        let last = activities.into_iter().flatten().map(Activity::last).fold(self.since, Instant::max);
        last.checked_add(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn fires_after_the_timeout_without_progress() {
        let begin = Instant::now();
        let mut idle = Idle::start(2 * SECOND, None, None);
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_starts_it_anew() {
        let begin = Instant::now();
        let activity = Activity::start();
        let mover = activity.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                sleep(SECOND).await;
                mover.touch();
            }
        });
        let mut idle = Idle::start(2 * SECOND, Some(activity), None);
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 7 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_beyond_the_clock_never_fires() {
        let mut idle = Idle::start(Duration::MAX, None, None);
        assert!(tokio::time::timeout(1000 * SECOND, poll_fn(|cx| idle.poll_idle(cx))).await.is_err());
    }
}

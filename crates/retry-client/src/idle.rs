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

/// When an exchange last made progress. Shared by all that see some: the request's body, the connection where it
/// carries no other exchange, and whoever reads the response.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Moments>);

#[derive(Debug)]
struct Moments {
    origin: Instant,
    /// Nanoseconds since `origin`, or one of the two below.
    last: AtomicU64,
}

/// No connection has taken it up yet.
const NOT_BEGUN: u64 = u64::MAX;
/// It is the caller who keeps the exchange waiting.
const PAUSED: u64 = u64::MAX - 1;

impl Activity {
    /// Of an exchange without a connection.
    pub(crate) fn not_begun() -> Self {
        Self(Arc::new(Moments { origin: Instant::now(), last: AtomicU64::new(NOT_BEGUN) }))
    }

    /// Notes that a connection has taken up the exchange.
    pub(crate) fn begin(&self) {
        if self.0.last.load(Relaxed) == NOT_BEGUN {
            self.touch();
        }
    }

    /// Notes progress.
    pub(crate) fn touch(&self) {
        let nanos = self.0.origin.elapsed().as_nanos();
        self.0.last.store(u64::try_from(nanos).map_or(PAUSED - 1, |nanos| nanos.min(PAUSED - 1)), Relaxed);
    }

    /// Lets no time pass until there is progress.
    pub(crate) fn pause(&self) {
        self.0.last.store(PAUSED, Relaxed);
    }

    /// Whether a connection has taken up the exchange.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.last.load(Relaxed) != NOT_BEGUN
    }

    /// Starts the time anew for somebody who waits from now on.
    fn restart(&self) {
        if self.0.last.load(Relaxed) < PAUSED {
            self.touch();
        }
    }
}

/// Watches one exchange.
#[derive(Debug)]
pub(crate) struct Idle {
    timeout: Duration,
    /// How long it may take until a connection takes up the exchange.
    begin: Duration,
    activity: Activity,
    /// Made when there is first something to wait for, and moved only when it fires: progress costs no timer.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whether somebody waits. What comes late because nobody asked for it is not idle.
    waiting: bool,
}

impl Idle {
    /// The limits on connecting and on silence. The former bounds itself; the two together are for a connection that
    /// dies with a request in its queue, of which hyper does not always tell.
    pub(crate) fn new(connect: Duration, timeout: Duration, activity: Activity) -> Self {
        Self { timeout, begin: connect.saturating_add(timeout), activity, sleep: None, waiting: false }
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.activity.has_begun()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Notes that what was waited for has come.
    pub(crate) fn progress(&mut self) {
        self.waiting = false;
    }

    /// Ready once nothing has moved for the timeout, for as long as somebody waited.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waiting {
            self.waiting = true;
            self.activity.restart();
        }
        loop {
            let Some(due) = self.due() else { return Poll::Pending };
            let look = self.next_look(due);
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(look)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(look);
        }
    }

    /// When to look again: nobody tells when the exchange begins, and from then on silence has less time.
    fn next_look(&self, due: Instant) -> Instant {
        if self.has_begun() {
            return due;
        }
        Instant::now().checked_add(self.timeout).map_or(due, |soon| soon.min(due))
    }

    /// When it will have been too long, as things stand; never for a limit beyond the clock.
    fn due(&self) -> Option<Instant> {
        let Moments { origin, last } = &*self.activity.0;
        match last.load(Relaxed) {
            NOT_BEGUN => origin.checked_add(self.begin),
            PAUSED => Instant::now().checked_add(self.timeout),
            nanos => origin.checked_add(Duration::from_nanos(nanos))?.checked_add(self.timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn begun() -> Activity {
        let activity = Activity::not_begun();
        activity.begin();
        activity
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_connection_takes_up_is_given_up_on() {
        let begin = Instant::now();
        let mut idle = Idle::new(SECOND, 2 * SECOND, Activity::not_begun());
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!((begin.elapsed(), idle.has_begun()), (3 * SECOND, false));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_begin_however_long_connecting_may_take() {
        let begin = Instant::now();
        let activity = Activity::not_begun();
        let mover = activity.clone();
        tokio::spawn(async move {
            sleep(SECOND).await;
            mover.begin();
        });
        let mut idle = Idle::new(900 * SECOND, 2 * SECOND, activity);
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_passes_before_the_begin_and_while_the_caller_is_waited_for() {
        let begin = Instant::now();
        let activity = Activity::not_begun();
        let mover = activity.clone();
        tokio::spawn(async move {
            sleep(5 * SECOND).await;
            mover.begin();
            sleep(SECOND).await;
            mover.pause();
            sleep(10 * SECOND).await;
            mover.touch();
        });
        let mut idle = Idle::new(9 * SECOND, 2 * SECOND, activity);
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), (5 + 1 + 10 + 2) * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_not_late() {
        let mut idle = Idle::new(SECOND, 2 * SECOND, begun());
        sleep(10 * SECOND).await;
        let begin = Instant::now();
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 2 * SECOND);
        idle.progress();
        sleep(10 * SECOND).await;
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 14 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn fires_after_the_timeout_without_progress() {
        let begin = Instant::now();
        let mut idle = Idle::new(SECOND, 2 * SECOND, begun());
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_starts_it_anew() {
        let begin = Instant::now();
        let activity = begun();
        let mover = activity.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                sleep(SECOND).await;
                mover.touch();
            }
        });
        let mut idle = Idle::new(SECOND, 2 * SECOND, activity);
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 7 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_beyond_the_clock_never_fires() {
        let mut idle = Idle::new(SECOND, Duration::MAX, begun());
        assert!(tokio::time::timeout(1000 * SECOND, poll_fn(|cx| idle.poll_idle(cx))).await.is_err());
    }
}

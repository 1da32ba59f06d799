//! The stall timeout: how long an exchange may make no progress.
//!
//! It does not limit the duration of the exchange: any byte read or written restarts it. It starts when the connection is
//! ready. Ballerina's `timeout` (Netty's `IdleStateHandler`) is the same.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// When there last was progress. Shared by everything that makes progress: the stream of an HTTP/1.1 connection, the
/// request body, and the reader of the response.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<State>);

#[derive(Debug)]
struct State {
    origin: Instant,
    /// Nanoseconds since `origin`, or [`PAUSED`].
    last_progress: AtomicU64,
    /// When bytes were last received, in nanoseconds since `origin`.
    last_read: AtomicU64,
    /// Whether the stream records each byte: then the request body does not have to.
    tracks_bytes: bool,
    /// Whether the socket is to be checked before the next request is written.
    peek_requested: AtomicBool,
    /// The number of reads since the request, or [`HEAD_RECEIVED`].
    head_reads: AtomicU32,
}

/// How many reads count as progress until the head of the response has arrived. Each informational response takes one:
/// otherwise a server could send `102` forever.
const MAX_HEAD_READS: u32 = 100;
const HEAD_RECEIVED: u32 = u32::MAX;

/// The server is not late: it waits for the client.
const PAUSED: u64 = u64::MAX;

impl Activity {
    /// Creates the activity of a connection whose stream records each byte.
    pub(crate) fn of_connection() -> Self {
        Self::starting_at(0, true)
    }

    /// Creates the activity of an exchange on a shared connection. It starts with the first progress, at the latest
    /// after `grace`, as the exchange may have to wait until the connection has capacity.
    pub(crate) fn of_exchange(grace: Duration) -> Self {
        Self::starting_at(nanos(grace), false)
    }

    fn starting_at(start: u64, tracks_bytes: bool) -> Self {
        Self(Arc::new(State {
            origin: Instant::now(),
            last_progress: AtomicU64::new(start),
            last_read: AtomicU64::new(0),
            tracks_bytes,
            peek_requested: AtomicBool::new(false),
            head_reads: AtomicU32::new(HEAD_RECEIVED),
        }))
    }

    /// Requests that the stream checks its socket before the next request is written.
    pub(crate) fn request_peek(&self) {
        self.0.peek_requested.store(true, Relaxed);
    }

    /// Returns whether a check was requested, and clears the request.
    pub(crate) fn take_peek_request(&self) -> bool {
        self.0.peek_requested.load(Relaxed) && self.0.peek_requested.swap(false, Relaxed)
    }

    pub(crate) fn record_progress(&self) {
        self.0.last_progress.store(self.now(), Relaxed);
    }

    pub(crate) fn head_received(&self) {
        self.0.head_reads.store(HEAD_RECEIVED, Relaxed);
    }

    /// Records that bytes were received.
    pub(crate) fn record_read(&self) {
        let reads = self.0.head_reads.load(Relaxed);
        if reads < HEAD_RECEIVED {
            self.0.head_reads.store(reads + 1, Relaxed);
            if reads >= MAX_HEAD_READS {
                return;
            }
        }
        let now = self.now();
        self.0.last_progress.store(now, Relaxed);
        self.0.last_read.store(now, Relaxed);
    }

    /// Returns how long ago bytes were last received.
    pub(crate) fn since_last_read(&self) -> Duration {
        Duration::from_nanos(self.now().saturating_sub(self.0.last_read.load(Relaxed)))
    }

    /// Records that a part of the request is about to be sent.
    pub(crate) fn request_progress(&self) {
        if !self.0.tracks_bytes || self.0.last_progress.load(Relaxed) == PAUSED {
            self.record_progress();
        }
    }

    /// Stops the clock until there is progress.
    pub(crate) fn pause(&self) {
        self.0.last_progress.store(PAUSED, Relaxed);
    }

    /// Restarts the clock, unless it is to start later.
    fn restart(&self) {
        let now = self.now();
        if self.0.last_progress.load(Relaxed) < now {
            self.0.last_progress.store(now, Relaxed);
        }
    }

    fn now(&self) -> u64 {
        nanos(self.0.origin.elapsed())
    }

    /// Returns when there last was progress. `None` while the clock is stopped.
    fn last_progress(&self) -> Option<Instant> {
        match self.0.last_progress.load(Relaxed) {
            PAUSED => None,
            nanos => self.0.origin.checked_add(Duration::from_nanos(nanos)),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(PAUSED - 1, |nanos| nanos.min(PAUSED - 1))
}

/// The stall timeout of one exchange after the other.
#[derive(Debug)]
pub(crate) struct StallTimeout {
    timeout: Duration,
    activity: Activity,
    /// Created when it is first polled, and reset only when it fires: neither progress nor the next exchange touches
    /// the timer.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whether the response is being waited for. While its reader is busy elsewhere, no time passes.
    waiting: bool,
}

impl StallTimeout {
    pub(crate) fn new(timeout: Duration, activity: Activity) -> Self {
        Self { timeout, activity, sleep: None, waiting: false }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Starts an exchange, and returns its activity.
    pub(crate) fn start_exchange(&mut self) -> &Activity {
        self.waiting = false;
        self.activity.0.head_reads.store(0, Relaxed);
        if self.activity.last_progress().is_none() {
            self.activity.record_progress();
        }
        &self.activity
    }

    /// Returns when there last was progress.
    pub(crate) fn last_progress(&self) -> Option<Instant> {
        self.activity.last_progress()
    }

    /// Notes that what was waited for has arrived.
    pub(crate) fn stop_waiting(&mut self) {
        self.waiting = false;
    }

    /// Ready when there was no progress for the timeout, counted from the first poll since
    /// [`stop_waiting`](Self::stop_waiting).
    pub(crate) fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waiting {
            self.waiting = true;
            self.activity.restart();
        }
        loop {
            let deadline = match self.activity.last_progress() {
                Some(last) => last.checked_add(self.timeout),
                None => Instant::now().checked_add(self.timeout),
            };
            // A timeout beyond the range of the clock never elapses.
            let Some(deadline) = deadline else { return Poll::Pending };
            let timeout = self.timeout;
            // The deadline may move to an earlier time: a clock that was to start after its grace starts with progress.
            let wake_up = || Instant::now().checked_add(timeout).map_or(deadline, |soon| soon.min(deadline));
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(wake_up())));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
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

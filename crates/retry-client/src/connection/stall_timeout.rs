//! The idle timeout: how long an exchange may make no progress.
//!
//! Not a limit on the whole exchange: any byte read or written starts it anew, and it starts when the
//! connection is ready. Ballerina's `timeout` (Netty's `IdleStateHandler`) means the same.

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

/// When there last was progress. Shared by all that see some: the connection where it carries one exchange at a time,
/// the request's body, and whoever reads the response.
#[derive(Clone, Debug)]
pub(crate) struct Activity(Arc<Moments>);

#[derive(Debug)]
struct Moments {
    origin: Instant,
    /// Nanoseconds since `origin`, or [`PAUSED`].
    last: AtomicU64,
    /// When bytes last came from the other end, likewise.
    heard: AtomicU64,
    /// Whether the connection itself notes each byte: then the parts of an exchange need not be noted, too.
    by_byte: bool,
    /// Whether the socket is to be looked at before the next request goes out.
    look: AtomicBool,
    /// In how many pieces the head of a response has come so far, with the informational responses before it.
    pieces: AtomicU32,
}

/// In how many pieces a head may come, with the informational responses before it, each of which is one: more are no
/// progress, or `102` for ever would be.
const PIECES: u32 = 100;
const WHOLE: u32 = u32::MAX;

/// It is the caller who keeps the exchange waiting.
const PAUSED: u64 = u64::MAX;

impl Activity {
    /// Of a connection that notes each byte, from now on.
    pub(crate) fn by_byte() -> Self {
        Self::starting(0, true)
    }

    /// Of an exchange that shares its connection: the time may start as much later, as it may have to wait there for
    /// its turn. It starts with the first progress at the latest.
    pub(crate) fn starting_within(grace: Duration) -> Self {
        Self::starting(nanos(grace), false)
    }

    fn starting(last: u64, by_byte: bool) -> Self {
        let (last, heard) = (AtomicU64::new(last), AtomicU64::new(0));
        Self(Arc::new(Moments {
            origin: Instant::now(),
            last,
            heard,
            by_byte,
            look: AtomicBool::new(false),
            pieces: AtomicU32::new(WHOLE),
        }))
    }

    /// Asks the connection to look at its socket before it sends a request.
    pub(crate) fn ask_to_look(&self) {
        self.0.look.store(true, Relaxed);
    }

    /// Whether it was asked to, once.
    pub(crate) fn take_look(&self) -> bool {
        self.0.look.load(Relaxed) && self.0.look.swap(false, Relaxed)
    }

    /// Notes progress.
    pub(crate) fn touch(&self) {
        self.0.last.store(self.now(), Relaxed);
    }

    /// The head of a response is waited for.
    fn head_comes(&self) {
        self.0.pieces.store(0, Relaxed);
    }

    /// The head of a response has come.
    pub(crate) fn head_came(&self) {
        self.0.pieces.store(WHOLE, Relaxed);
    }

    /// Notes bytes from the other end.
    pub(crate) fn hear(&self) {
        let pieces = self.0.pieces.load(Relaxed);
        if pieces < WHOLE {
            self.0.pieces.store(pieces + 1, Relaxed);
            if pieces >= PIECES {
                return;
            }
        }
        let now = self.now();
        self.0.last.store(now, Relaxed);
        self.0.heard.store(now, Relaxed);
    }

    /// How long ago bytes last came from the other end.
    pub(crate) fn unheard(&self) -> Duration {
        Duration::from_nanos(self.now().saturating_sub(self.0.heard.load(Relaxed)))
    }

    /// Notes that a part of the request is taken up to be sent.
    pub(crate) fn part(&self) {
        if !self.0.by_byte || self.0.last.load(Relaxed) == PAUSED {
            self.touch();
        }
    }

    /// Lets no time pass until there is progress.
    pub(crate) fn pause(&self) {
        self.0.last.store(PAUSED, Relaxed);
    }

    /// Starts the time anew for somebody who waits from now on, unless it is to start later.
    fn restart(&self) {
        let now = self.now();
        if self.0.last.load(Relaxed) < now {
            self.0.last.store(now, Relaxed);
        }
    }

    fn now(&self) -> u64 {
        nanos(self.0.origin.elapsed())
    }

    /// When there last was progress, if the caller is not waited for.
    pub(crate) fn last(&self) -> Option<Instant> {
        match self.0.last.load(Relaxed) {
            PAUSED => None,
            nanos => self.0.origin.checked_add(Duration::from_nanos(nanos)),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(PAUSED - 1, |nanos| nanos.min(PAUSED - 1))
}

/// Watches one exchange after the other.
#[derive(Debug)]
pub(crate) struct Idle {
    timeout: Duration,
    activity: Activity,
    /// Made when there is first something to wait for, and moved only when it fires: neither progress nor the next
    /// exchange costs a timer.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whether somebody waits. What comes late because nobody asked for it is not idle.
    waiting: bool,
}

impl Idle {
    pub(crate) fn new(timeout: Duration, activity: Activity) -> Self {
        Self { timeout, activity, sleep: None, waiting: false }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The activity of the next exchange, which begins.
    pub(crate) fn begin(&mut self) -> &Activity {
        self.waiting = false;
        self.activity.head_comes();
        if self.activity.last().is_none() {
            self.activity.touch();
        }
        &self.activity
    }

    /// When there last was progress.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.activity.last()
    }

    /// Notes that what was waited for has come.
    pub(crate) fn progress(&mut self) {
        self.waiting = false;
    }

    /// Ready once nothing has moved for the timeout, for as long as somebody waited. Never for a timeout beyond the
    /// clock.
    pub(crate) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waiting {
            self.waiting = true;
            self.activity.restart();
        }
        loop {
            let due = match self.activity.last() {
                Some(last) => last.checked_add(self.timeout),
                None => Instant::now().checked_add(self.timeout),
            };
            let Some(due) = due else { return Poll::Pending };
            let timeout = self.timeout;
            // Nobody tells when a time that was to start later has started.
            let look = || Instant::now().checked_add(timeout).map_or(due, |soon| soon.min(due));
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(look())));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(look());
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
    async fn a_time_that_starts_later_ends_later() {
        let begin = Instant::now();
        let mut idle = Idle::new(2 * SECOND, Activity::starting_within(SECOND));
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn it_starts_with_the_first_progress_however_late_it_may() {
        let begin = Instant::now();
        let activity = Activity::starting_within(900 * SECOND);
        let mover = activity.clone();
        tokio::spawn(async move {
            sleep(SECOND).await;
            mover.touch();
        });
        let mut idle = Idle::new(2 * SECOND, activity);
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 3 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_passes_while_the_caller_is_waited_for() {
        let begin = Instant::now();
        let activity = Activity::by_byte();
        let mover = activity.clone();
        tokio::spawn(async move {
            sleep(SECOND).await;
            mover.pause();
            sleep(10 * SECOND).await;
            mover.touch();
        });
        let mut idle = Idle::new(2 * SECOND, activity);
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), (1 + 10 + 2) * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_never_comes_to_its_end_is_no_progress_for_ever() {
        let begin = Instant::now();
        let activity = Activity::by_byte();
        let mut idle = Idle::new(2 * SECOND, activity.clone());
        idle.begin();
        tokio::spawn(async move {
            loop {
                sleep(SECOND).await;
                activity.hear();
            }
        });
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), (PIECES + 2) * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_exchange_begins_anew() {
        let activity = Activity::by_byte();
        let mut idle = Idle::new(2 * SECOND, activity.clone());
        poll_fn(|cx| idle.poll_idle(cx)).await;
        activity.pause();
        idle.begin();
        let begin = Instant::now();
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_not_late() {
        let mut idle = Idle::new(2 * SECOND, Activity::by_byte());
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
        let mut idle = Idle::new(2 * SECOND, Activity::by_byte());
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn progress_starts_it_anew() {
        let begin = Instant::now();
        let activity = Activity::by_byte();
        let mover = activity.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                sleep(SECOND).await;
                mover.touch();
            }
        });
        let mut idle = Idle::new(2 * SECOND, activity);
        poll_fn(|cx| idle.poll_idle(cx)).await;
        assert_eq!(begin.elapsed(), 7 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_beyond_the_clock_never_fires() {
        let mut idle = Idle::new(Duration::MAX, Activity::by_byte());
        assert!(tokio::time::timeout(1000 * SECOND, poll_fn(|cx| idle.poll_idle(cx))).await.is_err());
    }
}

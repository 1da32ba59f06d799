//! The open connections of clients: how each is driven to its end, and which one gives way when there is no room.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::server::{connection_state::Line, shutdown::Heard};

/// How long a client has to send its request on a connection that is to end.
pub(crate) const LAST_WORD: Duration = Duration::from_millis(100);

/// How long a connection without any request yet is left alone, however many others wait.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// The connections that are open. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Open(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    next: u64,
    open: HashMap<u64, Line>,
}

/// A connection among those that are open, until this is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    open: Open,
    number: u64,
}

impl Open {
    pub(crate) fn enter(&self, line: Line) -> Entry {
        let mut lines = self.lock();
        let number = lines.next;
        lines.next += 1;
        lines.open.insert(number, line);
        Entry { open: self.clone(), number }
    }

    /// Ends the connection that has been idle for longest, if one is idle. Where a response waits for its client, that
    /// has so long to take some.
    pub(crate) fn close_idlest(&self, patience: Duration) {
        let now = Instant::now();
        let lines = self.lock();
        let idle = lines.open.values().filter(|line| !line.is_closing());
        let idle = idle.filter_map(|line| Some((line.quiet_since(patience)?, line))).filter(|(since, _)| *since <= now);
        let may_go = |(since, line): &(Instant, &Line)| line.was_used() || now.duration_since(*since) > FIRST_REQUEST;
        if let Some((_, line)) = idle.filter(may_go).min_by_key(|(since, _)| *since) {
            line.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.open.lock().open.remove(&self.number);
    }
}

pin_project! {
    /// Drives a connection, and ends it when it is asked to, or has been idle for too long: gracefully at first, so that
    /// what is in flight is finished, and by force once nothing is.
    pub(crate) struct Driven<T> {
        #[pin]
        connection: T,
        shut_down: fn(Pin<&mut T>),
        line: Line,
        #[pin]
        stop: Heard,
        // How long it may be idle; `None` if its protocol looks after that.
        idle_limit: Option<Duration>,
        // How long its client may take nothing of a response.
        patience: Duration,
        // Whether whoever ends it knows whom to wake.
        watched: bool,
        // Since when it is to end.
        ending: Option<Instant>,
        // For the idle limit, and then for the last word.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<T> Driven<T> {
    pub(crate) fn new(
        connection: T,
        shut_down: fn(Pin<&mut T>),
        line: Line,
        stop: Heard,
        idle_limit: Option<Duration>,
        patience: Duration,
    ) -> Self {
        Self { connection, shut_down, line, stop, idle_limit, patience, watched: false, ending: None, timer: None }
    }
}

impl<T: Future<Output = hyper::Result<()>>> Future for Driven<T> {
    type Output = hyper::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.connection.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        if !*this.watched {
            // A connection is one task from here on.
            *this.watched = true;
            this.line.drive(cx.waker());
        }
        let patience = *this.patience;
        if this.ending.is_none() {
            let is_idle =
                this.idle_limit.is_some_and(|limit| poll_idle(this.line, limit, patience, this.timer, cx).is_ready());
            if !this.line.is_closing() && !is_idle && this.stop.poll(cx).is_pending() {
                return Poll::Pending;
            }
            *this.ending = Some(Instant::now());
            *this.timer = None;
            this.line.close();
            (this.shut_down)(this.connection.as_mut());
            if let Poll::Ready(output) = this.connection.poll(cx) {
                return Poll::Ready(output);
            }
        }
        // What is in flight, or waits for its client, may take its time; the last word comes after it.
        let Some(quiet) = this.line.quiet_since(patience) else {
            *this.timer = None;
            return Poll::Pending;
        };
        let due = this.ending.map_or(quiet, |ending| ending.max(quiet)) + LAST_WORD;
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() < due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(cx).map(Ok)
    }
}

/// Ready once nothing has been in flight for the limit. The timer is moved only when it fires.
fn poll_idle(
    line: &Line,
    limit: Duration,
    patience: Duration,
    timer: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        let since = line.quiet_since(patience);
        let Some(due) = since.unwrap_or_else(Instant::now).checked_add(limit) else { return Poll::Pending };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(timer.as_mut().poll(cx));
        if since.is_some() && timer.deadline() >= due {
            return Poll::Ready(());
        }
        timer.as_mut().reset(due);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use tokio::time::sleep;

    use super::*;
    use crate::server::shutdown::Tasks;

    const SECOND: Duration = Duration::from_secs(1);

    /// A connection that does nothing by itself.
    fn driven(line: &Line, tasks: &Tasks, idle_limit: Option<Duration>) -> impl Future<Output = hyper::Result<()>> {
        Driven::new(Box::pin(pending()), |_| {}, line.clone(), tasks.heard(), idle_limit, 60 * SECOND)
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_request_it_ends_soon_after_it_is_asked_to() {
        let (line, tasks) = (Line::default(), Tasks::default());
        tasks.stop();
        let begin = Instant::now();
        driven(&line, &tasks, None).await.unwrap();
        assert_eq!(begin.elapsed(), LAST_WORD);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_flight_is_waited_for() {
        let (line, tasks) = (Line::default(), Tasks::default());
        let busy = line.enter();
        tasks.stop();
        tokio::spawn(async move {
            sleep(5 * SECOND).await;
            drop(busy);
        });
        let begin = Instant::now();
        driven(&line, &tasks, None).await.unwrap();
        assert_eq!(begin.elapsed(), 5 * SECOND + LAST_WORD);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_one_ends_at_its_limit_counted_from_its_last_request() {
        let (line, tasks) = (Line::default(), Tasks::default());
        let busy = line.enter();
        tokio::spawn(async move {
            sleep(5 * SECOND).await;
            drop(busy);
        });
        let begin = Instant::now();
        driven(&line, &tasks, Some(2 * SECOND)).await.unwrap();
        assert_eq!(begin.elapsed(), 7 * SECOND + LAST_WORD);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_its_client_is_waited_for_while_some_of_it_is_taken() {
        let (line, tasks) = (Line::default(), Tasks::default());
        line.add_unsent(2);
        tasks.stop();
        let begin = Instant::now();
        driven(&line, &tasks, None).await.unwrap();
        assert_eq!(begin.elapsed(), 60 * SECOND + LAST_WORD, "its client took nothing");

        let (line, tasks) = (Line::default(), Tasks::default());
        line.add_unsent(2);
        let taker = line.clone();
        tokio::spawn(async move {
            sleep(50 * SECOND).await;
            taker.remove_unsent(1);
        });
        let begin = Instant::now();
        driven(&line, &tasks, Some(10 * SECOND)).await.unwrap();
        assert_eq!(begin.elapsed(), (50 + 60 + 10) * SECOND + LAST_WORD, "and then nothing more");
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_has_been_idle_for_longest_gives_way() {
        let open = Open::default();
        let lines: Vec<_> = (0..4).map(|_| Line::default()).collect();
        let _entries: Vec<_> = lines.iter().map(|line| open.enter(line.clone())).collect();
        let closing = || lines.iter().map(Line::is_closing).collect::<Vec<_>>();
        // The first is busy, the second and third have had a request, the fourth is new.
        let _busy = lines[0].enter();
        drop(lines[2].enter());
        tokio::time::advance(SECOND / 2).await;
        drop(lines[1].enter());
        open.close_idlest(60 * SECOND);
        assert_eq!(closing(), [false, false, true, false]);
        open.close_idlest(60 * SECOND);
        assert_eq!(closing(), [false, true, true, false]);
        open.close_idlest(60 * SECOND);
        assert_eq!(closing(), [false, true, true, false], "a new one has a second to say what it wants");
        tokio::time::advance(SECOND).await;
        open.close_idlest(60 * SECOND);
        assert_eq!(closing(), [false, true, true, true]);
        poll_fn(|_| Poll::Ready(())).await;
    }
}

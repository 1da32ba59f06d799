//! The streams of HTTP/2 connections: each response within the time and the memory that its client may take.
//!
//! hyper runs each stream as a task of its own, and asks for a response's body only while its client's window is open. A
//! client that never opens it would hold the response, its place among the requests in flight, and its connection to the
//! upstream.

use std::{
    cell::RefCell,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use crate::server::{connection_state::Line, shutdown::Tasks};

/// How many bytes of responses may wait to be written to one connection. Each of its streams may exceed that by one
/// piece.
const BUFFERED: usize = 1024 * 1024;

/// Runs the streams of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    tasks: Tasks,
    /// How long a client may take nothing of a response.
    patience: Duration,
    buffered: Arc<Buffered>,
}

impl Streams {
    pub(crate) fn new(tasks: Tasks, patience: Duration, line: Line) -> Self {
        Self { tasks, patience, buffered: Arc::new(Buffered { line, waiting: Mutex::default() }) }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, task: F) {
        let response =
            ResponseStream(Arc::new(Progress { buffered: Arc::clone(&self.buffered), asked: AtomicU64::new(0) }));
        self.tasks.spawn_part(Stream { task, response, patience: self.patience, seen: 0, timer: None });
    }
}

thread_local! {
    /// The response of the stream that is polled in this thread.
    static CURRENT: RefCell<Option<ResponseStream>> = const { RefCell::new(None) };
}

/// The response of one stream. Clones are of the same.
#[derive(Clone, Debug)]
pub(crate) struct ResponseStream(Arc<Progress>);

#[derive(Debug)]
struct Progress {
    buffered: Arc<Buffered>,
    /// How often its body was asked for, times two; odd while it is the body that is waited for.
    asked: AtomicU64,
}

impl ResponseStream {
    /// The one that is polled now; `None` over HTTP/1.1.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Begins: from here on the client is waited for, unless the body is.
    pub(crate) fn begin(&self) {
        self.0.asked.store(2, Relaxed);
    }

    /// Notes that the body was asked for more, and whether it had some.
    pub(crate) fn asked(&self, is_ready: bool) {
        let asked = self.0.asked.load(Relaxed);
        self.0.asked.store((asked | 1) + if is_ready { 1 } else { 2 }, Relaxed);
    }

    /// Pending while too much waits to be written to the connection: it is the client that is waited for then.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let room = self.0.buffered.poll_room(cx);
        let asked = self.0.asked.load(Relaxed);
        if room.is_pending() && !asked.is_multiple_of(2) {
            self.0.asked.store(asked + 1, Relaxed);
        }
        room
    }

    /// A piece that counts until it was written.
    pub(crate) fn count(&self, piece: Bytes) -> Bytes {
        if piece.is_empty() {
            return piece;
        }
        self.0.buffered.line.add_unsent(piece.len());
        Bytes::from_owner(Counted { piece, buffered: Arc::clone(&self.0.buffered) })
    }

    /// Which wait for the client this is; `None` while the client is not waited for.
    fn wait(&self) -> Option<u64> {
        let asked = self.0.asked.load(Relaxed);
        (asked != 0 && asked.is_multiple_of(2)).then_some(asked)
    }
}

/// What waits to be written to one connection, which counts it, and who waits for that.
#[derive(Debug)]
struct Buffered {
    line: Line,
    waiting: Mutex<Vec<Waker>>,
}

impl Buffered {
    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.line.unsent() < BUFFERED {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at again under the lock, so that no wake-up is missed.
        if self.line.unsent() < BUFFERED {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// A piece of a body on its way to the connection.
struct Counted {
    piece: Bytes,
    buffered: Arc<Buffered>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self { piece, buffered } = self;
        let before = buffered.line.remove_unsent(piece.len());
        if before >= BUFFERED && before - piece.len() < BUFFERED {
            let waiting = std::mem::take(&mut *buffered.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

pin_project! {
    /// One stream, which ends when its client has taken nothing of the response for too long.
    struct Stream<F> {
        #[pin]
        task: F,
        response: ResponseStream,
        patience: Duration,
        // The wait that the timer is for.
        seen: u64,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let outer = CURRENT.replace(Some(this.response.clone()));
        let polled = this.task.poll(cx);
        CURRENT.set(outer);
        if polled.is_ready() {
            return polled;
        }
        let Some(wait) = this.response.wait() else { return Poll::Pending };
        let patience = *this.patience;
        let timer = this.timer.get_or_insert_with(|| {
            *this.seen = wait;
            Box::pin(sleep(patience))
        });
        // Moved only when it fires: most waits are short.
        while timer.as_mut().poll(cx).is_ready() {
            if *this.seen == wait {
                log::debug!("A client took nothing of a response for {patience:?}");
                return Poll::Ready(());
            }
            *this.seen = wait;
            let Some(due) = Instant::now().checked_add(patience) else { return Poll::Pending };
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        task::Wake,
    };

    use tokio::sync::oneshot;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// How long a stream lasts whose body is asked for as `play` does, and whose client then takes nothing.
    async fn lasts<F: Future<Output = ()> + Send + 'static>(
        play: impl FnOnce(ResponseStream) -> F + Send + 'static,
    ) -> Duration {
        let begin = Instant::now();
        let (ended, end) = oneshot::channel::<()>();
        let streams = Streams::new(Tasks::default(), 10 * SECOND, Line::default());
        streams.execute(async move {
            let _ended = ended;
            play(ResponseStream::current().unwrap()).await;
            pending::<()>().await;
        });
        let _ = end.await;
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_its_client_does_not_take_ends() {
        assert_eq!(lasts(async |response| response.begin()).await, 10 * SECOND);
        let taken_once = async |response: ResponseStream| {
            response.begin();
            sleep(9 * SECOND).await;
            response.asked(true);
        };
        // The timer that was for the first wait is moved to the second when it fires.
        assert_eq!(lasts(taken_once).await, 20 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn no_time_passes_while_the_body_is_waited_for() {
        let slow_body = async |response: ResponseStream| {
            response.begin();
            response.asked(false);
            sleep(100 * SECOND).await;
            response.asked(true);
        };
        assert_eq!(lasts(slow_body).await, 110 * SECOND);
    }

    struct Nobody;

    impl Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    #[tokio::test]
    async fn what_waits_to_be_written_is_bounded() {
        let buffered = Arc::new(Buffered { line: Line::default(), waiting: Mutex::default() });
        let response = ResponseStream(Arc::new(Progress { buffered, asked: AtomicU64::new(0) }));
        let piece = response.count(Bytes::from(vec![0; BUFFERED - 1]));
        poll_fn(|cx| response.poll_room(cx)).await;
        let more = response.count(Bytes::from_static(b"x"));
        let waker = Waker::from(Arc::new(Nobody));
        assert!(response.poll_room(&Context::from_waker(&waker)).is_pending());
        assert_eq!(response.0.buffered.waiting.lock().unwrap().len(), 1);
        drop(more);
        assert!(response.0.buffered.waiting.lock().unwrap().is_empty(), "woken");
        poll_fn(|cx| response.poll_room(cx)).await;
        drop(piece);
        assert_eq!(response.0.buffered.line.unsent(), 0);
    }
}

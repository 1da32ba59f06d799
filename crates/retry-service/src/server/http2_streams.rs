//! The streams of an HTTP/2 connection: how long a client may stall a response, and how much is buffered for it.
//!
//! hyper runs each stream as a task, and polls the body of a response only while the client's window is open. A client
//! that never opens it would hold the response, its permit and its upstream connection.

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

use super::connection_state::ConnectionState;

/// The maximum number of concurrent requests on a connection, as in HAProxy.
pub(crate) const MAX_STREAMS: u32 = 100;

/// How many bytes of each response hyper buffers.
pub(crate) const STREAM_BUFFER: usize = 64 * 1024;

/// How many bytes of responses may wait to be written to one connection. Each stream may exceed it by one chunk.
const MAX_UNSENT: usize = 1024 * 1024;

/// Spawns the streams of one connection. They end with it.
#[derive(Clone, Debug)]
pub(crate) struct StreamExecutor {
    client_timeout: Duration,
    send_buffer: Arc<SendBuffer>,
}

impl StreamExecutor {
    pub(crate) fn new(client_timeout: Duration, connection: ConnectionState) -> Self {
        Self { client_timeout, send_buffer: Arc::new(SendBuffer { connection, waiting: Mutex::default() }) }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, task: F) {
        let progress = Progress { send_buffer: Arc::clone(&self.send_buffer), polls: AtomicU64::new(0) };
        tokio::spawn(Stream {
            task,
            response: ResponseStream(Arc::new(progress)),
            client_timeout: self.client_timeout,
            timed_wait: 0,
            timer: None,
        });
    }
}

thread_local! {
    /// The response of the stream that this thread is polling.
    static CURRENT: RefCell<Option<ResponseStream>> = const { RefCell::new(None) };
}

/// The response of one stream. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct ResponseStream(Arc<Progress>);

#[derive(Debug)]
struct Progress {
    send_buffer: Arc<SendBuffer>,
    /// Even while the stream waits for the client, odd while it waits for the body, and 0 before the response begins.
    /// Each poll of the body increases it, so that it also tells one wait from the next.
    polls: AtomicU64,
}

impl ResponseStream {
    /// Returns the response of the stream that is being polled; `None` over HTTP/1.1.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Begins the response. From here on the stream waits for the client, unless the body is pending.
    pub(crate) fn begin(&self) {
        self.0.polls.store(2, Relaxed);
    }

    /// Records that the body was polled, and whether it was ready.
    pub(crate) fn body_polled(&self, is_ready: bool) {
        let polls = self.0.polls.load(Relaxed);
        self.0.polls.store((polls | 1) + if is_ready { 1 } else { 2 }, Relaxed);
    }

    /// Waits until the connection may buffer more. Meanwhile the stream waits for the client.
    pub(crate) fn poll_capacity(&self, cx: &Context<'_>) -> Poll<()> {
        let capacity = self.0.send_buffer.poll_capacity(cx);
        let polls = self.0.polls.load(Relaxed);
        if capacity.is_pending() && !polls.is_multiple_of(2) {
            self.0.polls.store(polls + 1, Relaxed);
        }
        capacity
    }

    /// Counts a chunk as unsent until it is dropped, which hyper does once it is written.
    pub(crate) fn count_unsent(&self, chunk: Bytes) -> Bytes {
        if chunk.is_empty() {
            return chunk;
        }
        self.0.send_buffer.connection.add_unsent(chunk.len());
        Bytes::from_owner(UnsentChunk { chunk, send_buffer: Arc::clone(&self.0.send_buffer) })
    }

    /// Returns the number of the current wait for the client; `None` if the stream does not wait for it.
    fn client_wait(&self) -> Option<u64> {
        let polls = self.0.polls.load(Relaxed);
        (polls != 0 && polls.is_multiple_of(2)).then_some(polls)
    }
}

/// What waits to be written to one connection. The number of bytes is part of the connection's state.
#[derive(Debug)]
struct SendBuffer {
    connection: ConnectionState,
    /// The streams that wait for capacity.
    waiting: Mutex<Vec<Waker>>,
}

impl SendBuffer {
    fn has_capacity(&self) -> bool {
        self.connection.unsent() < MAX_UNSENT
    }

    fn poll_capacity(&self, cx: &Context<'_>) -> Poll<()> {
        if self.has_capacity() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        // Checked again under the lock, so that no wake-up is missed.
        if self.has_capacity() {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// A chunk of a body that waits to be written.
struct UnsentChunk {
    chunk: Bytes,
    send_buffer: Arc<SendBuffer>,
}

impl AsRef<[u8]> for UnsentChunk {
    fn as_ref(&self) -> &[u8] {
        &self.chunk
    }
}

impl Drop for UnsentChunk {
    fn drop(&mut self) {
        let Self { chunk, send_buffer } = self;
        let before = send_buffer.connection.remove_unsent(chunk.len());
        if before >= MAX_UNSENT && before - chunk.len() < MAX_UNSENT {
            let waiting = std::mem::take(&mut *send_buffer.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

pin_project! {
    /// The task of one stream. It ends when the client has read none of the response for `client_timeout`.
    struct Stream<F> {
        #[pin]
        task: F,
        response: ResponseStream,
        client_timeout: Duration,
        // The wait that the timer was started for.
        timed_wait: u64,
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
        let Some(wait) = this.response.client_wait() else { return Poll::Pending };
        let client_timeout = *this.client_timeout;
        let timer = this.timer.get_or_insert_with(|| {
            *this.timed_wait = wait;
            Box::pin(sleep(client_timeout))
        });
        // It is moved only when it fires, as most waits are short.
        while timer.as_mut().poll(cx).is_ready() {
            if *this.timed_wait == wait {
                log::debug!("A client read none of a response for {client_timeout:?}");
                return Poll::Ready(());
            }
            *this.timed_wait = wait;
            let Some(due) = Instant::now().checked_add(client_timeout) else { return Poll::Pending };
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

    /// Returns how long a stream lasts if `play` polls its body, and the client then reads nothing.
    async fn lasts<F: Future<Output = ()> + Send + 'static>(
        play: impl FnOnce(ResponseStream) -> F + Send + 'static,
    ) -> Duration {
        let begin = Instant::now();
        let (ended, end) = oneshot::channel::<()>();
        let streams = StreamExecutor::new(10 * SECOND, ConnectionState::default());
        streams.execute(async move {
            let _ended = ended;
            play(ResponseStream::current().unwrap()).await;
            pending::<()>().await;
        });
        let _ = end.await;
        begin.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_times_out() {
        assert_eq!(lasts(async |response| response.begin()).await, 10 * SECOND);
        let read_once = async |response: ResponseStream| {
            response.begin();
            sleep(9 * SECOND).await;
            response.body_polled(true);
        };
        // The timer of the first wait is moved to the second when it fires.
        assert_eq!(lasts(read_once).await, 20 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pending_body_does_not_count_against_the_client() {
        let slow_body = async |response: ResponseStream| {
            response.begin();
            response.body_polled(false);
            sleep(100 * SECOND).await;
            response.body_polled(true);
        };
        assert_eq!(lasts(slow_body).await, 110 * SECOND);
    }

    struct NoWake;

    impl Wake for NoWake {
        fn wake(self: Arc<Self>) {}
    }

    #[tokio::test]
    async fn unsent_bytes_are_limited() {
        let send_buffer = Arc::new(SendBuffer { connection: ConnectionState::default(), waiting: Mutex::default() });
        let response = ResponseStream(Arc::new(Progress { send_buffer, polls: AtomicU64::new(0) }));
        let first = response.count_unsent(Bytes::from(vec![0; MAX_UNSENT - 1]));
        poll_fn(|cx| response.poll_capacity(cx)).await;
        let second = response.count_unsent(Bytes::from_static(b"x"));
        let waker = Waker::from(Arc::new(NoWake));
        assert!(response.poll_capacity(&Context::from_waker(&waker)).is_pending());
        assert_eq!(response.0.send_buffer.waiting.lock().unwrap().len(), 1);
        drop(second);
        assert!(response.0.send_buffer.waiting.lock().unwrap().is_empty(), "woken");
        poll_fn(|cx| response.poll_capacity(cx)).await;
        drop(first);
        assert_eq!(response.0.send_buffer.connection.unsent(), 0);
    }
}

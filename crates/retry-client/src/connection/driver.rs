//! Drives an HTTP/1.1 connection within the exchange on it. A task of its own would have to be woken for each step.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use atomic_waker::AtomicWaker;
use tokio::{runtime::Handle, task::AbortHandle};

/// How many times a connection that wakes itself is polled before other tasks have their turn.
const MAX_POLLS: u32 = 4;

type ConnectionFuture = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send + Sync>>;

/// Polls a connection of hyper whenever an exchange waits for it. An idle connection is not polled.
pub(crate) struct Driver {
    state: State,
    exchange: Arc<ExchangeWaker>,
    /// `exchange` as a waker.
    waker: Waker,
}

enum State {
    Polled(ConnectionFuture),
    Spawned(AbortHandle),
    Closed,
}

impl Driver {
    /// Creates a driver of a connection that reports its errors to the exchange.
    pub(crate) fn new(connection: impl Future<Output = hyper::Result<()>> + Send + Sync + 'static) -> Self {
        let exchange = Arc::new(ExchangeWaker::default());
        Self { state: State::Polled(Box::pin(connection)), waker: Arc::clone(&exchange).into(), exchange }
    }

    /// Polls what an exchange waits for, and while that is pending, the connection that provides it.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let State::Polled(connection) = &mut self.state else { return poll(cx) };
        self.exchange.waker.register(cx.waker());
        self.exchange.start_polling();
        let inner = &mut Context::from_waker(&self.waker);
        let mut polled = poll(inner);
        for _ in 0..MAX_POLLS {
            if polled.is_ready() {
                break;
            }
            // What has woken the connection so far is handled by this poll.
            self.exchange.start_polling();
            if connection.as_mut().poll(inner).is_ready() {
                self.state = State::Closed;
                polled = poll(inner);
                break;
            }
            polled = poll(inner);
            if !self.exchange.is_woken() {
                break;
            }
        }
        if self.exchange.end_polling() && polled.is_pending() {
            cx.waker().wake_by_ref();
        }
        polled
    }

    /// Ends an exchange. Only the next one polls the connection again.
    pub(crate) fn detach(&mut self) {
        self.exchange.waker.take();
    }

    /// Continues in a task, independently of the exchange.
    pub(crate) fn spawn(&mut self) {
        if let State::Polled(_) = self.state
            && let Ok(runtime) = Handle::try_current()
            && let State::Polled(connection) = std::mem::replace(&mut self.state, State::Closed)
        {
            self.state = State::Spawned(runtime.spawn(connection).abort_handle());
        }
    }

    /// Closes the connection at once, whatever it is reading or writing.
    pub(crate) fn abort(&mut self) {
        if let State::Spawned(task) = std::mem::replace(&mut self.state, State::Closed) {
            task.abort();
        }
    }
}

/// An idle connection whose sender has been dropped is shut down in order, which TLS has a message for.
impl Drop for Driver {
    fn drop(&mut self) {
        if let State::Polled(connection) = &mut self.state {
            // If the message cannot be sent now, the connection is closed without it.
            let _ = connection.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Driver")
    }
}

/// Wakes the task of an exchange, unless the task is polling the connection: one wakes the other all the time, and the
/// driver polls both anyway.
#[derive(Default)]
struct ExchangeWaker {
    waker: AtomicWaker,
    state: AtomicU8,
}

const NOT_POLLING: u8 = 0;
const POLLING: u8 = 1;
const WOKEN: u8 = 2;

impl ExchangeWaker {
    fn start_polling(&self) {
        // Not a store: what happened before an earlier wake-up has to be visible to this poll.
        self.state.swap(POLLING, SeqCst);
    }

    fn is_woken(&self) -> bool {
        self.state.load(SeqCst) == WOKEN
    }

    /// Returns whether there was a wake-up meanwhile.
    fn end_polling(&self) -> bool {
        self.state.swap(NOT_POLLING, SeqCst) == WOKEN
    }
}

impl Wake for ExchangeWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.compare_exchange(POLLING, WOKEN, SeqCst, SeqCst) == Err(NOT_POLLING) {
            self.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::{Mutex, atomic::AtomicUsize},
    };

    use super::*;
    use crate::lock::lock;

    /// Counts its wake-ups.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// Drives a connection that counts its polls, of which the first ones wake it as `wake` says. Returns the driver, the
    /// number of polls, and the waker of the last poll.
    fn counting(wakes: usize) -> (Driver, Arc<AtomicUsize>, Arc<Mutex<Option<Waker>>>) {
        let (polls, waker) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        let (count, last) = (Arc::clone(&polls), Arc::clone(&waker));
        let connection = poll_fn(move |cx| {
            if count.fetch_add(1, SeqCst) < wakes {
                cx.waker().wake_by_ref();
            }
            *lock(&last) = Some(cx.waker().clone());
            Poll::Pending
        });
        (Driver::new(connection), polls, waker)
    }

    fn pending(_: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    #[test]
    fn a_connection_that_wakes_itself_is_polled_at_once() {
        let exchange = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&exchange));
        let cx = &mut Context::from_waker(&waker);

        let (mut driver, polls, _) = counting(2);
        assert!(driver.poll(cx, pending).is_pending());
        assert_eq!((polls.load(SeqCst), exchange.0.load(SeqCst)), (3, 0));

        let (mut driver, polls, _) = counting(usize::MAX);
        assert!(driver.poll(cx, pending).is_pending());
        assert_eq!((polls.load(SeqCst), exchange.0.load(SeqCst)), (MAX_POLLS as usize, 1), "others have their turn");
    }

    #[test]
    fn a_connection_wakes_its_exchange_until_that_has_ended() {
        let exchange = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&exchange));
        let (mut driver, _, connection) = counting(0);
        assert!(driver.poll(&mut Context::from_waker(&waker), pending).is_pending());
        let wake = || lock(&connection).as_ref().unwrap().wake_by_ref();
        wake();
        assert_eq!(exchange.0.load(SeqCst), 1);
        assert!(driver.poll(&mut Context::from_waker(&waker), pending).is_pending());
        driver.detach();
        wake();
        assert_eq!(exchange.0.load(SeqCst), 1);
    }

    #[test]
    fn what_is_ready_needs_no_poll_of_the_connection() {
        let (mut driver, polls, _) = counting(0);
        assert_eq!(driver.poll(&mut Context::from_waker(Waker::noop()), |_| Poll::Ready(1)), Poll::Ready(1));
        assert_eq!(polls.load(SeqCst), 0);
    }

    #[test]
    fn a_connection_that_ends_is_polled_no_more() {
        let mut driver = Driver::new(async { Ok(()) });
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(driver.poll(cx, pending).is_pending());
        assert!(driver.poll(cx, pending).is_pending());
    }

    #[test]
    fn an_aborted_connection_is_dropped_without_a_poll() {
        let (mut driver, polls, connection) = counting(0);
        let shared = Arc::downgrade(&connection);
        drop(connection);
        driver.abort();
        assert_eq!((polls.load(SeqCst), shared.strong_count()), (0, 0));
        let (driver, polls, _) = counting(0);
        drop(driver);
        assert_eq!(polls.load(SeqCst), 1, "an idle one is shut down");
    }
}

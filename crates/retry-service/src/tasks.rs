//! What a server has under way: its connections, and what has outgrown one.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::sync::{Notify, futures::OwnedNotified};
use tokio_util::task::TaskTracker;

/// Tasks that can be asked to stop, waited for, and cut off. Clones are of the same tasks.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: Arc<Order>,
    cut: Arc<Order>,
}

impl Tasks {
    /// Runs a task until it ends or all are cut off.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(Cuttable { task, cut: self.cut.hear() });
    }

    /// How many have not ended.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Asks all to stop.
    pub fn stop(&self) {
        self.stop.give();
        self.tracker.close();
    }

    /// Whether they have been asked to.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.given.load(SeqCst)
    }

    /// Waits until they are asked to.
    pub async fn stopping(&self) {
        let rung = self.stop.bell.notified();
        if !self.is_stopping() {
            rung.await;
        }
    }

    /// Drives a task to its end, and tells it once when it is asked to stop: how is for `shut_down` to know.
    pub(crate) fn graceful<T, S>(&self, task: T, shut_down: S) -> impl Future<Output = T::Output> + use<T, S>
    where
        T: Future,
        S: Fn(Pin<&mut T>),
    {
        Graceful { task, shut_down, stop: Some(self.stop.hear()) }
    }

    /// Waits until all have ended. They have to be asked to stop first.
    pub async fn all_ended(&self) {
        self.tracker.wait().await;
    }

    /// Ends all at once.
    pub fn cut(&self) {
        self.cut.give();
    }
}

/// An order to all, given once.
#[derive(Debug, Default)]
struct Order {
    given: AtomicBool,
    bell: Arc<Notify>,
}

impl Order {
    fn give(&self) {
        self.given.store(true, SeqCst);
        self.bell.notify_waiters();
    }

    /// Completes once it is given.
    fn hear(self: &Arc<Self>) -> Heard {
        Heard { rung: Arc::clone(&self.bell).notified_owned(), order: Arc::clone(self), listens: false }
    }
}

pin_project! {
    /// Completes once an order is given. For those alone who poll it in one and the same task: that is the one it wakes.
    struct Heard {
        #[pin]
        rung: OwnedNotified,
        order: Arc<Order>,
        listens: bool,
    }
}

impl Future for Heard {
    type Output = ();

    /// Costs next to nothing but for the first time: connections ask each time they are woken.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.order.given.load(SeqCst) {
            return Poll::Ready(());
        }
        if *this.listens {
            return Poll::Pending;
        }
        *this.listens = true;
        this.rung.poll(cx)
    }
}

pin_project! {
    struct Cuttable<T> {
        #[pin]
        task: T,
        #[pin]
        cut: Heard,
    }
}

impl<T: Future<Output = ()>> Future for Cuttable<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.cut.poll(cx).is_ready() { Poll::Ready(()) } else { this.task.poll(cx) }
    }
}

pin_project! {
    struct Graceful<T, S> {
        #[pin]
        task: T,
        shut_down: S,
        // None once the task was told.
        #[pin]
        stop: Option<Heard>,
    }
}

impl<T: Future, S: Fn(Pin<&mut T>)> Future for Graceful<T, S> {
    type Output = T::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T::Output> {
        let mut this = self.project();
        if let Poll::Ready(output) = this.task.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        let Some(stop) = this.stop.as_mut().as_pin_mut() else { return Poll::Pending };
        ready!(stop.poll(cx));
        this.stop.set(None);
        (this.shut_down)(this.task.as_mut());
        this.task.poll(cx)
    }
}

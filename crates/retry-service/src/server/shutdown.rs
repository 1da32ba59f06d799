//! What a server has under way: its connections, and what has outgrown one.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
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

    /// Whether they have been cut off.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.given.load(SeqCst)
    }

    /// Waits until they are asked to.
    pub async fn stopping(&self) {
        let rung = self.stop.bell.notified();
        if !self.is_stopping() {
            rung.await;
        }
    }

    /// Completes once they are asked to stop.
    pub(crate) fn heard(&self) -> Heard {
        self.stop.hear()
    }

    /// Runs a task that belongs to one of theirs, and is not counted: until it ends or all are cut off.
    pub(crate) fn spawn_part(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(Cuttable { task, cut: self.cut.hear() });
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
    pub(crate) struct Heard {
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

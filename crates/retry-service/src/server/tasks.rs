//! The tasks of a server, and how they end: they are drained, and what is left is aborted.

use tokio::runtime::Handle;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// The tasks that serve connections and tunnels. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    abort: CancellationToken,
}

impl Tasks {
    /// Runs a task on the current runtime until it ends or is aborted.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&Handle::current(), task);
    }

    /// Runs a task on another runtime.
    pub(crate) fn spawn_on(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        // Each task has its own token, because a token takes a lock each time it is polled.
        self.tracker.spawn_on(self.abort.child_token().run_until_cancelled_owned(task), runtime);
    }

    /// Returns how many tasks have not ended.
    pub(crate) fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Marks the server as draining.
    pub(crate) fn start_drain(&self) {
        self.tracker.close();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.tracker.is_closed()
    }

    /// Waits until the drain has started and all tasks have ended.
    pub(crate) async fn drained(&self) {
        self.tracker.wait().await;
    }

    /// Aborts all tasks.
    pub(crate) fn abort(&self) {
        self.abort.cancel();
    }

    /// Aborts all tasks when the guard is dropped.
    pub(crate) fn abort_on_drop(&self) -> DropGuard {
        self.abort.clone().drop_guard()
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.abort.is_cancelled()
    }
}

//! The tasks of a server, and how they end: they are drained, and what is left is aborted.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::{runtime::Handle, task::JoinSet};
use tokio_util::task::TaskTracker;

/// The tasks that serve connections and tunnels. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    tracker: TaskTracker,
    /// Those that have not ended, and some that have ended since the last one was spawned.
    spawned: Mutex<JoinSet<()>>,
    aborted: AtomicBool,
}

/// Aborts all tasks when it is dropped.
#[derive(Debug)]
pub(crate) struct AbortOnDrop(Tasks);

impl Tasks {
    /// Runs a task on the current runtime until it ends or is aborted.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_on(&Handle::current(), task);
    }

    /// Runs a task on another runtime.
    pub(crate) fn spawn_on(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.0.tracker.track_future(task);
        let mut spawned = self.spawned();
        while spawned.try_join_next().is_some() {}
        if !self.is_aborted() {
            spawned.spawn_on(task, runtime);
        }
    }

    /// Returns how many tasks have not ended.
    pub(crate) fn count(&self) -> usize {
        self.0.tracker.len()
    }

    /// Marks the server as draining.
    pub(crate) fn start_drain(&self) {
        self.0.tracker.close();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.tracker.is_closed()
    }

    /// Waits until the drain has started and all tasks have ended.
    pub(crate) async fn drained(&self) {
        self.0.tracker.wait().await;
    }

    /// Aborts all tasks.
    pub(crate) fn abort(&self) {
        self.0.aborted.store(true, SeqCst);
        self.spawned().abort_all();
    }

    pub(crate) fn abort_on_drop(&self) -> AbortOnDrop {
        AbortOnDrop(self.clone())
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.0.aborted.load(SeqCst)
    }

    fn spawned(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.spawned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use tokio::{sync::oneshot, time::timeout};

    use super::*;

    #[tokio::test]
    async fn all_tasks_are_aborted_when_the_guard_is_dropped() {
        let tasks = Tasks::default();
        let guard = tasks.abort_on_drop();
        let spawn = || {
            let (running, ended) = oneshot::channel::<()>();
            tasks.spawn(async move {
                let _running = running;
                pending::<()>().await;
            });
            ended
        };
        let spawned = [spawn(), spawn()];
        assert_eq!(tasks.count(), 2);
        drop(guard);
        let later = spawn();
        for ended in spawned.into_iter().chain([later]) {
            assert!(timeout(Duration::from_secs(20), ended).await.expect("the task ends").is_err());
        }
        assert_eq!(tasks.count(), 0);
    }

    #[tokio::test]
    async fn a_drain_waits_for_all_tasks() {
        let tasks = Tasks::default();
        let (end, ended) = oneshot::channel::<()>();
        tasks.spawn(async { drop(ended.await) });
        tasks.start_drain();
        assert!(timeout(Duration::from_millis(1), tasks.drained()).await.is_err());
        drop(end);
        timeout(Duration::from_secs(20), tasks.drained()).await.expect("the drain ends");
    }
}

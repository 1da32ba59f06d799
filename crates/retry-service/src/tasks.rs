//! What a server has under way: its connections, and what has outgrown one.

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Tasks that can be asked to stop, waited for, and cut off. Clones are of the same tasks.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Tasks {
    /// Runs a task until it ends or all are cut off.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        self.tracker.spawn(async move {
            cut.run_until_cancelled_owned(task).await;
        });
    }

    /// How many have not ended.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Asks all to stop.
    pub fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
    }

    /// Whether they have been asked to.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits until they are asked to.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    /// Waits until all have ended. They have to be asked to stop first.
    pub async fn all_ended(&self) {
        self.tracker.wait().await;
    }

    /// Ends all at once.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}

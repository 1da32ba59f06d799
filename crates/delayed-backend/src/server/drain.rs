//! Lets requests in flight finish when the server stops.

use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::task::JoinSet;

/// The open connections of a server. They are aborted when this is dropped.
#[derive(Debug, Default)]
pub struct Connections {
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Adds a connection, which is open until `serve` completes. The watcher asks it to finish.
    pub(crate) fn add<C>(&mut self, serve: impl FnOnce(Watcher) -> C)
    where
        C: Future<Output = ()> + Send + 'static,
    {
        // Finished tasks would accumulate otherwise.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(serve(self.graceful.watcher()));
    }

    /// Closes idle connections and lets requests in flight finish. Aborts those that are left when `abort` completes.
    pub async fn drain(self, abort: impl Future<Output = ()>) {
        tokio::select! {
            () = self.graceful.shutdown() => {}
            () = abort => {}
        }
    }

    /// Aborts all connections, and returns when they are closed.
    pub(crate) async fn abort(mut self) {
        self.tasks.shutdown().await;
    }
}

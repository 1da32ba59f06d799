//! Lets requests in flight finish when the server stops.

use std::time::Duration;

use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::task::JoinSet;

/// The time that requests in flight have to finish after a signal to stop.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// The open connections of a server. They are aborted when this is dropped.
#[derive(Debug, Default)]
pub struct Connections {
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Adds a connection, which is open until `serve` completes. The watcher notifies it of the drain.
    pub(crate) fn add<C>(&mut self, serve: impl FnOnce(Watcher) -> C)
    where
        C: Future<Output = ()> + Send + 'static,
    {
        // A `JoinSet` keeps finished tasks until they are joined.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(serve(self.graceful.watcher()));
    }

    /// Closes idle connections and lets requests in flight finish. Aborts the remaining ones when `abort` completes.
    pub async fn drain(self, abort: impl Future<Output = ()>) {
        tokio::select! {
            () = self.graceful.shutdown() => {}
            () = abort => {}
        }
    }

    /// Aborts all connections and waits until they are closed.
    pub(crate) async fn abort(mut self) {
        self.tasks.shutdown().await;
    }
}

//! Accepts connections, and lets them finish.
//!
//! Stopping has two steps, so that requests in flight get their responses: [`serve`] stops accepting and returns the open
//! [`Connections`]; [`Connections::drain`] lets them finish.

use std::io;
use std::time::Duration;

use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The pause after a listener has failed to accept, for example because there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the connections to `listener` until `stop` completes, then closes the listener. Returns the open connections
/// and the output of `stop`.
///
/// A connection is open until the future that `serve_connection` returns completes. The watcher asks it to finish.
pub(crate) async fn serve<C, T>(
    listener: TcpListener,
    mut serve_connection: impl FnMut(TcpStream, Watcher) -> C,
    stop: impl Future<Output = T>,
) -> (Connections, T)
where
    C: Future<Output = ()> + Send + 'static,
{
    let mut connections = Connections::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            stream = accept(&listener) => {
                let connection = serve_connection(stream, connections.graceful.watcher());
                connections.spawn(connection);
            }
            output = &mut stop => return (connections, output),
        }
    }
}

/// Returns the next connection, after any number of failed attempts.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without a delay for small responses. If the option cannot be set, they are only slower.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) if is_connection_error(&error) => {
                log::debug!("Connection lost before it was accepted: {error}");
            }
            Err(error) => {
                log::warn!("Cannot accept connections: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Returns whether the error concerns one connection rather than the listener.
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// The open connections of a server. They are aborted when this is dropped.
#[derive(Debug, Default)]
pub struct Connections {
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
}

impl Connections {
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

    fn spawn(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        // Finished tasks would accumulate otherwise.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(connection);
    }
}

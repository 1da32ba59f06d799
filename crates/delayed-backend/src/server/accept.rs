//! Accepts connections, and lets them finish.
//!
//! Stopping has two steps, because requests in flight deserve their answers: [`serve`] stops
//! accepting and hands back the [`Connections`] still open; [`Connections::drain`] lets them
//! finish, for as long as the caller has patience.

use std::io;
use std::time::Duration;

use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long to leave a listener alone that cannot accept, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Has `converse` serve every connection to `listener` until `stop` completes; the listener is
/// closed then, and what `stop` said comes back.
///
/// A connection is open until its conversation ends; its watcher tells it to come to an end.
pub(crate) async fn serve<C, T>(
    listener: TcpListener,
    mut converse: impl FnMut(TcpStream, Watcher) -> C,
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
                let conversation = converse(stream, connections.graceful.watcher());
                connections.spawn(conversation);
            }
            why = &mut stop => return (connections, why),
        }
    }
}

/// The next connection, however many attempts at one fail before it.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers must not wait for acknowledgements; a refusal only costs time.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) if is_the_peers(&error) => {
                log::debug!("Connection lost before it was accepted: {error}");
            }
            Err(error) => {
                log::warn!("Cannot accept connections: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the failure is of one connection, and says nothing of the next.
fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// The connections a server has open. Dropping this cuts them off.
#[derive(Debug, Default)]
pub struct Connections {
    graceful: GracefulShutdown,
    tasks: JoinSet<()>,
}

impl Connections {
    /// Lets requests in flight finish and closes idle connections, until all are closed or
    /// `patience` completes; whatever is still open then is cut off.
    pub async fn drain(self, patience: impl Future<Output = ()>) {
        tokio::select! {
            () = self.graceful.shutdown() => {}
            () = patience => {}
        }
    }

    /// Cuts all connections off, and returns when they are closed.
    pub async fn cut(mut self) {
        self.tasks.shutdown().await;
    }

    fn spawn(&mut self, conversation: impl Future<Output = ()> + Send + 'static) {
        // Those that have ended since the last one came, or they would pile up.
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(conversation);
    }
}

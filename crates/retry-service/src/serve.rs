//! Accepts connections and serves HTTP/1.1 and HTTP/2 (prior knowledge) on them.
//!
//! Stopping has two steps, because requests in flight deserve their answers: [`serve`] stops
//! accepting and hands back the [`Connections`] still open; [`Connections::drain`] lets them
//! finish, for as long as the caller has patience.

use std::convert::Infallible;
use std::error::Error;
use std::fmt::Display;
use std::io;
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How long to leave a listener alone that cannot accept, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `service` on `listener` until `stop` completes; the listener is closed then.
pub async fn serve<S, B>(listener: TcpListener, service: S, stop: impl Future<Output = ()>) -> Connections
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let protocols = protocols();
    let mut connections = Connections::default();
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            stream = accept(&listener) => {
                let connection = protocols.serve_connection(TokioIo::new(stream), service.clone());
                connections.spawn(connection.into_owned());
            }
            () = &mut stop => return connections,
        }
    }
}

fn protocols() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // With a timer, a peer has only so long for its request head.
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    builder
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

    fn spawn<C>(&mut self, connection: C)
    where
        C: GracefulConnection<Error: Display> + Send + 'static,
        C::Error: Send,
    {
        // Those that have ended since the last one came, or they would pile up.
        while self.tasks.try_join_next().is_some() {}
        let connection = self.graceful.watch(connection);
        self.tasks.spawn(async {
            if let Err(error) = connection.await {
                log::debug!("Connection ended early: {error}");
            }
        });
    }
}

//! Serves the backend on a listener, over HTTP/1.1 and HTTP/2, with or without TLS.

mod accept;
pub(crate) mod drain;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::common::listen::{BACKLOG, bind};
use crate::fault::connection_faults::{FaultyIo, Socket};
use crate::fault::connection_state::ConnectionState;
use crate::handler::Handler;
use crate::recorder::recorded_request::RecordedRequest;
use crate::script::Script;
use crate::server::accept::accept;
use crate::server::drain::Connections;
#[cfg(feature = "tls")]
use crate::server::tls::Identity;

/// The delay before the next attempt to listen on a port that is in use.
const LISTEN_PAUSE: Duration = Duration::from_millis(100);

/// A backend that can be served on a listener.
///
/// Tests are easier to write with a [`Backend`](crate::Backend), which runs a server in the background.
#[derive(Debug)]
pub struct Server {
    handler: Arc<Handler>,
    connections: AtomicU64,
    #[cfg(feature = "tls")]
    pub(crate) identity: Option<Identity>,
}

impl Server {
    /// Returns a server that plays `script` from its start.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self {
            handler: Arc::new(Handler::new(script)),
            connections: AtomicU64::new(0),
            #[cfg(feature = "tls")]
            identity: None,
        }
    }

    /// Serves HTTPS only, with the certificate of `identity`.
    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Returns the scheme of the server's URLs.
    pub(crate) fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.identity.is_some() {
            return "https";
        }
        "http"
    }

    /// Returns the number of requests that the script has been applied to.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.handler.recorder.received()
    }

    /// Returns the latest 50,000 requests that the script has been applied to, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.handler.recorder.report().requests.into()
    }

    /// Serves on `listener` until `stop` completes. Returns the connections that are still open.
    ///
    /// When the script takes the backend down, the listener and all connections are closed. After the outage, the
    /// server listens on the same address again.
    ///
    /// # Errors
    ///
    /// If the listener has no local address.
    pub async fn run(
        self: Arc<Self>,
        mut listener: TcpListener,
        stop: impl Future<Output = ()>,
    ) -> io::Result<Connections> {
        let address = listener.local_addr()?;
        let mut stop = std::pin::pin!(stop);
        loop {
            // The first outage closes all connections, so that no second one can start at the same time.
            let (outage_sender, mut outages) = mpsc::channel(1);
            let mut connections = Connections::default();
            let outage = loop {
                tokio::select! {
                    stream = accept(&listener) => {
                        let number = 1 + self.connections.fetch_add(1, Ordering::Relaxed);
                        let connection = Arc::new(ConnectionState::new(number, outage_sender.clone()));
                        connections.add(|watcher| Arc::clone(&self).serve_connection(stream, watcher, connection));
                    }
                    Some(length) = outages.recv() => break length,
                    () = &mut stop => return Ok(connections),
                }
            };
            drop(listener);
            connections.abort().await;
            listener = tokio::select! {
                listener = listen_after_outage(address, outage) => listener,
                () = &mut stop => return Ok(Connections::default()),
            };
        }
    }

    /// Serves one connection until it ends.
    async fn serve_connection(self: Arc<Self>, stream: TcpStream, watcher: Watcher, connection: Arc<ConnectionState>) {
        #[cfg(feature = "tls")]
        if let Some(identity) = &self.identity {
            match identity.accept(stream).await {
                Ok(stream) => return self.serve_http(stream, watcher, connection).await,
                Err(error) => return log::debug!("TLS handshake failed: {error}"),
            }
        }
        self.serve_http(stream, watcher, connection).await;
    }

    async fn serve_http<S>(&self, socket: S, watcher: Watcher, connection: Arc<ConnectionState>)
    where
        S: Socket + Send + 'static,
    {
        let io = TokioIo::new(FaultyIo::new(socket, connection.fault.clone()));
        let mut protocols = auto::Builder::new(TokioExecutor::new());
        // hyper limits the time for a request head only if it has a timer.
        protocols.http1().timer(TokioTimer::new());
        protocols.http2().timer(TokioTimer::new());
        let service = service_fn(|request| self.handler.handle(&connection, request));
        if let Err(error) = watcher.watch(protocols.serve_connection(io, service)).await {
            log::debug!("Connection closed: {error}");
        }
    }
}

/// Refuses connections to `address` until the end of the outage, then listens on it again.
///
/// During the outage the port stays bound, so that no other process can use it.
async fn listen_after_outage(address: SocketAddr, length: Duration) -> TcpListener {
    log::info!("Down for {length:?}");
    let mut socket = bind(address);
    tokio::time::sleep(length).await;
    loop {
        match socket.and_then(|socket| socket.listen(BACKLOG)) {
            Ok(listener) => {
                log::info!("Up again");
                return listener;
            }
            Err(error) => log::warn!("Cannot listen on {address} again: {error}"),
        }
        tokio::time::sleep(LISTEN_PAUSE).await;
        socket = bind(address);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_outage_does_not_overflow() {
        let outage = listen_after_outage(([127, 0, 0, 1], 0).into(), Duration::MAX);
        assert!(timeout(Duration::from_secs(3600), outage).await.is_err());
    }
}

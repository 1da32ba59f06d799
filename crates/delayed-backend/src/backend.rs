//! A backend that runs in the process of a test.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::recorder::recorded_request::RecordedRequest;
use crate::script::Script;
use crate::server::Server;

/// A running backend. Dropping it closes its listener and its connections.
///
/// ```
/// use delayed_backend::Backend;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let backend = Backend::start("close,status=503,ok".parse()?).await?;
/// let url = format!("{}/hello", backend.url());
/// // Send requests to `url` with the client under test, then check what arrived:
/// assert_eq!(backend.requests().len(), 0);
/// # let _ = url;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    server: Arc<Server>,
    task: JoinHandle<()>,
}

impl Backend {
    /// Starts a backend on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::start_on(local_listener().await?, script)
    }

    /// Starts a backend that serves HTTPS. Clients must trust its [CA](Self::ca_pem).
    ///
    /// # Errors
    ///
    /// If there is no free port, or no certificate can be generated.
    #[cfg(feature = "tls")]
    pub async fn start_tls(script: Script) -> io::Result<Self> {
        let identity = crate::server::tls::Identity::new("127.0.0.1").map_err(io::Error::other)?;
        Self::start_server(local_listener().await?, Server::new(script).with_tls(identity))
    }

    /// Starts a backend on this listener, for example on the port of an earlier backend.
    ///
    /// # Errors
    ///
    /// If the listener has no local address.
    ///
    /// # Panics
    ///
    /// If called outside of a tokio runtime.
    pub fn start_on(listener: TcpListener, script: Script) -> io::Result<Self> {
        Self::start_server(listener, Server::new(script))
    }

    fn start_server(listener: TcpListener, server: Server) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let server = Arc::new(server);
        let running = Arc::clone(&server).run(listener, std::future::pending());
        let task = tokio::spawn(async { drop(running.await) });
        Ok(Self { address, server, task })
    }

    /// Returns the address that the backend listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the base URL, without a path or a trailing slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.server.scheme(), self.address)
    }

    /// Returns the CA certificate as PEM, or `None` without TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.server.identity.as_ref().map(crate::server::tls::Identity::ca_pem)
    }

    /// Returns the number of requests that the script has been applied to.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.server.received()
    }

    /// Returns the latest 50,000 requests that the script has been applied to, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.requests()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn local_listener() -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

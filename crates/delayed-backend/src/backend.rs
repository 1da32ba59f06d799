//! A backend for tests: in-process, on a port of its own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::handler::App;
use crate::recorder::Record;
use crate::script::Script;
use crate::server::run;

/// A running backend, which is gone when this is dropped, its connections too.
///
/// ```
/// use delayed_backend::Backend;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let backend = Backend::start("close,status=503,ok".parse()?).await?;
/// let url = format!("{}/hello", backend.url());
/// // … call `url` with the client under test, then see what reached the backend:
/// # let _ = url;
/// assert_eq!(backend.requests().len(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    app: Arc<App>,
    server: JoinHandle<()>,
}

impl Backend {
    /// Starts a backend on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::start_app(App::new(script)).await
    }

    /// Starts a backend that serves https; its [authority](Self::authority_pem) is to be trusted.
    ///
    /// # Errors
    ///
    /// When there is no free port, or no certificate can be made.
    #[cfg(feature = "tls")]
    pub async fn start_tls(script: Script) -> io::Result<Self> {
        let identity = crate::server::tls::Identity::new("127.0.0.1").map_err(io::Error::other)?;
        Self::start_app(App::new(script).with_tls(identity)).await
    }

    async fn start_app(app: App) -> io::Result<Self> {
        Self::start_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?, app)
    }

    /// Starts a backend on a listener of one's own, as for another start at the same address.
    ///
    /// # Errors
    ///
    /// When the listener does not know its own address.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start_on(listener: TcpListener, app: App) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let app = Arc::new(app);
        let running = run(listener, Arc::clone(&app), std::future::pending());
        let server = tokio::spawn(async { drop(running.await) });
        Ok(Self { address, app, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, without a path or a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.app.scheme(), self.address)
    }

    /// The certificate of the authority that vouches for it, as PEM; nothing without TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn authority_pem(&self) -> Option<&str> {
        self.app.identity.as_ref().map(crate::server::tls::Identity::authority_pem)
    }

    /// How many requests have met the script so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.app.received()
    }

    /// The requests that have met the script so far, in order; of very many, the latest.
    #[must_use]
    pub fn requests(&self) -> Vec<Record> {
        self.app.requests()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.server.abort();
    }
}

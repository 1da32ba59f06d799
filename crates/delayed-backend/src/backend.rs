//! A backend that runs in the process of a test.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::control;
use crate::proxy::upstream::Upstream;
use crate::recorder::recorded_request::RecordedRequest;
use crate::script::Script;
use crate::server::Server;
use crate::stubs::Stubs;
use crate::stubs::error::StubScriptError;
use crate::wait_error::WaitError;

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
    control: Option<SocketAddr>,
    server: Arc<Server>,
    task: JoinHandle<()>,
}

/// Starts a [`Backend`] with more than a script. Created by [`Backend::builder`].
#[derive(Debug)]
pub struct BackendBuilder {
    server: Server,
    #[cfg(feature = "tls")]
    tls: bool,
    control: bool,
}

impl Backend {
    /// Returns a builder of a backend that responds immediately, without stubs, TLS and a control server.
    ///
    /// ```
    /// use delayed_backend::Backend;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let stubs = r#"
    ///     [[stub]]
    ///     path = "/items/{id}"
    ///     response = { json = { id = "{id}" } }
    /// "#;
    /// let backend = Backend::builder().script("status=503,ok".parse()?).stubs(stubs.parse()?).start().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn builder() -> BackendBuilder {
        BackendBuilder {
            server: Server::new(Script::ok()),
            #[cfg(feature = "tls")]
            tls: false,
            control: false,
        }
    }

    /// Starts a backend on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub async fn start(script: Script) -> io::Result<Self> {
        Self::builder().script(script).start().await
    }

    /// Starts a backend that serves HTTPS. Clients must trust its [CA](Self::ca_pem).
    ///
    /// # Errors
    ///
    /// If there is no free port, or no certificate can be generated.
    #[cfg(feature = "tls")]
    pub async fn start_tls(script: Script) -> io::Result<Self> {
        Self::builder().script(script).tls().start().await
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
        Self::start_server(listener, None, Server::new(script))
    }

    fn start_server(listener: TcpListener, control: Option<TcpListener>, server: Server) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let control_address = control.as_ref().map(TcpListener::local_addr).transpose()?;
        let server = Arc::new(server);
        let task = tokio::spawn(serve(listener, control, Arc::clone(&server)));
        Ok(Self { address, control: control_address, server, task })
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

    /// Returns the base URL of the control server, or `None` without [one](BackendBuilder::control).
    #[must_use]
    pub fn control_url(&self) -> Option<String> {
        self.control.map(|address| format!("http://{address}"))
    }

    /// Returns the CA certificate as PEM, or `None` without TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.server.identity.as_ref().map(crate::server::tls::Identity::ca_pem)
    }

    /// Returns the number of requests that have arrived, except those of `/requests`.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.server.received()
    }

    /// Returns the latest requests, in order: at most 50,000, and 128 MiB.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.server.requests()
    }

    /// Waits until at least `count` requests have arrived since the start or the last reset, and returns the
    /// [recorded](Self::requests) ones.
    ///
    /// Their bodies and responses may still be missing, as they are recorded later.
    ///
    /// # Errors
    ///
    /// If there are fewer after `limit`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use delayed_backend::Backend;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backend = Backend::start("ok".parse()?).await?;
    /// let error = backend.wait_for(1, Duration::from_millis(10)).await.unwrap_err();
    /// assert_eq!(error.to_string(), "0 of 1 requests arrived within 10ms");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<RecordedRequest>, WaitError> {
        self.server.wait_for(count, limit).await.map(|()| self.requests())
    }

    /// Plays another script from its start, for the requests that match no stub.
    ///
    /// A request meets either the script before or this one: the one that was current when it arrived.
    ///
    /// ```
    /// # use delayed_backend::Backend;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backend = Backend::start("status=503".parse()?).await?;
    /// // The client under test sees that the backend fails, and then that it has recovered:
    /// backend.set_script("ok".parse()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_script(&self, script: Script) {
        self.server.set_script(script);
    }

    /// Plays another script for the requests of the stubs with this name, from its start.
    ///
    /// # Errors
    ///
    /// If there is no such stub, or the script has faults of the TLS handshake.
    ///
    /// ```
    /// # use delayed_backend::Backend;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let stubs = "[[stub]]\nname = 'item'\npath = '/items/{id}'";
    /// let backend = Backend::builder().stubs(stubs.parse()?).start().await?;
    /// backend.set_stub_script("item", "status=503,ok".parse()?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_stub_script(&self, name: &str, script: Script) -> Result<(), StubScriptError> {
        self.server.set_stub_script(name, script)
    }

    /// Replaces the stubs, and if they come with a script, the script. Their scripts are played from their start.
    pub fn set_stubs(&self, stubs: Stubs) {
        self.server.set_stubs(stubs);
    }

    /// Selects the behaviors of all scripts at random with this seed, or in order if `None`. They start anew.
    pub fn set_seed(&self, seed: Option<u64>) {
        self.server.set_seed(seed);
    }

    /// Starts all scripts anew and removes all recorded requests. The next request is number 1.
    pub fn reset(&self) {
        self.server.reset();
    }

    /// Removes all recorded requests. The next request is number 1.
    pub fn clear_requests(&self) {
        self.server.clear_requests();
    }

    /// Closes all connections, and refuses new ones for this long. Zero ends an outage, also a blackhole, whose connections
    /// stay open.
    pub fn down(&self, length: Duration) {
        self.server.down(length);
    }
}

impl BackendBuilder {
    /// Plays this script for the requests that match no stub. By default, they are responded to immediately.
    #[must_use]
    pub fn script(self, script: Script) -> Self {
        self.server.set_script(script);
        self
    }

    /// Adds stubs, and if they come with a script, plays it instead of the one before.
    #[must_use]
    pub fn stubs(self, stubs: Stubs) -> Self {
        self.server.set_stubs(stubs);
        self
    }

    /// Passes all requests that match no stub to this server, and its responses back, with the faults of the script.
    ///
    /// See [Proxy](crate#proxy).
    ///
    /// ```
    /// use delayed_backend::Backend;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let upstream = Backend::start("ok".parse()?).await?;
    /// let proxy = Backend::builder().upstream(upstream.url().parse()?).script("reset,ok".parse()?).start().await?;
    /// // The first request to `proxy.url()` is reset, the second reaches the upstream.
    /// # let _ = proxy;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn upstream(self, upstream: Upstream) -> Self {
        self.server.set_upstream(upstream);
        self
    }

    /// Serves HTTPS. Clients must trust the [CA](Backend::ca_pem).
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(self) -> Self {
        Self { tls: true, ..self }
    }

    /// Serves the control API on another free port, for clients in other processes.
    #[must_use]
    pub fn control(self) -> Self {
        Self { control: true, ..self }
    }

    /// Starts the backend on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// If there is no free port, or no certificate can be generated.
    pub async fn start(self) -> io::Result<Backend> {
        let control = if self.control { Some(local_listener().await?) } else { None };
        let server = self.server;
        #[cfg(feature = "tls")]
        let server = if self.tls { server.with_local_identity()? } else { server };
        Backend::start_server(local_listener().await?, control, server)
    }
}

async fn serve(listener: TcpListener, control: Option<TcpListener>, server: Arc<Server>) {
    let running = Arc::clone(&server).run(listener, std::future::pending());
    match control {
        None => drop(running.await),
        Some(control) => tokio::select! {
            result = running => drop(result),
            never = control::run(control, server) => match never {},
        },
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

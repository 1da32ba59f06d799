//! Serves the backend on a listener, over HTTP/1.1 and HTTP/2, with or without TLS.

pub(crate) mod accept;
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
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

use crate::common::listen::{BACKLOG, bind};
use crate::fault::connection_faults::{FaultyIo, Socket};
use crate::fault::connection_state::ConnectionState;
use crate::fault::outage::{Outage, OutageStarter, Outages};
use crate::handler::Handler;
use crate::proxy::upstream::Upstream;
use crate::recorder::events::Event;
use crate::recorder::recorded_request::RecordedRequest;
use crate::script::Script;
use crate::server::accept::accept;
use crate::server::drain::Connections;
#[cfg(feature = "tls")]
use crate::server::tls::Identity;
use crate::state::State;
use crate::stubs::Stubs;
use crate::stubs::error::StubScriptError;
use crate::wait_error::WaitError;

/// The delay before the next attempt to listen on a port that is in use.
const LISTEN_PAUSE: Duration = Duration::from_millis(100);

/// A backend that can be served on a listener.
///
/// Tests are easier to write with a [`Backend`](crate::Backend), which runs a server in the background.
#[derive(Debug)]
pub struct Server {
    handler: Arc<Handler>,
    connections: AtomicU64,
    outages: OutageStarter,
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
            outages: OutageStarter::default(),
            #[cfg(feature = "tls")]
            identity: None,
        }
    }

    /// Adds stubs, and if they come with a script, plays it instead.
    #[must_use]
    pub fn with_stubs(self, stubs: Stubs) -> Self {
        self.set_stubs(stubs);
        self
    }

    /// Logs requests in the words of the sample, until there is another script, stubs or an upstream.
    #[must_use]
    pub(crate) fn with_log_of_sample(self) -> Self {
        self.handler.state.log_as_sample();
        self
    }

    /// Passes all requests that match no stub to this server, and its responses back, with the faults of the script.
    #[must_use]
    pub fn with_upstream(self, upstream: Upstream) -> Self {
        self.set_upstream(upstream);
        self
    }

    /// Serves HTTPS only, with a certificate for the local machine.
    #[cfg(feature = "tls")]
    pub(crate) fn with_local_identity(self) -> io::Result<Self> {
        Ok(self.with_tls(Identity::new("127.0.0.1").map_err(io::Error::other)?))
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

    /// Returns an error if the script has faults of a handshake that this server does not perform.
    pub(crate) fn check_script(&self, script: &Script) -> Result<(), &'static str> {
        if script.has_tls_faults() && self.scheme() == "http" {
            return Err("the script has faults of the TLS handshake, which need --tls");
        }
        Ok(())
    }

    /// Returns the number of requests that have arrived, except those of `/requests`.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.state().recorder.received()
    }

    /// Returns the latest requests, in order: at most 50,000, and 128 MiB.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        let requests = self.state().recorder.report().requests;
        requests.into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// Plays another script from its start.
    ///
    /// A request meets either the script before or this one: the one that was current when it arrived.
    pub fn set_script(&self, script: Script) {
        self.handler.state.set_script(script);
    }

    /// Replaces the stubs, and if they come with a script, the script. Their scripts are played from their start.
    pub fn set_stubs(&self, stubs: Stubs) {
        self.handler.state.set_stubs(stubs);
    }

    /// Plays another script for the requests of the stubs with this name, from its start.
    ///
    /// # Errors
    ///
    /// If there is no such stub, or the script has faults of the TLS handshake.
    pub fn set_stub_script(&self, name: &str, script: Script) -> Result<(), StubScriptError> {
        self.handler.state.set_stub_script(name, script)
    }

    pub(crate) fn set_upstream(&self, upstream: Upstream) {
        self.handler.state.set_upstream(upstream);
    }

    /// Selects the behaviors of all scripts at random with this seed, or in order if `None`. They start anew.
    pub fn set_seed(&self, seed: Option<u64>) {
        self.handler.state.set_seed(seed);
    }

    /// Starts all scripts anew and removes all recorded requests. The next request is number 1.
    pub fn reset(&self) {
        self.handler.state.reset();
    }

    /// Removes all recorded requests. The next request is number 1.
    pub fn clear_requests(&self) {
        self.handler.state.clear_requests();
    }

    /// Closes all connections, and refuses new ones for this long. Zero ends an outage, also a blackhole, whose connections
    /// stay open.
    pub fn down(&self, length: Duration) {
        match length {
            Duration::ZERO => self.outages.end(),
            length => self.outages.start(Outage::Down, length),
        }
    }

    /// Returns how many subscribers there are.
    pub(crate) fn subscribers(&self) -> usize {
        self.handler.state.events.subscribers()
    }

    /// Subscribes to what happens from now on.
    pub(crate) fn events(&self) -> broadcast::Receiver<Event> {
        self.handler.state.events.subscribe()
    }

    /// Waits until at least `count` requests have arrived.
    pub(crate) async fn wait_for(&self, count: usize, limit: Duration) -> Result<(), WaitError> {
        let arrived = tokio::time::timeout(limit, self.arrived(count)).await;
        arrived.map_err(|_| WaitError::new(count, self.requests(), limit))
    }

    async fn arrived(&self, count: usize) {
        loop {
            let mut arrival = std::pin::pin!(self.handler.state.events.next_arrival());
            // From now on, no arrival is missed.
            arrival.as_mut().enable();
            if self.received() >= count as u64 {
                return;
            }
            arrival.await;
        }
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.handler.state.current()
    }

    /// Serves on `listener` until `stop` completes. Returns the connections that are still open.
    ///
    /// When the backend is taken down, the listener and all connections are closed. After the outage, the server listens on
    /// the same address again. An outage without a length closes only the connections.
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
        // An outage can start before the server runs.
        let mut outages = self.outages.subscribe_with_current();
        let mut filler = None;
        loop {
            let mut connections = Connections::default();
            loop {
                tokio::select! {
                    (stream, client) = accept(&listener) => {
                        if filler == Some(client) {
                            filler = None;
                            continue;
                        }
                        let number = 1 + self.connections.fetch_add(1, Ordering::Relaxed);
                        let connection = Arc::new(ConnectionState::new(number, self.outages.clone()));
                        connections.add(|watcher| Arc::clone(&self).serve_connection(stream, watcher, connection));
                    }
                    outage = outages.next() => match outage {
                        Outage::Down => break,
                        Outage::Blackhole if outages.is_over() => {}
                        Outage::Blackhole => tokio::select! {
                            own = accept_none(&listener, &mut outages) => filler = own.or(filler),
                            () = &mut stop => return Ok(connections),
                        },
                    },
                    () = &mut stop => return Ok(connections),
                }
            }
            if outages.is_over() {
                connections.abort().await;
                continue;
            }
            drop(listener);
            connections.abort().await;
            listener = tokio::select! {
                listener = listen_after_outage(address, &mut outages) => listener,
                () = &mut stop => return Ok(Connections::default()),
            };
        }
    }

    /// Serves one connection until it ends.
    async fn serve_connection(self: Arc<Self>, stream: TcpStream, watcher: Watcher, connection: Arc<ConnectionState>) {
        #[cfg(feature = "tls")]
        if let Some(identity) = &self.identity {
            let fault = self.state().script.next_tls_fault();
            if let Some(fault) = fault {
                log::info!("Connection {}: tls={}", connection.number, fault.name());
            }
            match identity.accept(stream, fault).await {
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
        let io = TokioIo::new(FaultyIo::new(socket, connection.fault.clone(), connection.outages()));
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
async fn listen_after_outage(address: SocketAddr, outages: &mut Outages) -> TcpListener {
    let mut socket = bind(address);
    outages.end(Outage::Down).await;
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

/// Accepts no connection until the end of the blackhole.
///
/// The kernel completes handshakes on its own until the backlog is full, so it is reduced to one connection, and filled.
/// Returns the address of the client that filled it, whose connection is not to be served.
async fn accept_none(listener: &TcpListener, outages: &mut Outages) -> Option<SocketAddr> {
    let set_backlog = |backlog: u32| {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        if let Err(error) = SockRef::from(listener).listen(backlog) {
            log::warn!("Cannot change the backlog: {error}");
        }
    };
    set_backlog(0);
    // Fails if other connections have filled the backlog.
    let connect = async { TcpStream::connect(listener.local_addr()?).await };
    let filler = tokio::time::timeout(LISTEN_PAUSE, connect).await.ok().and_then(Result::ok);
    outages.end(Outage::Blackhole).await;
    set_backlog(BACKLOG);
    log::info!("Up again");
    filler.and_then(|filler| filler.local_addr().ok())
}

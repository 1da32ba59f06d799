//! Making connections.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper::rt::{Read, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection as _, HttpConnector},
    rt::TokioIo,
};
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service;

use crate::{
    connection::{
        proxy::Proxy,
        stall_timeout::Activity,
        tls::Loaded,
        tracked_io::{Place, Watched},
    },
    error_chain::BoxError,
};

pub(crate) type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// What a connection runs on, TLS or none: what TLS takes is a thousand bytes, which most would hold in vain.
pub(crate) type Stream = Box<dyn Io>;

pub(crate) trait Io: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Io for T {}

/// Connects to one server within a limit that covers all of it: name lookup, every address tried, the proxy's tunnel
/// and the TLS handshake.
pub(crate) struct Connector {
    server: Uri,
    tcp: HttpConnector,
    proxy: Option<Proxy>,
    tls: Loaded,
    limit: Duration,
}

impl Connector {
    pub(crate) fn new(server: Uri, limit: Duration, proxy: Option<Proxy>, tls: Loaded) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Each address gets its share, so that one that swallows packets does not use up the others' time.
        tcp.set_connect_timeout(Some(limit));
        Self { server, tcp, proxy, tls, limit }
    }

    /// Makes a connection that notes its progress. It takes up a place among those that there may be until it is
    /// closed.
    pub(crate) fn connect(&self, place: Arc<Place>, activity: Activity) -> Connecting<(Stream, Connected)> {
        let secured = self.server.scheme() == Some(&Scheme::HTTPS);
        let dial = Dial { tcp: self.tcp.clone(), proxy: self.proxy.clone(), place, activity, secured };
        let (server, mut secure) = (self.server.clone(), self.tls.clone().over(dial));
        let connecting = async move {
            poll_fn(|cx| secure.poll_ready(cx)).await?;
            let stream = secure.call(server).await?;
            let connected = stream.connected();
            Ok((Box::new(stream) as Stream, connected))
        };
        within(self.limit, connecting)
    }
}

/// What an attempt to get a connection comes to, in time.
pub(crate) fn within<T: Send>(
    limit: Duration,
    connecting: impl Future<Output = Result<T, BoxError>> + Send + 'static,
) -> Connecting<T> {
    // On the heap by itself: an `async` block that wraps it would hold it twice.
    let connecting = Box::pin(connecting);
    Box::pin(async move { timeout(limit, connecting).await.map_err(|_| TimedOut(limit))? })
}

#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
struct TimedOut(Duration);

/// A connection without TLS.
pub(crate) type Plain = Watched<TokioIo<TcpStream>>;

/// Connects over TCP, to the proxy where there is one. Where a name has IPv6 and IPv4 addresses, both are
/// tried (RFC 8305, happy eyeballs).
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    tcp: HttpConnector,
    proxy: Option<Proxy>,
    place: Arc<Place>,
    activity: Activity,
    secured: bool,
}

impl Service<Uri> for Dial {
    type Response = Plain;
    type Error = BoxError;
    type Future = Connecting<Plain>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { proxy, place, activity, secured, .. } = self.clone();
        let connecting = self.tcp.call(proxy.as_ref().map_or(uri, |proxy| proxy.uri().clone()));
        Box::pin(async move {
            let connection = Watched::new(connecting.await?, activity, place).secured(secured);
            match proxy {
                Some(proxy) => proxy.enter(connection).await,
                None => Ok(connection),
            }
        })
    }
}

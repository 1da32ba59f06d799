//! Opening connections: TCP, proxy and TLS.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Uri, uri::Scheme};
use hyper_util::client::legacy::connect::{Connected, Connection as _, HttpConnector};
use tower_service::Service;

use crate::{
    activity::Activity,
    connection::{
        acquire_timeout::{Connecting, connect_timeout},
        box_io::BoxIo,
        proxy::Proxy,
        resolver::Resolver,
        tls::{self, TlsConfig},
        tracked_io::{ConnectionPermit, TrackedIo},
    },
    error_chain::BoxError,
};

/// Connects to one server. The timeout covers name lookup, all addresses, the proxy's tunnel and the TLS handshake.
pub(crate) struct Connector {
    server: Uri,
    tcp: HttpConnector<Resolver>,
    proxy: Option<Proxy>,
    tls: TlsConfig,
    timeout: Duration,
}

impl Connector {
    pub(crate) fn new(
        server: Uri,
        timeout: Duration,
        proxy: Option<Proxy>,
        tls: TlsConfig,
        resolver: Resolver,
    ) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the addresses, so that an unreachable one leaves time for the others.
        tcp.set_connect_timeout(Some(timeout));
        Self { server, tcp, proxy, tls, timeout }
    }

    /// Opens a connection that records its progress in `activity` and holds the permit until it is closed.
    pub(crate) fn connect(&self, permit: Arc<ConnectionPermit>, activity: Activity) -> Connecting<(BoxIo, Connected)> {
        let is_tls = self.server.scheme() == Some(&Scheme::HTTPS);
        let tcp = TcpConnector { tcp: self.tcp.clone(), proxy: self.proxy.clone(), permit, activity, is_tls };
        let (server, mut connector) = (self.server.clone(), self.tls.clone().wrap(tcp));
        let connecting = async move {
            poll_fn(|cx| connector.poll_ready(cx)).await?;
            let stream = connector.call(server).await?;
            let connected = stream.connected();
            Ok((tls::boxed(stream), connected))
        };
        connect_timeout(self.timeout, connecting)
    }
}

/// Connects over TCP, to the proxy if there is one. IPv6 and IPv4 addresses of a name are tried in parallel (RFC 8305,
/// happy eyeballs).
#[derive(Clone, Debug)]
pub(crate) struct TcpConnector {
    tcp: HttpConnector<Resolver>,
    proxy: Option<Proxy>,
    permit: Arc<ConnectionPermit>,
    activity: Activity,
    is_tls: bool,
}

impl Service<Uri> for TcpConnector {
    type Response = TrackedIo;
    type Error = BoxError;
    type Future = Connecting<TrackedIo>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { proxy, permit, activity, is_tls, .. } = self.clone();
        let connecting = self.tcp.call(proxy.as_ref().map_or(uri, |proxy| proxy.uri().clone()));
        Box::pin(async move {
            let connection = TrackedIo::new(connecting.await?, activity, permit, is_tls);
            match proxy {
                Some(proxy) => proxy.connect(connection).await,
                None => Ok(connection),
            }
        })
    }
}

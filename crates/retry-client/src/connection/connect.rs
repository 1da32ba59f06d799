//! Opening connections: TCP, proxy and TLS.

use std::{future::poll_fn, sync::Arc, time::Duration};

use http::{Uri, uri::Scheme};
use hyper_util::client::legacy::connect::{Connected, HttpConnector};
use tower_service::Service;

use crate::{
    activity::Activity,
    connection::{
        acquire_timeout::{Connecting, connect_timeout},
        box_io::BoxIo,
        proxy::Proxy,
        resolver::Resolver,
        tls::TlsConfig,
        tracked_io::{ConnectionPermit, TrackedIo},
    },
};

/// Connects to one server, through the proxy if there is one. The timeout covers name lookup, all addresses, the proxy's
/// tunnel and the TLS handshake.
#[derive(Clone)]
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

    /// Opens a connection that records its progress in `activity` and holds the permit until it is closed. IPv6 and IPv4
    /// addresses of a name are tried in parallel (RFC 8305, happy eyeballs).
    pub(crate) fn connect(&self, permit: Arc<ConnectionPermit>, activity: Activity) -> Connecting<(BoxIo, Connected)> {
        let Self { server, mut tcp, proxy, tls, timeout } = self.clone();
        let connecting = async move {
            poll_fn(|cx| tcp.poll_ready(cx)).await?;
            let stream = tcp.call(proxy.as_ref().map_or(&server, Proxy::uri).clone()).await?;
            let is_tls = server.scheme() == Some(&Scheme::HTTPS);
            let mut connection = TrackedIo::new(stream, activity, permit, is_tls);
            if let Some(proxy) = proxy {
                // Boxed, as few connections need it.
                connection = Box::pin(proxy.connect(connection)).await?;
            }
            tls.handshake(connection, &server).await
        };
        connect_timeout(timeout, connecting)
    }
}

//! What the endpoints of one URL have in common: one endpoint, or one for each address of its name.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use http::Uri;

use crate::{
    base_url::BaseUrl,
    connection::{
        connect::Connector,
        pool::{Pool, PoolConfig},
        proxy::Proxy,
        resolver::Resolver,
        tls::TlsConfig,
    },
    endpoint::server::Endpoint,
};

/// A URL that endpoints are created for.
pub(crate) struct Origin {
    pub(crate) base_url: BaseUrl,
    pub(crate) uri: Uri,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) tls: TlsConfig,
    pub(crate) pool: PoolConfig,
    pub(crate) resolver: Resolver,
}

/// Gives each endpoint of a client another ID.
#[derive(Debug, Default)]
pub(crate) struct EndpointIds(AtomicU32);

impl Origin {
    /// Creates an endpoint for one address of the name, or for all of them.
    pub(crate) fn endpoint(&self, ids: &EndpointIds, address: Option<IpAddr>) -> Arc<Endpoint> {
        let Self { base_url, uri, proxy, tls, pool, resolver } = self;
        let resolver = address.map_or_else(|| resolver.clone(), Resolver::Fixed);
        let connector = Connector::new(uri.clone(), pool.connect_timeout, proxy.clone(), tls.clone(), resolver);
        let id = ids.0.fetch_add(1, Relaxed);
        Arc::new(Endpoint::new(id, self.name(address).into(), base_url.clone(), address, Pool::new(connector, *pool)))
    }

    /// Returns the server, its address and its proxy, for messages.
    pub(crate) fn name(&self, address: Option<IpAddr>) -> String {
        let server = self.base_url.authority();
        match (&self.proxy, address) {
            (Some(proxy), _) => format!("{server} through proxy {proxy}"),
            (None, Some(address)) => format!("{server} ({address})"),
            (None, None) => server.to_owned(),
        }
    }

    /// Returns the name whose addresses are endpoints. `None` if it has only one endpoint: for an address, behind a proxy,
    /// which resolves names itself, and for `localhost`, of which often only one address is served.
    pub(crate) fn resolved_name(&self) -> Option<&str> {
        let host = self.uri.host()?;
        let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        let is_local = host.eq_ignore_ascii_case("localhost");
        (!is_address && !is_local && self.proxy.is_none()).then_some(host)
    }
}

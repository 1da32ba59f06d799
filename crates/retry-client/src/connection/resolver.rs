//! From names to addresses.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::net::lookup_host;
use tower_service::Service;

type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Where the addresses of a name come from.
#[derive(Clone, Default)]
pub(crate) enum Resolver {
    /// The system: its files and name servers.
    #[default]
    System,
    Function(Arc<dyn Fn(&str) -> Resolving + Send + Sync>),
    /// This one address, whatever the name.
    Fixed(IpAddr),
}

impl Resolver {
    /// Returns the addresses of a name, in the order of preference.
    pub(crate) fn resolve(&self, name: &str) -> Resolving {
        match self {
            Self::Fixed(address) => {
                let addresses = vec![*address];
                Box::pin(async { Ok(addresses) })
            }
            Self::Function(resolve) => resolve(name),
            Self::System => {
                let name = name.to_owned();
                Box::pin(async move { Ok(lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
            }
        }
    }
}

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<vec::IntoIter<SocketAddr>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolving = self.resolve(name.as_str());
        Box::pin(async move {
            // The connector sets the port.
            let addresses = resolving.await?.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(addresses.collect::<Vec<_>>().into_iter())
        })
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("System"),
            Self::Function(_) => f.write_str("Function"),
            Self::Fixed(address) => write!(f, "Fixed({address})"),
        }
    }
}

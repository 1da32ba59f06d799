//! Making connections.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{net::TcpStream, sync::Semaphore, time::timeout};
use tower_service::Service;

use crate::{
    BoxError,
    proxy::Proxy,
    tls::{Loaded, Secure},
    watched::Watched,
};

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Connects within a limit that covers all of it: waiting for a place among the connections that there may be, name
/// lookup, every address tried, the proxy's tunnel and the TLS handshake.
///
/// One word, as hyper-util clones it for every request, connection or not.
#[derive(Clone, Debug)]
pub(crate) struct Connector(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    secure: Secure<Dial>,
    limit: Duration,
    most: usize,
    room: Arc<Semaphore>,
}

impl Connector {
    pub(crate) fn new(limit: Duration, most: usize, proxy: Option<Proxy>, tls: Loaded) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Each address gets its share, so that one that swallows packets does not use up the others' time.
        tcp.set_connect_timeout(Some(limit));
        let room = Arc::new(Semaphore::new(most));
        let dial = Dial { tcp, proxy, room: Arc::clone(&room) };
        Self(Arc::new(Inner { secure: tls.over(dial), limit, most, room }))
    }

    /// How many connections there are, those being made included.
    pub(crate) fn connections(&self) -> usize {
        self.0.most.saturating_sub(self.0.room.available_permits())
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
struct TimedOut(Duration);

impl Service<Uri> for Connector {
    type Response = <Secure<Dial> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    /// Always: what is beneath is asked where it is used.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let limit = self.0.limit;
        let mut secure = self.0.secure.clone();
        let connecting = async move {
            poll_fn(|cx| secure.poll_ready(cx)).await?;
            secure.call(uri).await
        };
        Box::pin(async move { timeout(limit, connecting).await.map_err(|_| TimedOut(limit))? })
    }
}

/// A connection without TLS.
pub(crate) type Plain = Watched<TokioIo<TcpStream>>;

/// Connects over TCP, to the proxy where there is one. Where a name has IPv6 and IPv4 addresses, both are
/// tried (RFC 8305, happy eyeballs).
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    tcp: HttpConnector,
    proxy: Option<Proxy>,
    room: Arc<Semaphore>,
}

impl Service<Uri> for Dial {
    type Response = Plain;
    type Error = BoxError;
    type Future = Connecting<Plain>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (proxy, room) = (self.proxy.clone(), Arc::clone(&self.room));
        let connecting = self.tcp.call(proxy.as_ref().map_or(uri, |proxy| proxy.uri().clone()));
        Box::pin(async move {
            let place = room.acquire_owned().await?;
            let connection = Watched::new(connecting.await?).in_place(place);
            match proxy {
                Some(proxy) => proxy.enter(connection).await,
                None => Ok(connection),
            }
        })
    }
}

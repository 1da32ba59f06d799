//! Making connections, and watching them for progress.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service;

use crate::{BoxError, idle::Activity};

/// Connects over TCP within a limit that covers name lookup and every address tried. Where a name has
/// IPv6 and IPv4 addresses, both are tried (RFC 8305, happy eyeballs).
#[derive(Clone, Debug)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    limit: Duration,
}

impl Connector {
    pub(crate) fn new(limit: Duration) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        // Each address gets its share, so that one that swallows packets does not use up the others' time.
        tcp.set_connect_timeout(Some(limit));
        Self { tcp, limit }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
struct TimedOut(Duration);

impl Service<Uri> for Connector {
    type Response = Watched<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let limit = self.limit;
        let connecting = self.tcp.call(uri);
        Box::pin(async move {
            let io = timeout(limit, connecting).await.map_err(|_| TimedOut(limit))??;
            Ok(Watched { io, activity: Activity::start() })
        })
    }
}

/// A connection that notes when bytes move on it.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    io: T,
    activity: Activity,
}

impl<T: Connection> Connection for Watched<T> {
    fn connected(&self) -> Connected {
        // The client finds it by its type, see `attempt`.
        self.io.connected().extra(self.activity.clone())
    }
}

impl<T: Read + Unpin> Read for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.activity.touch();
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.activity.touch();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.activity.touch();
        Poll::Ready(Ok(written))
    }
}

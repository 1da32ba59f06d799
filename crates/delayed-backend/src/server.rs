//! Puts the backend on a listener: HTTP/1.1 and HTTP/2 on every connection, and outages.

pub(crate) mod accept;
#[cfg(feature = "tls")]
pub(crate) mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::Watcher;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;

use crate::fault::connection::Connection;
use crate::fault::io::{FaultyIo, Socket};
use crate::handler::App;
use crate::server::accept::{Connections, serve};

/// How long to wait before another attempt at a port that someone else has.
const BIND_PAUSE: Duration = Duration::from_millis(100);

/// As many connections as may wait to be accepted; what tokio itself asks for.
const BACKLOG: u32 = 1024;

/// Serves `app` on `listener` until `stop` completes, and hands back the connections still open.
///
/// When the script takes the backend down, the listener and all connections are closed, and the
/// same address is listened on again once the outage is over.
///
/// # Errors
///
/// When the listener does not know its own address.
pub async fn run(listener: TcpListener, app: Arc<App>, stop: impl Future<Output = ()>) -> io::Result<Connections> {
    let address = listener.local_addr()?;
    let mut stop = std::pin::pin!(stop);
    let mut listener = listener;
    loop {
        // As many as one: the first outage ends every connection that could ask for another.
        let (ask, mut asked) = mpsc::channel(1);
        let converse = |stream, watcher| {
            let connection = Arc::new(app.connection(ask.clone()));
            converse(stream, watcher, Arc::clone(&app), connection)
        };
        let (connections, asked_for) = serve(listener, converse, async {
            tokio::select! {
                () = &mut stop => None,
                length = asked.recv() => length,
            }
        })
        .await;
        let Some(length) = asked_for else {
            return Ok(connections);
        };
        connections.cut().await;
        listener = tokio::select! {
            () = &mut stop => return Ok(Connections::default()),
            listener = outage(address, length) => listener,
        };
    }
}

/// Refuses connections to `address` for so long, and listens on it again.
///
/// The port is kept in the meantime: bound, but not listened on.
async fn outage(address: SocketAddr, length: Duration) -> TcpListener {
    log::info!("Down for {length:?}");
    let up_again = tokio::time::Instant::now() + length;
    loop {
        let socket = bound(address);
        tokio::time::sleep_until(up_again).await;
        match socket.and_then(|socket| socket.listen(BACKLOG)) {
            Ok(listener) => {
                log::info!("Up again");
                return listener;
            }
            Err(error) => log::warn!("Cannot listen on {address} again: {error}"),
        }
        tokio::time::sleep(BIND_PAUSE).await;
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Serves one connection to its end.
async fn converse(stream: TcpStream, watcher: Watcher, app: Arc<App>, connection: Arc<Connection>) {
    #[cfg(feature = "tls")]
    if let Some(identity) = &app.identity {
        match identity.accept(stream).await {
            Ok(stream) => return converse_http(stream, watcher, app, connection).await,
            Err(error) => return log::debug!("No TLS handshake: {error}"),
        }
    }
    converse_http(stream, watcher, app, connection).await;
}

async fn converse_http<S>(socket: S, watcher: Watcher, app: Arc<App>, connection: Arc<Connection>)
where
    S: Socket + Send + 'static,
{
    let io = TokioIo::new(FaultyIo::new(socket, connection.wire.clone()));
    let mut protocols = auto::Builder::new(TokioExecutor::new());
    // With a timer, a peer has only so long for its request head.
    protocols.http1().timer(TokioTimer::new());
    protocols.http2().timer(TokioTimer::new());
    let service = service_fn(|request| app.receive(&connection, request));
    if let Err(error) = watcher.watch(protocols.serve_connection(io, service)).await {
        log::debug!("Connection ended early: {error}");
    }
}

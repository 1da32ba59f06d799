//! The control server: changes the backend while it runs, on a port of its own.
//!
//! It is off unless asked for, and has no authentication: anybody who can reach the port can use it.

mod api;
mod endpoints;
mod event_stream;
mod page;
mod reply;

use std::convert::Infallible;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::server::Server;
use crate::server::accept::accept;
use crate::server::drain::Connections;

/// Serves the control API of `server` on this listener, until it is dropped.
pub(crate) async fn run(listener: TcpListener, server: Arc<Server>) -> Infallible {
    let mut connections = Connections::default();
    loop {
        let (stream, _) = accept(&listener).await;
        let server = Arc::clone(&server);
        let is_local = stream.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
        connections.add(|watcher| async move {
            let service = service_fn(|request| api::handle(&server, is_local, request));
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection).await {
                log::debug!("Control connection closed: {error}");
            }
        });
    }
}

//! Accepts connections.

use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// The delay after a failure to accept, for example because the process has run out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts the next connection. Returns it with the address of its client. Failures are logged and retried.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, client)) => {
                // Small responses are sent without delay. If the option cannot be set, they are only slower.
                let _ = stream.set_nodelay(true);
                return (stream, client);
            }
            Err(error) if matches!(error.kind(), ConnectionRefused | ConnectionAborted | ConnectionReset) => {
                log::debug!("Connection lost before it was accepted: {error}");
            }
            Err(error) => {
                log::warn!("Cannot accept connections: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

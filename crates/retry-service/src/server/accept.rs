//! Accepts connections.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

/// How long to wait after an error of the listener, such as running out of file descriptors.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The minimum time between log lines about such errors.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Accepts connections, and retries when that fails.
pub(crate) struct Acceptor {
    listener: TcpListener,
    logged: Option<Instant>,
}

impl Acceptor {
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener, logged: None }
    }

    /// Returns the next connection.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    // Responses are written in large pieces, which need not be joined.
                    let _ = stream.set_nodelay(true);
                    return (stream, address);
                }
                Err(error) if is_connection_error(&error) => {
                    log::debug!("Connection closed before it was accepted: {error}");
                }
                Err(error) => {
                    if self.logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
                        self.logged = Some(Instant::now());
                        let hint = if is_descriptor_limit(&error) { ": raise the limit (ulimit -n)" } else { "" };
                        log::warn!("Cannot accept connections: {error}{hint}");
                    }
                    sleep(RETRY_DELAY).await;
                }
            }
        }
    }

    /// Closes the listener, and returns the connections in its queue. tokio may not have noticed them yet, so they are
    /// accepted without it.
    pub(crate) fn close(self) -> impl Iterator<Item = (TcpStream, SocketAddr)> {
        let listener = self.listener.into_std().ok();
        std::iter::from_fn(move || {
            loop {
                match listener.as_ref()?.accept() {
                    Ok((stream, address)) => {
                        stream.set_nonblocking(true).ok()?;
                        let stream = TcpStream::from_std(stream).ok()?;
                        let _ = stream.set_nodelay(true);
                        return Some((stream, address));
                    }
                    Err(error) if is_connection_error(&error) => {}
                    Err(_) => return None,
                }
            }
        })
    }
}

/// Whether an error concerns a single connection rather than the listener.
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

fn is_descriptor_limit(error: &io::Error) -> bool {
    // EMFILE and ENFILE have no `ErrorKind`.
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

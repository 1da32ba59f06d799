//! The address to listen on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use tokio::net::{TcpListener, TcpSocket, lookup_host};

/// A host name or IP address, and a port; a port alone is on 127.0.0.1. Port 0 takes a free one.
///
/// A name is resolved only when the listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenAddress(String);

/// The text is neither `HOST:PORT` nor a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT or a port, such as 127.0.0.1:8080, [::1]:8080 or 8080")]
pub(crate) struct InvalidListenAddress;

/// The server cannot listen on the address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", if source.kind() == io::ErrorKind::AddrInUse { "; port 0 selects a free one" } else { "" })]
pub(crate) struct BindError {
    address: ListenAddress,
    source: io::Error,
}

impl ListenAddress {
    /// Listens on the first address of the host that can be bound.
    ///
    /// # Errors
    ///
    /// If none can be bound: the port is in use, the host is unknown, or permission is denied.
    pub(crate) async fn bind(&self) -> Result<TcpListener, BindError> {
        self.bind_first().await.map_err(|source| BindError { address: self.clone(), source })
    }

    async fn bind_first(&self) -> io::Result<TcpListener> {
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in lookup_host(&self.0).await? {
            match bind(address).and_then(|socket| socket.listen(BACKLOG)) {
                Ok(listener) => return Ok(listener),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.parse::<u16>().is_ok() {
            Ok(Self(format!("127.0.0.1:{text}")))
        } else if text.parse::<SocketAddr>().is_ok() || is_name_and_port(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidListenAddress)
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How many connections may wait to be accepted; the kernel caps it at `somaxconn`. tokio's default of 1024 is soon
/// exceeded when many clients reconnect at once.
pub(crate) const BACKLOG: u32 = 65_535;

/// Returns a socket that is bound to this address, and does not listen yet.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart does not wait for connections of the previous process in TIME_WAIT.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn is_name_and_port(text: &str) -> bool {
    text.split_once(':').is_some_and(|(name, port)| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !name.is_empty() && name.chars().all(plain) && port.parse::<u16>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_parsed() {
        for text in ["127.0.0.1:8080", "0.0.0.0:0", "[::1]:9090", "localhost:8080", "my-host.lan:1"] {
            assert_eq!(text.parse(), Ok(ListenAddress(text.to_owned())));
        }
        assert_eq!("8080".parse(), Ok(ListenAddress("127.0.0.1:8080".to_owned())));
    }

    #[test]
    fn anything_else_is_rejected() {
        for text in [
            "",
            "65536",
            ":8080",
            "localhost",
            "localhost:",
            "localhost:http",
            "localhost:65536",
            "::1:8080",
            "http://localhost:8080",
            "a b:1",
            "a\n:1",
        ] {
            assert_eq!(text.parse::<ListenAddress>(), Err(InvalidListenAddress), "{text:?}");
        }
    }

    #[tokio::test]
    async fn port_zero_takes_a_free_port() {
        let listener = ListenAddress("localhost:0".into()).bind().await.unwrap();
        assert_ne!(listener.local_addr().unwrap().port(), 0);
    }

    #[tokio::test]
    async fn a_port_in_use_is_reported_in_one_line() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = ListenAddress(address.clone()).bind().await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

//! The address a server is told to listen on.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use tokio::net::TcpListener;

/// A host or IP address, and a port; port 0 takes a free one.
///
/// Names are looked up only when the listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListenAddress(String);

/// The text is no `HOST:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PORT, such as 127.0.0.1:8080, [::1]:8080 or localhost:8080")]
pub(crate) struct InvalidListenAddress;

/// The address is fine, but could not be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub(crate) struct BindError {
    address: ListenAddress,
    source: io::Error,
}

impl ListenAddress {
    /// Binds the first address the host resolves to that can be bound.
    ///
    /// # Errors
    ///
    /// When there is none: the port is taken, the host unknown, the user not allowed.
    pub(crate) async fn bind(&self) -> Result<TcpListener, BindError> {
        TcpListener::bind(&self.0).await.map_err(|source| BindError { address: self.clone(), source })
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.parse::<SocketAddr>().is_ok() || is_name_and_port(text) {
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
    fn hosts_and_ports_are_read() {
        for text in ["127.0.0.1:8080", "0.0.0.0:0", "[::1]:9090", "localhost:8080", "my-host.lan:1"] {
            assert_eq!(text.parse(), Ok(ListenAddress(text.to_owned())));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "8080",
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
    async fn a_port_in_use_is_said_in_one_line() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = ListenAddress(address.clone()).bind().await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

//! The client of an inbound connection.

use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;

use crate::server::connection_state::ConnectionState;

/// The client of an inbound connection: its address, and the state of the connection.
#[derive(Debug)]
pub(crate) struct Downstream {
    /// The IP address of the peer, which may be a proxy. An IPv4-mapped IPv6 address is stored as IPv4.
    pub(crate) ip: IpAddr,
    /// The address as a header value, shared by all requests of the connection.
    pub(super) ip_value: HeaderValue,
    pub(crate) connection: ConnectionState,
}

impl Downstream {
    pub(crate) fn new(address: SocketAddr, connection: ConnectionState) -> Self {
        let ip = address.ip().to_canonical();
        // Digits, letters, dots and colons are always a valid value.
        let ip_value = HeaderValue::try_from(ip.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { ip, ip_value, connection }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_address_in_ipv6_is_in_its_canonical_form() {
        assert_eq!(
            Downstream::new("[::ffff:10.1.2.3]:1".parse().unwrap(), ConnectionState::default()).ip_value,
            "10.1.2.3"
        );
    }
}

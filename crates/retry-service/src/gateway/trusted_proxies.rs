//! The proxies whose forwarding headers are trusted.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// Networks of trusted proxies. Every other peer is a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Whether this is the address of a trusted proxy.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// Returns the client that a chain of proxies forwards for: the last address in `chain` that is not a trusted
    /// proxy, since only addresses added by trusted proxies can be trusted. `chain` is in the order in which the
    /// addresses were added, with `None` for an item that is not an address.
    pub(super) fn client(&self, peer: IpAddr, chain: impl DoubleEndedIterator<Item = Option<IpAddr>>) -> IpAddr {
        let mut client = peer;
        for address in chain.rev() {
            let Some(address) = address.filter(|_| self.contains(client)) else { break };
            client = address;
        }
        client
    }
}

impl FromStr for TrustedProxies {
    type Err = &'static str;

    /// Parses networks such as `10.0.0.0/8,fd00::/8`, separated by commas. An address is a network of one; `off` and
    /// `none` mean that there are none.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if ["", "off", "none"].contains(&text.trim()) {
            return Ok(Self::default());
        }
        let network = |text: &str| text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        let networks: Result<Vec<_>, _> = text.split(',').map(|text| network(text.trim())).collect();
        networks.map(Self).map_err(|_| "expected networks and addresses, such as 10.0.0.0/8,fd00::/8")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_parsed_from_a_list() {
        let check = |text: &str, inside: &[&str], outside: &[&str]| {
            let proxies: TrustedProxies = text.parse().unwrap();
            for ip in inside {
                assert!(proxies.contains(ip.parse().unwrap()), "{ip} in {text}");
            }
            for ip in outside {
                assert!(!proxies.contains(ip.parse().unwrap()), "{ip} in {text}");
            }
        };
        check("", &[], &["127.0.0.1", "::1"]);
        check("none", &[], &["127.0.0.1", "::1"]);
        check("10.0.0.0/8", &["10.1.2.3"], &["11.0.0.1", "::1"]);
        check("10.1.2.3/8", &["10.9.9.9"], &[]);
        check("127.0.0.1, fd00::/8", &["127.0.0.1", "fd12::1"], &["127.0.0.2", "fe80::1"]);
        for nonsense in ["x", "10.0.0.0/33", "10.0.0.0/8,", "10.0.0", "10.0.0.0/8;::1", "localhost"] {
            assert!(nonsense.parse::<TrustedProxies>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        let proxies: TrustedProxies = "10.0.0.0/8".parse().unwrap();
        let check = |peer: &str, chain: &[&str], expected: &str| {
            let chain = chain.iter().map(|address| address.parse().ok());
            assert_eq!(proxies.client(peer.parse().unwrap(), chain), expected.parse::<IpAddr>().unwrap());
        };
        check("1.1.1.1", &["2.2.2.2"], "1.1.1.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["2.2.2.2"], "2.2.2.2");
        check("10.0.0.1", &["3.3.3.3", "2.2.2.2", "10.0.0.2"], "2.2.2.2");
        check("10.0.0.1", &["10.0.0.3", "10.0.0.2"], "10.0.0.3");
        check("10.0.0.1", &["2.2.2.2", "unknown"], "10.0.0.1");
    }
}

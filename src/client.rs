//! The client's address, behind the proxies that the operator trusts.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::error::ConfigError;

/// The proxies whose `X-Forwarded-For` is believed. Empty: the field is ignored.
#[derive(Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads proxies: CIDR blocks (`10.0.0.0/8`, `fd00::/8`) or single addresses.
    ///
    /// # Errors
    /// One line a bad value.
    pub fn parse<S: AsRef<str>>(blocks: &[S]) -> Result<Self, Vec<ConfigError>> {
        let mut nets = Vec::new();
        let mut faults = Vec::new();
        for block in blocks.iter().map(AsRef::as_ref) {
            match block.parse().or_else(|_| block.parse::<IpAddr>().map(IpNet::from)) {
                Ok(net) => nets.push(net),
                Err(_) => faults.push(ConfigError::new(
                    "trusted_proxy",
                    format!("{block:?} is no network; write an address or a CIDR block such as 10.0.0.0/8"),
                )),
            }
        }
        if faults.is_empty() { Ok(Self(nets)) } else { Err(faults) }
    }

    /// Whether nobody is trusted, so that `X-Forwarded-For` need not be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this address is one of the proxies.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The address of the client: `peer`, or, where that is a trusted proxy, the nearest address in `X-Forwarded-For`
    /// (all its field values joined in order) that is not one. What stands further left was written by that client.
    /// An entry that is no address ends the search at the proxy that passed it on.
    #[must_use]
    pub fn client(&self, peer: IpAddr, forwarded_for: &str) -> IpAddr {
        let mut client = peer.to_canonical();
        for entry in forwarded_for.rsplit(',') {
            if !self.contains(client) {
                break;
            }
            match parse_entry(entry.trim()) {
                Some(address) => client = address.to_canonical(),
                None => break,
            }
        }
        client
    }
}

/// An address as proxies write it: bare, in brackets, with a port.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    entry
        .parse()
        .or_else(|_| entry.parse::<SocketAddr>().map(|address| address.ip()))
        .or_else(|_| entry.trim_start_matches('[').trim_end_matches(']').parse::<Ipv6Addr>().map(IpAddr::V6))
        .ok()
}

#[cfg(test)]
#[path = "../tests/units/client.rs"]
mod tests;

//! What counts as one address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that one client can use: an IPv4 address, an IPv6 /64, or all of loopback, which every program on this
/// machine can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(u128);

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self(Ipv4Addr::LOCALHOST.to_ipv6_mapped().to_bits()),
            IpAddr::V4(address) => Self(address.to_ipv6_mapped().to_bits()),
            IpAddr::V6(address) => Self(address.to_bits() >> 64 << 64),
        }
    }
}

impl Network {
    /// As bytes, for other machines.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The network from [`to_bytes`](Self::to_bytes), unless it is one that every machine has.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let network = Self(u128::from_be_bytes(bytes));
        (!is_of_one_machine(network.address()) && Self::from(network.address()) == network).then_some(network)
    }

    /// Its first address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self.0)).to_canonical()
    }
}

/// Whether the address means something else on each machine: loopback, link-local.
#[must_use]
pub fn is_of_one_machine(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local() || address.is_unspecified(),
    }
}

impl std::fmt::Display for Network {
    /// `192.0.2.1`, `2001:db8::/64`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address() {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "{address}/64"),
        }
    }
}

#[cfg(test)]
#[path = "../../tests/units/state_network.rs"]
mod tests;

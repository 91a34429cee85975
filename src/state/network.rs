//! What counts as one address.

use std::net::{IpAddr, Ipv4Addr};

/// What one client is given: an IPv4 address, or an IPv6 /64, all of whose addresses it can use; and all of loopback, whose
/// addresses every program on this machine can use.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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

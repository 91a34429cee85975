//! The client's address, behind the proxies that the operator trusts.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::error::{ConfigError, quoted};

/// The fields in which proxies commonly name the client.
pub const CLIENT_FIELDS: [&str; 4] = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "CF-Connecting-IP"];

/// The one field in which the trusted proxies name the client. A proxy that sets one of these fields passes on the
/// client's own version of the others, so the others are never read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientField {
    name: String,
    /// Whether it is `Forwarded` (RFC 7239). The others hold one address, or several separated by commas.
    forwarded: bool,
}

impl ClientField {
    /// Takes the field's name.
    ///
    /// # Errors
    /// It is not a token (RFC 9110, section 5.1).
    pub fn parse(name: &str) -> Result<Self, ConfigError> {
        let is_token = !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        if !is_token {
            let detail = format!("{} is not a header name; write one such as X-Real-IP", quoted(name));
            return Err(ConfigError::new("client_field", detail));
        }
        Ok(Self { name: name.to_owned(), forwarded: name.eq_ignore_ascii_case("Forwarded") })
    }

    /// Its name, as the operator wrote it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the nearest proxy named an address in a value.
    #[must_use]
    pub fn names_a_client(&self, value: &str) -> bool {
        self.split_last(value).1.is_some()
    }

    /// What is before the last entry of a value, if anything, and the address in that entry, if it is one.
    fn split_last<'t>(&self, value: &'t str) -> (Option<&'t str>, Option<IpAddr>) {
        if self.forwarded {
            let (before, element) = rsplit_outside_quotes(value, b',');
            (before, forwarded_for(element))
        } else {
            let (before, entry) = value.rsplit_once(',').map_or((None, value), |(before, entry)| (Some(before), entry));
            (before, parse_entry(entry.trim()))
        }
    }
}

/// The proxies that are trusted to name the client. If empty, none are.
#[derive(Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads proxies: CIDR blocks (`10.0.0.0/8`, `fd00::/8`) or single addresses.
    ///
    /// # Errors
    /// One line per bad value.
    pub fn parse<S: AsRef<str>>(blocks: &[S]) -> Result<Self, Vec<ConfigError>> {
        let mut nets = Vec::new();
        let mut faults = Vec::new();
        for block in blocks.iter().map(AsRef::as_ref) {
            match block.parse().or_else(|_| block.parse::<IpAddr>().map(IpNet::from)) {
                Ok(net) => nets.push(net),
                Err(_) => faults.push(ConfigError::new(
                    "trusted_proxy",
                    format!("{} is not a network; write an address or a CIDR block such as 10.0.0.0/8", quoted(block)),
                )),
            }
        }
        if faults.is_empty() { Ok(Self(nets)) } else { Err(faults) }
    }

    /// Whether no proxy is trusted, so that the field need not be read.
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

    /// The address of the client: `peer` or, if that is a trusted proxy, the rightmost address in `value` (all values of
    /// the field, joined in order) that is not one. The client itself may have written what is to its left. An entry
    /// without an address ends the search at the proxy that passed it on.
    #[must_use]
    pub fn client(&self, peer: IpAddr, field: &ClientField, value: &str) -> IpAddr {
        self.search(peer, field, value).0
    }

    /// The same; `None` if it would be the address of a proxy that named no client.
    #[must_use]
    pub fn known_client(&self, peer: IpAddr, field: &ClientField, value: &str) -> Option<IpAddr> {
        let (client, is_known) = self.search(peer, field, value);
        is_known.then_some(client)
    }

    fn search(&self, peer: IpAddr, field: &ClientField, value: &str) -> (IpAddr, bool) {
        let mut client = peer.to_canonical();
        let mut left = Some(value);
        while let Some(value) = left.filter(|_| self.contains(client)) {
            let (before, address) = field.split_last(value);
            let Some(address) = address else { return (client, false) };
            client = address.to_canonical();
            left = before;
        }
        (client, true)
    }
}

/// Whether an address is of this machine or of a private network, where a proxy in front of this server would be:
/// loopback, private, link-local, or shared by carriers and overlay networks (RFC 6598).
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || (first == 100 && second & 0xc0 == 64)
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
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

/// The address in one element of `Forwarded` (RFC 7239, section 4). `None` if there is none or more than one, or if it
/// is obfuscated, unknown or malformed.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut node = None;
    let mut left = Some(element);
    while let Some(pairs) = left {
        let (before, pair) = rsplit_outside_quotes(pairs, b';');
        if let Some((name, value)) = pair.split_once('=')
            && name.trim_matches(OWS).eq_ignore_ascii_case("for")
            && node.replace(value).is_some()
        {
            return None;
        }
        left = before;
    }
    address_of_node(&unquoted(node?.trim_matches(OWS))?)
}

/// Space that may be around an element (RFC 9110, section 5.6.3).
const OWS: [char; 2] = [' ', '\t'];

/// A token as it is; a quoted string (RFC 9110, section 5.6.4) without its quotes.
fn unquoted(value: &str) -> Option<String> {
    let Some(inner) = value.strip_prefix('"') else { return (!value.contains('"')).then(|| value.to_owned()) };
    let mut escaped = false;
    let unescaped = inner.strip_suffix('"')?.chars().filter(|&character| {
        escaped = character == '\\' && !escaped;
        !escaped
    });
    Some(unescaped.collect())
}

/// The address of a node (RFC 7239, section 6): `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80`. The port
/// may be obfuscated.
fn address_of_node(node: &str) -> Option<IpAddr> {
    let (address, port) = if let Some(bracketed) = node.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        (address.parse().map(IpAddr::V6), port)
    } else {
        let (address, port) = node.split_at(node.find(':').unwrap_or(node.len()));
        (address.parse().map(IpAddr::V4), port)
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| match port.strip_prefix('_') {
            Some(name) => !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)),
            None => (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit()),
        });
    address.ok().filter(|_| is_port)
}

/// What is before the last `separator` outside quoted strings, if there is one, and what is after it.
///
/// It reads from the right, where the nearest proxy wrote a well-formed entry. From the left, a quotation mark that a
/// client opened and never closed would swallow that entry.
fn rsplit_outside_quotes(text: &str, separator: u8) -> (Option<&str>, &str) {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for (at, byte) in bytes.iter().enumerate().rev() {
        if *byte == b'"' {
            let escapes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            quoted = quoted == (escapes % 2 == 1);
        } else if *byte == separator && !quoted {
            return (Some(&text[..at]), &text[at + 1..]);
        }
    }
    (None, text)
}

#[cfg(test)]
#[path = "../tests/units/client.rs"]
mod tests;

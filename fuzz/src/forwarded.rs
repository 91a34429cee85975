//! The field that names the client: only what trusted proxies wrote is believed.

use std::net::IpAddr;

use comfy_auth_rs::client::{ClientField, TrustedProxies};
use regex::Regex;

const TRUSTED: [&str; 3] = ["10.0.0.0/8", "::1", "fd00::/8"];
const PEERS: [&str; 4] = ["10.0.0.1", "::ffff:10.0.0.1", "::1", "192.0.2.1"];

/// Checks any text as the field's value, after a byte that chooses the peer, and as a network.
pub fn check(data: &[u8]) {
    let Some((choice, value)) = data.split_first() else { return };
    let peer: IpAddr = PEERS[usize::from(*choice) % PEERS.len()].parse().expect("an address");
    let value = String::from_utf8_lossy(value);
    for name in ["X-Forwarded-For", "Forwarded"] {
        check_field(name, peer, &value);
    }
    match TrustedProxies::parse(&[&value]) {
        Ok(_) => assert!(value.contains(['.', ':'])),
        Err(faults) => assert!(faults.len() == 1 && !faults[0].to_string().contains('\n')),
    }
}

fn check_field(name: &str, peer: IpAddr, value: &str) {
    let trusted = TrustedProxies::parse(&TRUSTED).expect("networks");
    let field = ClientField::parse(name).expect("a name");
    let read = |value: &str| trusted.client(peer, &field, value);
    let client = read(value);
    assert_eq!(client, client.to_canonical());
    assert_eq!(TrustedProxies::default().client(peer, &field, value), peer.to_canonical());
    if !trusted.contains(peer) {
        assert_eq!(client, peer.to_canonical());
    }
    for spoofed in
        ["198.51.100.7", "10.9.9.9", "for=198.51.100.7", "for=\"198.51.100.7", "for=10.9.9.9;\"\\", "junk", ""]
    {
        let longer = read(&format!("{spoofed},{value}"));
        // What is further left counts only if all behind it are proxies.
        assert!(longer == client || trusted.contains(client), "{spoofed:?} in front of {value:?} makes it {longer}");
    }
    assert_eq!(read(&format!("{value},junk")), peer.to_canonical());
    // Whatever comes before it, what a proxy adds is read as it is.
    let [theirs, proxys] = if name == "Forwarded" {
        ["for=\"[2001:db8::7]:80\"", "for=10.1.1.1;proto=https"]
    } else {
        ["[2001:db8::7]:80", "10.1.1.1"]
    };
    if trusted.contains(peer) {
        let theirs_is: IpAddr = "2001:db8::7".parse().expect("an address");
        assert_eq!(read(&format!("{value}, {theirs}")), theirs_is, "{value:?}");
        assert_eq!(read(&format!("{value}, {theirs}, {proxys}")), theirs_is, "{value:?}");
    }
    if name == "Forwarded" {
        if let Some(elements) = elements(value) {
            assert_eq!(client, nearest(&trusted, peer, &elements), "{value:?}");
        }
    } else {
        let said = |address: IpAddr| {
            value.split(',').any(|entry| entry.contains(&address.to_string()) || reads_as(entry, address))
        };
        assert!(client == peer.to_canonical() || said(client), "{client} is not in {value:?}");
    }
}

/// Whether an entry is this address in another spelling.
fn reads_as(entry: &str, address: IpAddr) -> bool {
    let entry = entry.trim();
    let inner = entry.trim_start_matches('[');
    let inner = inner.split_once(']').map_or(inner, |(inner, _)| inner);
    let without_port = entry.rsplit_once(':').map_or(entry, |(name, _)| name);
    [entry, inner, without_port]
        .iter()
        .any(|text| text.parse().is_ok_and(|found: IpAddr| found.to_canonical() == address))
}

/// The client, found in another way: the first address from the right that isn't a proxy's, up to one that is unknown.
fn nearest(trusted: &TrustedProxies, peer: IpAddr, elements: &[Option<IpAddr>]) -> IpAddr {
    let mut client = peer.to_canonical();
    for element in elements.iter().rev() {
        match element {
            Some(address) if trusted.contains(client) => client = address.to_canonical(),
            _ => break,
        }
    }
    client
}

/// The addresses in a value, read from the left by the grammar of RFC 7239; `None` if the value doesn't follow the
/// grammar.
fn elements(value: &str) -> Option<Vec<Option<IpAddr>>> {
    const TOKEN: &str = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+";
    let quoted = r#""(?:[^"\\]|\\.)*""#;
    let pair = format!(r"(?s)^({TOKEN})=({TOKEN}|{quoted})");
    let pair = Regex::new(&pair).expect("an expression");
    let mut elements = Vec::new();
    let mut rest = value;
    loop {
        let mut nodes = Vec::new();
        rest = rest.trim_start_matches([' ', '\t']);
        loop {
            let found = pair.captures(rest)?;
            if found[1].eq_ignore_ascii_case("for") {
                nodes.push(found[2].to_owned());
            }
            rest = &rest[found[0].len()..];
            match rest.strip_prefix(';') {
                Some(next) => rest = next,
                None => break,
            }
        }
        elements.push(if let [node] = &nodes[..] { address(node) } else { None });
        rest = rest.trim_start_matches([' ', '\t']);
        if rest.is_empty() {
            return Some(elements);
        }
        rest = rest.strip_prefix(',')?;
    }
}

fn address(node: &str) -> Option<IpAddr> {
    let node = match node.strip_prefix('"') {
        Some(quoted) => {
            Regex::new(r"(?s)\\(.)").expect("an expression").replace_all(&quoted[..quoted.len() - 1], "$1").into_owned()
        }
        None => node.to_owned(),
    };
    let shape = r"^(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?$";
    let found = Regex::new(shape).expect("an expression").captures(&node)?;
    match (found.get(1), found.get(2)) {
        (Some(v4), _) => v4.as_str().parse().ok().map(IpAddr::V4),
        (_, Some(v6)) => v6.as_str().parse().ok().map(IpAddr::V6),
        _ => None,
    }
}

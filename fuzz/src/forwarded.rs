//! `X-Forwarded-For`: only what trusted proxies wrote is believed.

use std::net::IpAddr;

use comfy_auth_rs::client::TrustedProxies;

const TRUSTED: [&str; 3] = ["10.0.0.0/8", "::1", "fd00::/8"];
const PEERS: [&str; 4] = ["10.0.0.1", "::ffff:10.0.0.1", "::1", "192.0.2.1"];

/// Checks any text as the field's value, behind a byte that chooses the peer, and as a network.
pub fn check(data: &[u8]) {
    let Some((choice, value)) = data.split_first() else { return };
    let peer: IpAddr = PEERS[usize::from(*choice) % PEERS.len()].parse().expect("an address");
    let value = String::from_utf8_lossy(value);
    let trusted = TrustedProxies::parse(&TRUSTED).expect("networks");
    let client = trusted.client(peer, &value);
    assert_eq!(client, client.to_canonical());
    assert_eq!(TrustedProxies::default().client(peer, &value), peer.to_canonical());
    if !trusted.contains(peer) {
        assert_eq!(client, peer.to_canonical());
    }
    let said = |address: IpAddr| {
        value.split(',').any(|entry| entry.contains(&address.to_string()) || reads_as(entry, address))
    };
    assert!(client == peer.to_canonical() || said(client), "{client} is not in {value:?}");
    for spoofed in ["198.51.100.7", "10.9.9.9", "junk", ""] {
        let longer = trusted.client(peer, &format!("{spoofed},{value}"));
        // Further left counts only behind proxies all the way.
        assert!(longer == client || trusted.contains(client), "{spoofed:?} in front of {value:?} makes it {longer}");
    }
    let behind_junk = trusted.client(peer, &format!("{value},junk"));
    assert_eq!(behind_junk, peer.to_canonical());
    match TrustedProxies::parse(&[&value]) {
        Ok(_) => assert!(value.contains(['.', ':'])),
        Err(faults) => assert!(faults.len() == 1 && !faults[0].to_string().contains('\n')),
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

use super::*;

#[test]
fn believes_only_trusted_proxies() {
    let trusted = TrustedProxies::parse(&["10.0.0.0/8", "::1", "127.0.0.1"]).unwrap();
    for (peer, forwarded_for, expected) in [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, 10.2.3.4", "198.51.100.1"),
        ("10.0.0.1", "spoof, 198.51.100.1 ,10.2.3.4", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, rubbish", "10.0.0.1"),
        ("10.0.0.1", "rubbish, 10.2.3.4", "10.2.3.4"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("::ffff:10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("::1", "[2001:db8::1]:80", "2001:db8::1"),
        ("127.0.0.1", "[2001:db8::1]", "2001:db8::1"),
    ] {
        let client = trusted.client(peer.parse().unwrap(), forwarded_for);
        assert_eq!(client.to_string(), expected, "{peer} {forwarded_for:?}");
    }
}

#[test]
fn refuses_what_is_no_network() {
    let faults = TrustedProxies::parse(&["10.0.0.0/33", "proxy", "", "10.0.0.1"]).unwrap_err();
    assert_eq!(faults.len(), 3);
}

use super::*;

#[test]
fn is_told_only_where_each_machine_means_the_same() {
    for (address, shown, is_told) in [
        ("192.0.2.1", "192.0.2.1", true),
        ("::ffff:192.0.2.1", "192.0.2.1", true),
        ("10.1.2.3", "10.1.2.3", true),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", true),
        ("fd00::1", "fd00::/64", true),
        ("127.0.0.1", "127.0.0.1", false),
        ("::1", "127.0.0.1", false),
        ("169.254.1.1", "169.254.1.1", false),
        ("fe80::1", "fe80::/64", false),
        ("0.0.0.0", "0.0.0.0", false),
        ("::", "::/64", false),
    ] {
        let network = Network::from(address.parse::<IpAddr>().unwrap());
        assert_eq!(network.to_string(), shown, "{address}");
        assert_eq!(Network::from_bytes(network.to_bytes()), is_told.then_some(network), "{address}");
    }
    let mut of_an_address = Network::from(IpAddr::from([0x2001_u16, 0xdb8, 0, 0, 0, 0, 0, 0])).to_bytes();
    of_an_address[15] = 1;
    assert_eq!(Network::from_bytes(of_an_address), None, "no network: each address would be one more");
}

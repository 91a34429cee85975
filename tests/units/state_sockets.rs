use super::*;

fn fill(sockets: &Sockets, client: Option<&str>) -> Vec<Seat> {
    let client = client.map(|address| address.parse().unwrap());
    std::iter::from_fn(|| sockets.enter(client)).collect()
}

#[test]
fn so_many_of_one_address() {
    for (name, client, most) in [
        ("IPv4", Some("192.0.2.7"), MAX_OF_ONE),
        ("IPv4, written as IPv6", Some("::ffff:192.0.2.7"), MAX_OF_ONE),
        ("IPv6", Some("2001:db8::7"), MAX_OF_ONE),
        ("loopback", Some("127.0.0.1"), MAX),
        ("loopback, another address", Some("127.9.9.9"), MAX),
        ("loopback, written as IPv6", Some("::ffff:127.0.0.1"), MAX),
        ("IPv6 loopback", Some("::1"), MAX),
        ("no address", None, MAX),
    ] {
        let sockets = Sockets::default();
        assert_eq!(fill(&sockets, client).len(), most, "{name}");
        assert_eq!(fill(&sockets, client).len(), most, "{name}: those seats are free again");
    }
}

#[test]
fn an_address_counts_as_the_throttle_counts_it() {
    let sockets = Sockets::default();
    let _held = fill(&sockets, Some("2001:db8::1"));
    assert_eq!(fill(&sockets, Some("2001:db8::2")).len(), 0, "the same /64");
    assert_eq!(fill(&sockets, Some("2001:db8:0:1::1")).len(), MAX_OF_ONE, "another one");
    assert_eq!(fill(&sockets, Some("192.0.2.7")).len(), MAX_OF_ONE);
}

#[test]
fn so_many_in_all() {
    let sockets = Sockets::default();
    let mut held = Vec::new();
    for number in 0..MAX / MAX_OF_ONE {
        held.push(fill(&sockets, Some(&format!("192.0.2.{number}"))));
    }
    assert_eq!(held.iter().map(Vec::len).sum::<usize>(), MAX);
    assert!(fill(&sockets, Some("198.51.100.1")).is_empty());
    assert!(fill(&sockets, Some("127.0.0.1")).is_empty());
    assert!(fill(&sockets, None).is_empty());
    held.pop();
    assert_eq!(fill(&sockets, Some("198.51.100.1")).len(), MAX_OF_ONE);
    drop(held);
    assert!(lock(&sockets.0).of.is_empty(), "nothing is kept of those who left");
}

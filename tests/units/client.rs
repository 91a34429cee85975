use super::*;

fn check(field: &str, table: &[(&str, &str, &str)]) {
    let trusted = TrustedProxies::parse(&["10.0.0.0/8", "::1", "127.0.0.1"]).unwrap();
    let field = ClientField::parse(field).unwrap();
    for (peer, value, expected) in table {
        let client = trusted.client(peer.parse().unwrap(), &field, value);
        assert_eq!(client.to_string(), *expected, "{peer} {value:?}");
    }
}

#[test]
fn tells_whether_anyone_is_named() {
    let names = |name: &str, value: &str| ClientField::parse(name).unwrap().names_a_client(value);
    for (name, value, expected) in [
        ("X-Real-IP", "127.0.0.1", true),
        ("X-Forwarded-For", "junk, 192.0.2.1", true),
        ("X-Forwarded-For", "192.0.2.1, junk", false),
        ("X-Forwarded-For", "", false),
        ("Forwarded", "for=192.0.2.1", true),
        ("Forwarded", "for=unknown", false),
        ("Forwarded", "192.0.2.1", false),
    ] {
        assert_eq!(names(name, value), expected, "{name} {value}");
    }
}

#[test]
fn believes_only_trusted_proxies() {
    for field in ["X-Forwarded-For", "X-Real-IP", "any"] {
        check(
            field,
            &[
                ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
                ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
                ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
                ("10.0.0.1", "198.51.100.1, 10.2.3.4", "198.51.100.1"),
                ("10.0.0.1", "spoof, 198.51.100.1 ,10.2.3.4", "198.51.100.1"),
                ("10.0.0.1", "198.51.100.1, rubbish", "10.0.0.1"),
                ("10.0.0.1", "rubbish, 10.2.3.4", "10.2.3.4"),
                ("10.0.0.1", "", "10.0.0.1"),
                ("10.0.0.1", "for=198.51.100.1", "10.0.0.1"),
                ("::ffff:10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
                ("::1", "[2001:db8::1]:80", "2001:db8::1"),
                ("127.0.0.1", "[2001:db8::1]", "2001:db8::1"),
            ],
        );
    }
}

#[test]
fn reads_forwarded_as_rfc_7239_has_it() {
    check(
        "forwarded",
        &[
            ("192.0.2.1", "for=198.51.100.1", "192.0.2.1"),
            ("10.0.0.1", "for=198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "For=198.51.100.1;proto=https;by=203.0.113.43", "198.51.100.1"),
            ("10.0.0.1", "proto=https;host=\"h;for=192.0.2.9\"; FOR=\"198.51.100.1:4711\"", "198.51.100.1"),
            ("10.0.0.1", "for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("10.0.0.1", "for=\"[2001:db8:cafe::17]\"", "2001:db8:cafe::17"),
            ("10.0.0.1", "for=\"\\198.51.100.1:_hidden\"", "198.51.100.1"),
            ("10.0.0.1", "for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
            ("10.0.0.1", "for=192.0.2.43,\tfor=198.51.100.17;by=_x , for=10.9.9.9", "198.51.100.17"),
            ("10.0.0.1", "for=\"[::ffff:10.9.9.9]\"", "10.9.9.9"),
            ("10.0.0.1", "host=\"a,b\\\",c\";for=198.51.100.1", "198.51.100.1"),
            // An entry without an address ends the search at the proxy that passed it on.
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1", "10.0.0.1"),
            ("10.0.0.1", "for=unknown", "10.0.0.1"),
            ("10.0.0.1", "for=\"_gazonk\"", "10.0.0.1"),
            ("10.0.0.1", "for=_SEVKISEK", "10.0.0.1"),
            ("10.0.0.1", "for=192.0.2.9, for=unknown, for=10.2.3.4", "10.2.3.4"),
            ("10.0.0.1", "for=192.0.2.9, proto=https", "10.0.0.1"),
            ("10.0.0.1", "for=192.0.2.9,", "10.0.0.1"),
            ("10.0.0.1", "for=192.0.2.9;for=198.51.100.1", "10.0.0.1"),
            ("10.0.0.1", "for=2001:db8::1", "10.0.0.1"),
            ("10.0.0.1", "for=\"[2001:db8::1\"", "10.0.0.1"),
            ("10.0.0.1", "for=\"[2001:db8::1]80\"", "10.0.0.1"),
            ("10.0.0.1", "for=\"[192.0.2.1]\"", "10.0.0.1"),
            ("10.0.0.1", "for=\"192.0.2.1:\"", "10.0.0.1"),
            ("10.0.0.1", "for=\"192.0.2.1:123456\"", "10.0.0.1"),
            ("10.0.0.1", "for=\"192.0.2.1:_\"", "10.0.0.1"),
            ("10.0.0.1", "for=\"192.0.2.1", "10.0.0.1"),
            ("10.0.0.1", "for=192.0.2.1\"", "10.0.0.1"),
            ("10.0.0.1", "for=", "10.0.0.1"),
            ("10.0.0.1", "for", "10.0.0.1"),
            // A client cannot swallow what the proxy wrote after it.
            ("10.0.0.1", "for=\", for=198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "for=\"\\, for=\"198.51.100.1:80\"", "198.51.100.1"),
            ("10.0.0.1", "for=192.0.2.9;x=\", for=\"[2001:db8::1]\"", "2001:db8::1"),
        ],
    );
}

#[test]
fn a_field_has_a_name() {
    for name in ["X-Forwarded-For", "forwarded", "x_real.ip", "!"] {
        assert_eq!(ClientField::parse(name).unwrap().name(), name);
    }
    for name in ["", "X Real IP", "X-Real-IP:", "X-Réal-IP", "a,b", "(x)", "a\n"] {
        let fault = ClientField::parse(name).unwrap_err().to_string();
        assert!(fault.starts_with("client_field: ") && !fault.contains('\n'), "{fault}");
    }
}

#[test]
fn refuses_what_is_no_network() {
    let faults = TrustedProxies::parse(&["10.0.0.0/33", "proxy", "", "10.0.0.1"]).unwrap_err();
    assert_eq!(faults.len(), 3);
}

#[test]
fn knows_local_addresses() {
    for local in ["127.0.0.9", "10.1.1.1", "172.31.0.1", "192.168.1.1", "169.254.1.1", "100.64.0.1", "100.127.255.1"] {
        assert!(is_local(local.parse().unwrap()), "{local}");
        assert!(is_local(format!("::ffff:{local}").parse().unwrap()), "{local}");
    }
    for local in ["::1", "fd00::1", "fe80::1"] {
        assert!(is_local(local.parse().unwrap()), "{local}");
    }
    for public in ["192.0.2.1", "100.63.255.255", "100.128.0.1", "172.32.0.1", "8.8.8.8", "2001:db8::1", "::"] {
        assert!(!is_local(public.parse().unwrap()), "{public}");
    }
}

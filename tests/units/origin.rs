use super::*;

#[test]
fn an_origin_is_compared_with_the_host() {
    for (origin, host, scheme, expected) in [
        ("http://h:8188", "h:8188", None, true),
        ("http://H:8188", "h:8188", None, true),
        ("http://h", "h:80", None, true),
        ("https://h", "h", None, true),
        ("https://h:443", "h", None, true),
        ("http://[::1]:8188", "[::1]:8188", None, true),
        ("http://[::1]", "[::1]", None, true),
        ("http://h:8189", "h:8188", None, false),
        ("http://h:8188", "h", None, false),
        ("http://h.evil", "h", None, false),
        ("null", "null", None, false),
        ("file://", "", None, false),
        ("http://", "", None, false),
        ("ftp://h:8188", "h:8188", None, false),
        ("https://h", "h", Some("https"), true),
        ("HTTPS://h", "h:443", Some("https"), true),
        ("http://h", "h", Some("http"), true),
        ("http://h", "h", Some("https"), false),
        ("https://h:8188", "h:8188", Some("http"), false),
        ("https://h:80", "h:80", Some("http"), false),
    ] {
        let found = Origin::parse(origin)
            .is_some_and(|origin| Host::parse(host).is_some_and(|host| origin.is_at(&host, scheme)));
        assert_eq!(found, expected, "{origin} {host} {scheme:?}");
    }
}

#[test]
fn own_origins_are_normalized() {
    for (named, origin, expected) in [
        ("https://pod.example", "https://pod.example", true),
        ("HTTPS://Pod.Example:443", "https://pod.example", true),
        ("http://pod.example:80", "http://pod.example", true),
        ("https://pod.example:8443", "https://pod.example:8443", true),
        ("http://[0:0::1]:8188", "http://[::1]:8188", true),
        ("app://comfy", "app://comfy", true),
        ("https://pod.example", "http://pod.example", false),
        ("https://pod.example", "https://pod.example:8443", false),
        ("https://pod.example", "https://pod.example.evil", false),
        ("https://pod.example", "https://a.pod.example", false),
        ("app://comfy", "app://comfy:80", false),
    ] {
        let own = OwnOrigins::parse(&[named]).unwrap();
        assert_eq!(own.contains(&Origin::parse(origin).unwrap()), expected, "{named} {origin}");
    }
}

#[test]
fn what_is_no_origin_is_a_fault() {
    for bad in [
        "",
        "*",
        "null",
        "pod.example",
        "pod.example:443",
        "//pod.example",
        "https://",
        "https://pod.example/",
        "https://pod.example/path",
        "https://*.example",
        "https://a b",
        "https://a,https://b",
        "https://user@pod.example",
        "https://pod.example:",
        "https://pod.example:0x50",
        "https://pod.example:99999",
        "https://pod.example:+1",
        "https://[::1",
        "https://::1",
        "https://[1.2.3.4]",
        "https://pöd.example",
        "1http://a",
        "https://a\n",
        "file://",
    ] {
        let faults = OwnOrigins::parse(&["https://good.example", bad]).unwrap_err();
        let [fault] = &faults[..] else { panic!("{bad:?}: {faults:?}") };
        let fault = fault.to_string();
        assert!(fault.starts_with("origin: ") && !fault.contains('\n'), "{fault}");
    }
}

use super::*;

#[test]
fn an_origin_is_compared_with_the_host() {
    for (origin, host, expected) in [
        ("http://h:8188", "h:8188", true),
        ("http://H:8188", "h:8188", true),
        ("http://h", "h:80", true),
        ("https://h", "h", true),
        ("https://h:443", "h", true),
        ("http://[::1]:8188", "[::1]:8188", true),
        ("http://[::1]", "[::1]", true),
        ("http://h:8189", "h:8188", false),
        ("http://h:8188", "h", false),
        ("http://h.evil", "h", false),
        ("null", "null", false),
        ("file://", "", false),
        ("http://", "", false),
    ] {
        assert_eq!(is_origin_of(origin, host), expected, "{origin} {host}");
    }
}

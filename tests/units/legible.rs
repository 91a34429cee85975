use super::*;

#[test]
fn what_would_begin_a_line_of_its_own_is_not_legible() {
    for text in [
        "/a%0Ab",
        "/a%0ab",
        "/a%0D",
        "/%00",
        "/%1b[2K",
        "/%7F",
        "/a%C2%85b",
        "/%c2%9b",
        "/%E2%80%A8",
        "/%e2%80%a9",
        "/%09",
        "/a%250Ab",
        "/a%25%30%41b",
        "/%2500",
        "/%25E2%2580%25A8",
        "/%ff%0a",
        "/%c3%0a",
        "/a\nb",
        "/a\u{85}b",
        "/\u{2028}",
        "http://host/%0a",
        "/a%0a?b",
        "/ws?clientId=%0a",
        "/ws?clientId=a%0Ab&b=c",
        "/ws?a=b&clientId=%C2%85",
        "/ws?client%49d=%0a",
        "/ws?%63lientId=%0a",
        "/ws?clientId=a&clientId=%0a",
        "/ws?clientId=\u{2028}",
        "/ws?clientId=%250a",
        "/ws?clientId=a?%0a",
        "/ws?clientId==%0a",
    ] {
        assert!(!is_legible(text), "{text:?}");
    }
}

#[test]
fn everything_else_is_legible() {
    for text in [
        "/",
        "*",
        "",
        "/history/0fb1",
        "/userdata/workflows%2Fa%20b.json",
        "/userdata/100%25.json",
        "/%",
        "/%0",
        "/%zz",
        "/%u000a",
        "/%C3%A9",
        "/\u{e9}",
        "/%ff",
        "/%c0%8a",
        "/%ed%a0%80",
        "/%25ff",
        "/%EF%BF%BD",
        "/view?filename=a%0Ab",
        "/view?a%0a=b",
        "/ws?clientId=0fb1",
        "/ws?clientId=%C3%A9%20+",
        "/ws?clientId",
        "/ws?xclientId=%0a",
        "/ws?clientid=%0a",
        "/ws?a=clientId=%0a",
        "/%25250a",
    ] {
        assert!(is_legible(text), "{text:?}");
    }
}

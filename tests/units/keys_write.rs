use super::*;

const KEY: &str = "a-key-that-nobody-guesses-0123456789";

fn attributes(words: &[(&str, &str)]) -> Attributes {
    Attributes::parse(words).unwrap()
}

#[test]
fn writes_lines_that_are_read_again() {
    let view = attributes(&[("scope", "view")]);
    let all =
        attributes(&[("user", "alice"), ("from", "::1,10.0.0.0/8"), ("expires", "2027-01-31"), ("scope", "run,nodes")]);
    for (label, attributes, expected) in [
        (None, &Attributes::default(), ""),
        (None, &view, " scope=view"),
        (Some("alice's laptop"), &Attributes::default(), " alice's laptop"),
        (Some("alice's laptop"), &view, " alice's laptop scope=view"),
        (Some("alice"), &all, " alice scope=run,nodes expires=2027-01-31 from=10.0.0.0/8,::1 user=alice"),
        (Some("a b=c"), &view, " \"a b=c\" scope=view"),
        (Some("a b=c"), &Attributes::default(), " \"a b=c\""),
        (Some("a -scope=x"), &Attributes::default(), " \"a -scope=x\""),
        (Some("a\u{a0}scope=x"), &view, " \"a\u{a0}scope=x\" scope=view"),
        (Some("12\" screen"), &view, " 12\" screen scope=view"),
        (Some("\"a\" b"), &Attributes::default(), " \"a\" b"),
        (Some("#1"), &view, " #1 scope=view"),
    ] {
        assert_eq!(write_line(KEY, label, attributes), Ok(format!("{KEY}{expected}")));
    }
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(write_line(digest, Some("a"), &view), Ok(format!("{digest} a scope=view")));
}

#[test]
fn refuses_what_would_be_read_differently_and_never_shows_the_key() {
    let view = attributes(&[("scope", "view")]);
    let late = Attributes { expires: Some(u64::MAX), ..Attributes::default() };
    let nothing = Attributes { scopes: crate::keys::Scopes::NONE, ..Attributes::default() };
    let user = Attributes { user: Some("a b".to_owned()), ..Attributes::default() };
    let long = "a".repeat(257);
    for (key, label, attributes, expected) in [
        ("", None, &view, "the line begins with an attribute"),
        ("", Some("a"), &view, "the line would"),
        ("#canary", None, &view, "the line would"),
        ("canary x", None, &view, "character 7 of the key"),
        ("canary\n", None, &view, "character 7 of the key"),
        ("canary=x", None, &view, "the line begins with an attribute"),
        ("sha256:canary", None, &view, "sha256: must"),
        (KEY, Some(""), &view, "the line would"),
        (KEY, Some(" a"), &view, "the line would"),
        (KEY, Some("a\nb"), &view, "the label holds a control"),
        (KEY, Some(&long), &view, "the label is longer"),
        (KEY, Some("\"a\" b"), &view, "a label in double quotes cannot"),
        (KEY, Some("a \"b=c\" d=e"), &view, "a label in double quotes cannot"),
        (KEY, Some("\"a\""), &Attributes::default(), "the line would"),
        (KEY, None, &late, "a key expires in the year 9999"),
        (KEY, None, &nothing, "scope= is empty"),
        (KEY, None, &user, "user= takes"),
    ] {
        let faults = write_line(key, label, attributes).unwrap_err();
        assert!(faults[0].starts_with(expected), "{label:?}: {faults:?}");
        assert!(!faults.concat().contains("canary") && !faults.concat().contains(KEY));
    }
}

#[test]
fn a_line_is_written_again_with_another_key_or_end_but_never_a_later_one() {
    let text = "abc \"a b=c\" scope=view expires=2027-01-31";
    let record = crate::keys::parse_file("f", text.as_bytes()).unwrap().remove(0);
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let (end, label) = (1_801_440_000, "\"a b=c\" scope=view expires=");
    for (key, expires, expected) in [
        (None, None, format!("{digest} {label}2027-01-31")),
        (None, Some(end - 1), format!("{digest} {label}2027-01-31T23:59:59Z")),
        (None, Some(end + 1), format!("{digest} {label}2027-01-31")),
        (None, Some(0), format!("{digest} {label}1970-01-01T00:00:00Z")),
        (Some(KEY), Some(end - 86_400), format!("{KEY} {label}2027-01-30")),
    ] {
        assert_eq!(record.write(key, expires), Ok(expected));
    }
    let forever = crate::keys::parse_file("f", b"abc").unwrap().remove(0);
    assert_eq!(forever.write(None, Some(end)), Ok(format!("{digest} expires=2027-01-31")));
    assert_eq!(forever.write(None, None), Ok(digest.to_owned()));
}

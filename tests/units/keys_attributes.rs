use super::*;

fn faults(words: &[(&str, &str)]) -> Vec<String> {
    Attributes::parse(words).unwrap_err()
}

fn fault(name: &str, value: &str) -> String {
    let found = faults(&[(name, value)]);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn without_attributes_a_key_opens_everything_for_good_from_everywhere() {
    let attributes = Attributes::parse(&[]).unwrap();
    assert_eq!(attributes, Attributes::default());
    assert!(attributes.scopes.cover(Scopes::ALL) && attributes.admit_from(None));
    assert_eq!(attributes.words().unwrap(), []);
}

#[test]
fn scopes_are_words_with_commas_between_them() {
    for (value, written) in [
        ("view", Some("view")),
        ("run", Some("run")),
        ("view,run", Some("run")),
        ("run,nodes", Some("run,nodes")),
        ("nodes,run", Some("run,nodes")),
        ("metrics", Some("metrics")),
        ("all", None),
        ("view,all", None),
    ] {
        let words = Attributes::parse(&[("scope", value)]).unwrap().words().unwrap();
        assert_eq!(words.first().map(|(_, value)| value.as_str()), written, "{value}");
    }
    for (value, expected) in [
        ("", "scope= is empty or has an extra comma"),
        ("view,", "scope= is empty or has an extra comma"),
        (",view", "scope= is empty or has an extra comma"),
        ("view,,run", "scope= is empty or has an extra comma"),
        ("view,view", "scope= names view twice"),
        ("VIEW", "\"VIEW\" is written in lower case: scope=view"),
        ("view,Run", "\"Run\" is written in lower case: scope=run"),
        ("read", "unknown scope \"read\"; use view, run,"),
        ("view;run", "unknown scope \"view;run\""),
        ("view\u{200b}", "unknown scope"),
        ("v\u{456}ew", "unknown scope"),
        ("*", "unknown scope"),
    ] {
        assert!(fault("scope", value).starts_with(expected), "{value}: {}", fault("scope", value));
    }
}

#[test]
fn expires_takes_days_and_moments() {
    let read = |value| Attributes::parse(&[("expires", value)]).unwrap().expires;
    assert_eq!(read("2027-01-31"), Some(1_801_440_000));
    assert_eq!(read("2027-01-31T12:00:00Z"), Some(1_801_396_800));
    assert_eq!(read("2001-01-01"), Some(978_393_600), "the past is no fault");
    for value in ["", "never", "2027-02-29", "2027-01-31T12:00:00+01:00", "90d", "1801440000", "2027-01-31,2028-01-31"]
    {
        assert!(fault("expires", value).starts_with("expires= takes a date"), "{value}");
    }
}

#[test]
fn from_takes_addresses_and_blocks() {
    for (value, written) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8,192.168.1.5", "10.0.0.0/8,192.168.1.5"),
        ("192.168.1.5,10.0.0.0/8", "10.0.0.0/8,192.168.1.5"),
        ("192.168.1.5/32", "192.168.1.5"),
        ("0.0.0.0/0,::/0", "0.0.0.0/0,::/0"),
        ("FD00::/8", "fd00::/8"),
        ("::1", "::1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ] {
        let attributes = Attributes::parse(&[("from", value)]).unwrap();
        assert_eq!(attributes.words().unwrap(), [("from", written.to_owned())], "{value}");
    }
    for (value, expected) in [
        ("", "from= is empty"),
        ("10.0.0.1,", "from= is empty"),
        (
            "10.0.0.5/8",
            "from= has a block that doesn't begin with its first address; write 10.0.0.0/8 for the block, or 10.0.0.5 for",
        ),
        (
            "fd00::1/8",
            "from= has a block that doesn't begin with its first address; write fd00::/8 for the block, or fd00::1 for",
        ),
        ("::ffff:10.0.0.5/104", "from= has a block that doesn't begin with its first address; write 10.0.0.0/8 for"),
        ("::ffff:0:0/95", "from= has a block that doesn't begin with its first address; write ::fffe:0:0/95 for"),
        ("10.0.0.1,10.0.0.1/32", "from= names 10.0.0.1 twice"),
        ("10.0.0.1,::ffff:10.0.0.1", "from= names 10.0.0.1 twice"),
        ("10.0.0.0/33", "from= takes addresses and CIDR blocks"),
        ("10.0.0.0/255.0.0.0", "from= takes addresses and CIDR blocks"),
        ("10.0.0", "from= takes addresses and CIDR blocks"),
        ("010.0.0.1", "from= takes addresses and CIDR blocks"),
        ("[::1]", "from= takes addresses and CIDR blocks"),
        ("fe80::1%eth0", "from= takes addresses and CIDR blocks"),
        ("10.0.0.1:80", "from= takes addresses and CIDR blocks"),
        ("localhost", "from= takes addresses and CIDR blocks"),
        ("*", "from= takes addresses and CIDR blocks"),
    ] {
        assert!(fault("from", value).starts_with(expected), "{value}: {}", fault("from", value));
    }
}

#[test]
fn from_admits_these_addresses_alone() {
    let attributes = Attributes::parse(&[("from", "10.0.0.0/8,::ffff:192.168.1.5,fd00::/8")]).unwrap();
    for (client, expected) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("192.168.1.5", true),
        ("192.168.1.6", false),
        ("fdff::1", true),
        ("fe80::1", false),
        ("11.0.0.0", false),
    ] {
        assert_eq!(attributes.admit_from(Some(client.parse().unwrap())), expected, "{client}");
    }
    assert!(!attributes.admit_from(None));
}

#[test]
fn user_is_a_short_plain_name() {
    let longest = "a".repeat(64);
    for value in ["alice", "Alice", "7of9", "a", "a.b_c-d", "defaults", &longest] {
        assert_eq!(Attributes::parse(&[("user", value)]).unwrap().user.as_deref(), Some(value));
    }
    let too_long = "a".repeat(65);
    for value in ["", "_a", ".a", "-a", "a b", "a/b", "a@b", "\u{e9}", "al\u{456}ce", "alice,bob", "a\0", &too_long] {
        assert!(fault("user", value).starts_with("user= takes at most 64 of"), "{value}");
    }
    for value in ["default", "Default", "DEFAULT"] {
        assert!(fault("user", value).starts_with("user=default is ComfyUI's own user"), "{value}");
    }
}

#[test]
fn limits_are_kept_as_they_are_written() {
    for (words, prompts, queued) in [
        (vec![("prompts", "60/h")], Rate::parse("60/h").ok(), None),
        (vec![("queued", "3")], None, Some(3)),
        (vec![("queued", "10000"), ("prompts", "1/m")], Rate::parse("1/m").ok(), Some(10_000)),
    ] {
        let attributes = Attributes::parse(&words).unwrap();
        assert_eq!(attributes.quota, Quota { prompts, queued });
        let mut written = attributes.words().unwrap();
        assert_eq!(written.len(), words.len());
        written.retain(|(name, value)| !words.contains(&(name, value)));
        assert_eq!(written, []);
    }
    assert!(fault("prompts", "60").starts_with("prompts= takes 1 to 10000"));
    assert!(fault("queued", "0").starts_with("queued= takes a number"));
}

#[test]
fn unknown_names_and_names_given_twice_are_faults_all_at_once() {
    assert!(
        fault("scopes", "view")
            .starts_with("unknown attribute \"scopes\"; use scope=, expires=, from=, user=, prompts= or")
    );
    assert!(fault("\u{455}cope", "view").starts_with("unknown attribute"));
    assert_eq!(fault("Scope", "view"), "\"Scope\" is written in lower case: scope=");
    assert_eq!(faults(&[("user", "a"), ("user", "a")]), ["user= is given twice; keep one of the two"]);
    let all = faults(&[("scope", "x"), ("user", ""), ("role", ""), ("scope", "view"), ("expires", ""), ("from", "")]);
    assert_eq!(all.len(), 6, "{all:?}");
}

#[test]
fn no_fault_shows_what_may_be_a_key() {
    let key = "Zm9vYmFyYmF6cXV4MDEyMzQ1Njc4OWFiY2RlZg";
    for name in ["scope", "expires", "from", "user", "prompts", "queued", "role"] {
        for value in [format!("{key}/"), format!("view,{key}"), format!("{key}/8"), format!("{key}\u{e9}")] {
            let fault = fault(name, &value);
            assert!(!fault.contains("Zm9v"), "{name}: {fault}");
        }
    }
    let name = "ZmooYmFyYmFzcXVhYmNkZWZnaGlqa2xtbm9w";
    assert!(!fault(name, "").contains("Zmoo"));
}

#[test]
fn a_key_has_expired_from_its_end_on() {
    let attributes = Attributes::parse(&[("expires", "2027-01-31")]).unwrap();
    assert!(!attributes.has_expired(1_801_439_999) && attributes.has_expired(1_801_440_000));
    assert!(!Attributes::default().has_expired(u64::MAX));
}

use super::*;

fn labels(text: &str) -> Vec<Option<String>> {
    parse_file("f", text.as_bytes()).unwrap().into_iter().map(|record| record.label).collect()
}

fn faults(text: &[u8]) -> Vec<String> {
    parse_file("f", text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn reads_keys_labels_comments_blank_lines_bom_and_crlf() {
    let text = "\u{feff}# keys\r\n\r\nfirst\r\nsecond alice's laptop\r\n\tthird\t bob \r\n";
    assert_eq!(labels(text), [None, Some("alice's laptop".into()), Some("bob".into())]);
}

#[test]
fn reads_a_digest_in_place_of_the_key() {
    let text = "sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD hashed";
    let records = parse_file("f", text.as_bytes()).unwrap();
    assert_eq!(records[0].digest.expose_secret(), Digest::of(b"abc").expose_secret());
    assert!(!records[0].short);
}

#[test]
fn refuses_bad_lines_naming_each() {
    assert!(parse_file("f", b"# only a comment\n").unwrap().is_empty());
    assert!(faults(b"good\nb\xffd\n")[0].starts_with("f:2: not UTF-8"));
    assert!(faults(b"good\nsha256:12\n")[0].starts_with("f:2: sha256: must"));
    assert!(faults("good\ncl\u{e9}\n".as_bytes())[0].starts_with("f:2: character 3 of the key"));
    assert!(faults(b"k label\x07\n")[0].starts_with("f:1: the label"));
    assert!(faults(&[b'k'; MAX_KEY_LENGTH + 1])[0].contains("longer than 1024"));
    assert!(parse_file("f", &[b'k'; MAX_KEY_LENGTH]).is_ok());
    assert_eq!(faults(b"a\x01\nb\x01\n").len(), 2, "all faults are collected");
}

#[test]
fn refuses_a_duplicate_with_both_line_numbers() {
    assert_eq!(faults(b"one\ntwo\none again\n"), ["f:3: the same key as on line 1; remove one of the two"]);
    let digest = b"abc\nsha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    assert!(faults(digest)[0].starts_with("f:2: the same key as on line 1"));
}

#[test]
fn refuses_flags_that_would_be_an_open_door() {
    for value in ["", REDACTED, "a b", " key", "key\n", "sha256:zz"] {
        let message = parse_flag(value).unwrap_err().to_string();
        assert!(message.starts_with("api_key: "), "{message}");
    }
    assert!(parse_flag("your-secure-api-key-here").unwrap().short);
}

#[test]
fn no_fault_holds_the_key() {
    for text in ["canary\u{e9}", "sha256:canary", "canary label\u{7}"] {
        assert!(!faults(text.as_bytes())[0].contains("canary"));
    }
}

#[test]
fn reads_attributes_after_the_label() {
    let text = "first alice scope=view user=alice\nsecond scope=run expires=2027-01-31\n\"quoted\" \"a b=c\" from=::1\nold x\n";
    let records = parse_file("f", text.as_bytes()).unwrap();
    let found: Vec<_> = records
        .iter()
        .map(|record| {
            let words = record.attributes.words().unwrap();
            let words = words.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
            (record.label.as_deref(), words)
        })
        .collect();
    let expected = [
        (Some("alice"), "scope=view user=alice"),
        (None, "scope=run expires=2027-01-31"),
        (Some("a b=c"), "from=::1"),
        (Some("x"), ""),
    ];
    assert_eq!(found, expected.map(|(label, words)| (label, words.to_owned())));
    assert_eq!(records[2].digest.expose_secret(), Digest::of(b"\"quoted\"").expose_secret());
}

#[test]
fn all_faults_of_a_line_and_of_the_file_are_told() {
    let text = "k\u{e9} l\u{7} scope=x role=y\nscope=view\ngood a -scope=view\nsha256:1 user=\n";
    let found = faults(text.as_bytes());
    let expected = [
        "f:1: character 2 of the key",
        "f:1: the label holds a control character",
        "f:1: unknown scope \"x\"",
        "f:1: unknown attribute \"role\"",
        "f:2: the line begins with an attribute",
        "f:3: a word looks like the attribute scope=",
        "f:4: sha256: must",
        "f:4: user= takes",
    ];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn a_key_that_looks_like_an_attribute_is_refused_in_a_file_alone() {
    for line in ["scope=view", "scope=view alice", "abc= alice", "-scope=view", "Role=x y"] {
        assert!(faults(line.as_bytes())[0].starts_with("f:1: the line begins with an attribute"), "{line}");
    }
    assert!(parse_flag("abc=").is_ok());
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert!(parse_file("f", digest.as_bytes()).is_ok());
}

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

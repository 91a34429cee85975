use super::*;
use crate::keys::parse_file;

fn keys(text: &str) -> Keys {
    Keys::new(&parse_file("f", text.as_bytes()).unwrap())
}

#[test]
fn admits_each_key_and_nothing_else() {
    let keys = keys("first a\nsecond b\n");
    assert_eq!(keys.verify(b"first").ok().and_then(Entry::label), Some("a"));
    assert_eq!(keys.verify(b"second").ok().and_then(Entry::label), Some("b"));
    for wrong in ["", "firs", "first ", "FIRST", "third"] {
        assert!(keys.verify(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn ids_are_stable_and_differ() {
    let (one, two) = (keys("first\nsecond\n"), keys("second\n"));
    let id = |keys: &Keys, key: &[u8]| keys.verify(key).ok().map(Entry::id).unwrap();
    assert_eq!(id(&one, b"second"), id(&two, b"second"));
    assert_ne!(id(&one, b"first"), id(&one, b"second"));
    assert!(two.by_id(id(&one, b"first")).is_none());
    assert!(two.by_id(id(&one, b"second")).is_some());
}

#[test]
fn an_empty_set_admits_nothing() {
    assert!(Keys::new(&[]).verify(b"").is_err());
}

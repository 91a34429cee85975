use super::*;

const NOW: u64 = 1_800_000_000;
use crate::keys::parse_file;

fn keys(text: &str) -> Keys {
    Keys::new(&parse_file("f", text.as_bytes()).unwrap())
}

#[test]
fn admits_each_key_and_nothing_else() {
    let keys = keys("first a\nsecond b\n");
    assert_eq!(keys.verify(b"first", Now::at(NOW)).ok().and_then(Entry::label), Some("a"));
    assert_eq!(keys.verify(b"second", Now::at(NOW)).ok().and_then(Entry::label), Some("b"));
    for wrong in ["", "firs", "first ", "FIRST", "third"] {
        assert!(keys.verify(wrong.as_bytes(), Now::at(NOW)).is_err(), "{wrong}");
    }
}

#[test]
fn ids_are_stable_and_differ() {
    let (one, two) = (keys("first\nsecond\n"), keys("second\n"));
    let id = |keys: &Keys, key: &[u8]| keys.verify(key, Now::at(NOW)).ok().map(Entry::id).unwrap();
    assert_eq!(id(&one, b"second"), id(&two, b"second"));
    assert_ne!(id(&one, b"first"), id(&one, b"second"));
    assert!(two.by_id(id(&one, b"first"), Now::at(NOW)).is_none());
    assert!(two.by_id(id(&one, b"second"), Now::at(NOW)).is_some());
}

#[test]
fn an_empty_set_admits_nothing() {
    assert!(Keys::new(&[]).verify(b"", Now::at(NOW)).is_err());
}

#[test]
fn an_id_tells_nothing_about_a_long_key() {
    // The id contains no part of the key or of its digest, and each of its bits depends on each character of the key.
    let key = "0123456789abcdefghijklmnopqrstuv";
    let id = |key: &str| keys(key).verify(key.as_bytes(), Now::at(NOW)).ok().map(Entry::id).unwrap();
    let (digest, ours) = (Digest::of(key.as_bytes()), id(key));
    for part in ours.0.windows(4) {
        assert!(!key.as_bytes().windows(4).any(|other| other == part));
        assert!(!digest.expose_secret().windows(4).any(|other| other == part));
    }
    let mut differs = [0_u32; 128];
    let others = (0..key.len()).flat_map(|at| ('A'..='Z').map(move |letter| (at, letter.to_string())));
    for (at, letter) in others.clone() {
        let mut other = key.to_owned();
        other.replace_range(at..=at, &letter);
        let bits = ours.number() ^ id(&other).number();
        (0..128).for_each(|bit| differs[bit] += u32::from(bits >> bit & 1 == 1));
    }
    let half = u32::try_from(others.count()).unwrap() / 2;
    assert!(differs.iter().all(|&times| times.abs_diff(half) < half / 4), "{differs:?}");
}

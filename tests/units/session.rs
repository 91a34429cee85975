use super::*;
use crate::keys::parse_file;

const NOW: u64 = 1_700_000_000;

fn keys(text: &str) -> Keys {
    Keys::new(&parse_file("f", text.as_bytes()).unwrap())
}

fn issued(keys: &Keys, key: &str) -> String {
    issue(keys.verify(key.as_bytes(), Now::at(NOW)).ok().unwrap(), BROWSER, NOW)
}

#[test]
fn a_session_stands_for_its_key_until_it_expires() {
    let keys = keys("one\ntwo\n");
    let value = issued(&keys, "one");
    let (session, key) = verify(&value, &keys, Now::at(NOW)).unwrap();
    assert_eq!(Some(session.key), keys.verify(b"one", Now::at(NOW)).ok().map(Entry::id));
    assert_eq!(session.key, key.id());
    assert!(verify(&value, &keys, Now::at(NOW + BROWSER.as_secs() - 1)).is_some());
    assert!(verify(&value, &keys, Now::at(NOW + BROWSER.as_secs())).is_none());
}

#[test]
fn survives_restarts_and_dies_with_its_key() {
    let value = issued(&keys("one\ntwo\n"), "one");
    assert!(verify(&value, &keys("two\none\n"), Now::at(NOW)).is_some());
    assert!(verify(&value, &keys("two\n"), Now::at(NOW)).is_none());
}

#[test]
fn every_flipped_bit_and_every_other_length_is_refused() {
    let keys = keys("one\n");
    let value = issued(&keys, "one");
    let token = BASE64_URL_SAFE_NO_PAD.decode(&value).unwrap();
    for bit in 0..token.len() * 8 {
        let mut forged = token.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&BASE64_URL_SAFE_NO_PAD.encode(forged), &keys, Now::at(NOW)).is_none(), "bit {bit}");
    }
    for length in 0..value.len() {
        assert!(verify(&value[..length], &keys, Now::at(NOW)).is_none());
    }
    assert!(verify(&format!("{value}A"), &keys, Now::at(NOW)).is_none());
}

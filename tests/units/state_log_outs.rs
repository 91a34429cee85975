use super::*;
use crate::keys::{Keys, parse_file};

const START: u64 = 1_700_000_000;
const DAY: u64 = 24 * 60 * 60;

fn keys() -> Keys {
    Keys::new(&parse_file("f", b"one\ntwo\n").unwrap())
}

fn key<'k>(keys: &'k Keys, text: &str) -> &'k Entry {
    keys.verify(text.as_bytes(), Now::at(START)).ok().unwrap()
}

/// One that began `number` seconds after the start, and ends a day later.
fn session(key: &Entry, number: u64) -> Session {
    let issued = START + number;
    Session { key: key.id(), id: SessionId(u128::from(number).to_be_bytes()), issued, expires: issued + DAY }
}

#[test]
fn an_ended_session_stays_dead_and_others_live() {
    let (keys, ended) = (keys(), LogOuts::default());
    let (one, two) = (key(&keys, "one"), key(&keys, "two"));
    ended.add(&session(one, 1), one, Now::at(START));
    assert!(ended.contains(&session(one, 1)) && !ended.contains(&session(one, 2)));
    assert!(!ended.contains(&session(two, 1)), "another key's");
}

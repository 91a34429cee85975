use super::*;
use crate::keys::KeyId;

const NOW: u64 = 1_700_000_000;

fn session(number: usize) -> Session {
    let number = u64::try_from(number).unwrap();
    Session { key: KeyId([0; 16]), id: SessionId(u128::from(number).to_be_bytes()), expires: NOW + number + 1 }
}

#[test]
fn an_ended_session_stays_dead_and_others_live() {
    let ended = LogOuts::default();
    ended.add(&session(1), NOW);
    assert!(ended.contains(&session(1)) && !ended.contains(&session(2)));
}

#[test]
fn are_bounded() {
    let ended = LogOuts::default();
    (0..=MAX).for_each(|number| ended.add(&session(number), NOW));
    assert_eq!(ended.0.lock().unwrap().len(), MAX);
    assert!(!ended.contains(&session(0)), "the one soonest to expire made room");
    assert!(ended.contains(&session(1)));
}

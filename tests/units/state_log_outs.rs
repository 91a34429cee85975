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

/// A session that began `number` seconds after the start, and ends a day later.
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

fn log_out(log_outs: &LogOuts, key: &Entry, number: u64) {
    log_outs.add(&session(key, number), key, Now::at(START + number));
}

/// The starts of the sessions that are told one by one, and until when all were ended.
fn told(log_outs: &LogOuts, now: u64) -> (Vec<u64>, Option<u64>) {
    let (mut each, mut earlier) = (Vec::new(), None);
    for (fact, _) in log_outs.facts(Now::at(now)) {
        match fact {
            Fact::LogOut { issued, .. } => each.push(issued - START),
            Fact::EarlierSessions { issued, .. } => earlier = Some(issued - START),
            _ => panic!("another kind"),
        }
    }
    each.sort_unstable();
    (each, earlier)
}

#[test]
fn a_flood_ends_older_sessions_of_its_own_key_alone() {
    let (keys, ended) = (keys(), LogOuts::default());
    let (one, two) = (key(&keys, "one"), key(&keys, "two"));
    let most = MAX_OF_ONE as u64;
    (100..100 + most).for_each(|number| log_out(&ended, one, number));
    assert_eq!(told(&ended, START), ((100..100 + most).collect(), None));
    assert!(!ended.contains(&session(one, 99)), "one that is still open");
    log_out(&ended, one, 100 + most);
    assert_eq!(told(&ended, START), ((101..=100 + most).collect(), Some(100)));
    for (number, expected) in [(1, true), (99, true), (100, true), (101, true), (100 + most, true), (101 + most, false)]
    {
        assert_eq!(ended.contains(&session(one, number)), expected, "{number}");
    }
    let another = Session { id: SessionId([7; 16]), ..session(one, 101) };
    assert!(!ended.contains(&another), "it began after that");
    assert!(!ended.contains(&session(two, 1)));
}

#[test]
fn sessions_of_one_second_make_room_together() {
    let (keys, ended) = (keys(), LogOuts::default());
    let one = key(&keys, "one");
    let of_second = |id: u128, second| Session { id: SessionId(id.to_be_bytes()), ..session(one, second) };
    for id in 0..=MAX_OF_ONE as u128 {
        ended.add(&of_second(id, 5 + u64::from(id == 0)), one, Now::at(START));
    }
    assert_eq!(told(&ended, START), (vec![6], Some(5)));
}

#[test]
fn what_would_have_expired_leaves_and_makes_room() {
    let (keys, ended) = (keys(), LogOuts::default());
    let one = key(&keys, "one");
    log_out(&ended, one, 1);
    assert_eq!(told(&ended, START + 1 + DAY + 59), (vec![1], None));
    assert_eq!(told(&ended, START + 1 + DAY + 60), (vec![], None));
    assert_eq!(ended.lock().len(), 0);
    let most = MAX_OF_ONE as u64;
    (0..most).for_each(|number| log_out(&ended, one, number));
    let later = 2 * DAY;
    log_out(&ended, one, later);
    assert_eq!(told(&ended, START + later), (vec![later], None), "nothing else is ended");
    let first = ended.lock().values().next().map(|of| of.ended.len());
    assert_eq!(first, Some(1));
}

#[test]
fn the_end_of_all_earlier_ones_is_forgotten_when_the_last_of_them_has_expired() {
    let (keys, ended) = (keys(), LogOuts::default());
    let one = key(&keys, "one");
    assert!(ended.merge_earlier(one.id(), START + 5, [0; 16]));
    assert!(!ended.merge_earlier(one.id(), START + 5, [0; 16]));
    assert!(!ended.merge_earlier(one.id(), START + 4, [0; 16]));
    assert_eq!(told(&ended, START + 5 + 30 * DAY + 59), (vec![], Some(5)));
    assert_eq!(told(&ended, START + 5 + 30 * DAY + 60), (vec![], None));
}

#[test]
fn others_are_told_of_each_and_now_and_then_of_what_ends_them_all_and_then_forget_those() {
    let keys = keys();
    let one = key(&keys, "one");
    let changes = Arc::new(Changes::default());
    let ended = LogOuts::new(Arc::clone(&changes));
    let all = (MAX_OF_ONE + TOLD_AFTER) as u64 + 1;
    (1..=all).for_each(|number| log_out(&ended, one, number));
    log_out(&ended, one, all);
    let (_, told) = changes.since(0).unwrap();
    assert!(told.iter().all(|change| change.fact.is_signed(one, &change.mac.unwrap())));
    let begins = |number| Ended::of(&session(one, number)).fact(one.id());
    let until = |number| Fact::EarlierSessions { key: one.id(), issued: START + number };
    let (most, after) = (MAX_OF_ONE as u64, TOLD_AFTER as u64);
    let expected = [
        (1..=most + 1).map(|number| (begins(number), false)).collect(),
        vec![(until(1), false), (begins(1), true)],
        (most + 2..=all).map(|number| (begins(number), false)).collect(),
        vec![(until(1 + after), false)],
        (2..=1 + after).map(|number| (begins(number), true)).collect(),
        vec![(until(1), true)],
    ];
    let told: Vec<_> = told.iter().map(|change| (change.fact, change.is_covered)).collect();
    assert_eq!(told, expected.concat());
}

#[test]
fn a_flood_of_log_outs_takes_no_more_room_in_a_store() {
    let keys = keys();
    let one = key(&keys, "one");
    let changes = Arc::new(Changes::default());
    let ended = LogOuts::new(Arc::clone(&changes));
    let (mut store, mut version) = (std::collections::HashSet::new(), 0);
    for number in 0..20_000_u64 {
        let at_once = Session { id: SessionId(u128::from(number).to_be_bytes()), ..session(one, number / 300) };
        ended.add(&at_once, one, Now::at(START));
        let (next, told) = changes.since(version).unwrap();
        version = next;
        for change in told {
            if change.is_covered {
                assert!(store.remove(&change.fact));
            } else {
                store.insert(change.fact);
            }
        }
        assert!(store.len() <= MAX_OF_ONE + TOLD_AFTER + 2, "{number}");
    }
    let known: std::collections::HashSet<_> = ended.facts(Now::at(START)).into_iter().map(|(fact, _)| fact).collect();
    let latest = |facts: &std::collections::HashSet<Fact>| {
        facts.iter().filter(|fact| matches!(fact, Fact::EarlierSessions { .. })).count()
    };
    assert_eq!((latest(&store), latest(&known)), (1, 1), "the others leave, too");
    assert!(known.iter().filter(|fact| matches!(fact, Fact::LogOut { .. })).all(|fact| store.contains(fact)));
}

#[test]
fn what_is_learnt_is_not_told_again() {
    let keys = keys();
    let one = key(&keys, "one");
    let changes = Arc::new(Changes::default());
    let ended = LogOuts::new(Arc::clone(&changes));
    let merge = |number| ended.merge(&session(one, number), one, [0; 16], Now::at(START));
    assert!(merge(1) && !merge(1));
    log_out(&ended, one, 1);
    assert!(ended.contains(&session(one, 1)), "it was ended here, too");
    assert_eq!(changes.version(), 0);
}

#[test]
fn what_others_ended_counts_once_what_is_in_flight_was_noted() {
    let (keys, ended) = (keys(), LogOuts::default());
    let one = key(&keys, "one");
    let merge = |number| ended.merge(&session(one, number), one, [0; 16], Now::at(START));
    let count = |numbers: [u64; 3]| numbers.map(|number| ended.contains(&session(one, number)));
    assert!(!ended.some_wait());
    merge(1);
    assert!(ended.some_wait());
    assert_eq!(count([1, 2, 3]), [false, false, false]);
    let look = ended.begin_look();
    merge(2); // requests in flight may have been noted before
    assert_eq!(count([1, 2, 3]), [false, false, false]);
    ended.noted(look);
    assert_eq!(count([1, 2, 3]), [true, false, false]);
    assert!(ended.some_wait(), "for the second");
    merge(3);
    ended.noted(ended.begin_look());
    assert_eq!(count([1, 2, 3]), [true, true, true]);
    merge(3);
    assert!(!ended.some_wait(), "that was no news");
    assert_eq!(told(&ended, START), (vec![1, 2, 3], None), "all are told at any time");
    assert!(ended.merge_earlier(one.id(), START + 9, [0; 16]));
    assert!(ended.contains(&session(one, 9)), "that counts at once");
}

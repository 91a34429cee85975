use super::*;
use crate::keys::{Keys, parse_file};

const UNIX: u64 = 1_800_000_000;
const DAY: u64 = 24 * 60 * 60;

fn keys() -> Keys {
    Keys::new(&parse_file("f", b"one\ntwo\n").unwrap())
}

fn key<'k>(keys: &'k Keys, text: &str) -> &'k Entry {
    keys.verify(text.as_bytes(), Now::at(UNIX)).ok().unwrap()
}

#[test]
fn the_one_that_is_remembered_for_longest_counts() {
    let keys = keys();
    let one = key(&keys, "one");
    let word = |at, until| Revocation { key: one.id(), at, until, mac: [0; 16] };
    let mut revocations = Revocations::default();
    for (at, until, expected) in [
        (UNIX, UNIX + DAY, News::Revoked),
        (UNIX, UNIX + DAY, News::Nothing),
        (UNIX + 9, UNIX + DAY - 1, News::Nothing),
        (UNIX - 9, UNIX + 2 * DAY, News::Longer),
        (UNIX - 8, UNIX + 2 * DAY, News::Longer),
        (UNIX - 9, UNIX + 2 * DAY, News::Nothing),
    ] {
        assert_eq!(revocations.merge(word(at, until), Now::at(UNIX)), expected, "{at} {until}");
    }
    assert!(revocations.contains(one.id()) && !revocations.contains(key(&keys, "two").id()));
    let told = |now| revocations.current(Now::at(now)).map(Revocation::fact).collect::<Vec<_>>();
    let fact = Fact::Revocation { key: one.id(), at: UNIX - 8, until: UNIX + 2 * DAY };
    assert_eq!(told(UNIX), [(fact, [0; 16])]);
    assert_eq!(told(UNIX + 2 * DAY + 60), []);
}

#[test]
fn what_is_over_leaves() {
    let keys = keys();
    let (one, two) = (key(&keys, "one"), key(&keys, "two"));
    let mut revocations = Revocations::default();
    revocations.merge(Revocation::new(one, UNIX, UNIX), Now::at(UNIX));
    let later = UNIX + 373 * DAY;
    revocations.merge(Revocation::new(two, later, later), Now::at(later));
    assert!(!revocations.contains(one.id()) && revocations.contains(two.id()));
}

#[test]
fn a_clock_that_is_set_back_revives_no_key() {
    let keys = keys();
    let (one, two) = (key(&keys, "one"), key(&keys, "two"));
    let mut revocations = Revocations::default();
    revocations.merge(Revocation::new(one, UNIX, UNIX), Now::at(UNIX));
    let before = UNIX - 400 * DAY;
    revocations.merge(Revocation::new(two, before, before), Now::at(before));
    assert!(revocations.contains(one.id()) && revocations.contains(two.id()));
    assert_eq!(revocations.current(Now::at(before)).count(), 2);
}

#[test]
fn is_renewed_each_week_and_all_machines_say_the_same() {
    let keys = keys();
    let (one, two) = (key(&keys, "one"), key(&keys, "two"));
    let monday = UNIX / WEEK * WEEK;
    let first = Revocation::new(one, monday + 5, monday + 5);
    assert!(first.fact().0.is_current(Now::at(monday + 5)));
    assert_eq!(first.until, monday + WEEK + YEAR);
    for (second, is_renewed) in [(5, false), (WEEK - 1, false), (WEEK, true), (30 * WEEK, true)] {
        assert_eq!(first.renewed(one, monday + second).is_some(), is_renewed, "{second}");
    }
    let renewed = |second| first.renewed(one, monday + second).unwrap();
    assert_eq!(renewed(WEEK).fact(), renewed(2 * WEEK - 1).fact());
    let (fact, mac) = renewed(WEEK).fact();
    assert!(fact.is_signed(one, &mac));
    assert_eq!(fact, Fact::Revocation { key: one.id(), at: monday + 5, until: monday + 2 * WEEK + YEAR });
    assert!(first.renewed(two, monday + WEEK).is_none(), "it revokes another one");
}

use super::*;
use crate::state::network::Network;
use crate::state::nodes::NodeId;
use crate::state::throttle::Budget;

fn node(seen: u64) -> Fact {
    Fact::Node { id: NodeId([1; 16]), seen }
}

fn lock(until: u64) -> Fact {
    Fact::Lock { network: Network::from(std::net::IpAddr::from([192, 0, 2, 1])), budget: Budget::Client, until }
}

fn since(changes: &Changes, version: u64) -> Option<(u64, Vec<Fact>)> {
    let (version, facts) = changes.since(version)?;
    Some((version, facts.into_iter().map(|change| change.fact).collect()))
}

#[test]
fn tells_what_began_since_then() {
    let changes = Changes::default();
    assert_eq!(since(&changes, 0), Some((0, vec![])));
    for time in 1..=2 {
        changes.add(node(time), None);
        changes.add(lock(time), None);
    }
    for (version, expected) in [
        (0, vec![node(1), node(2), lock(1), lock(2)]),
        (1, vec![node(2), lock(1), lock(2)]),
        (3, vec![lock(2)]),
        (4, vec![]),
        (99, vec![]),
    ] {
        assert_eq!(since(&changes, version), Some((4, expected)), "since {version}");
    }
}

#[test]
fn is_bounded_and_says_when_it_cannot_tell() {
    let changes = Changes::default();
    let most = MAX as u64;
    (1..=most).for_each(|time| changes.add(node(time), None));
    assert_eq!(since(&changes, 0).map(|(_, facts)| facts.len()), Some(MAX));
    changes.add(node(0), None);
    assert_eq!(since(&changes, 0), None, "the first was forgotten");
    assert_eq!(since(&changes, 1).map(|(version, facts)| (version, facts.len())), Some((most + 1, MAX)));
}

#[test]
fn what_is_covered_leaves_after_what_covers_it() {
    let changes = Changes::default();
    changes.add(node(1), None);
    changes.add(node(2), None);
    changes.remove(node(1), None);
    let told: Vec<_> = changes.since(1).unwrap().1.iter().map(|change| (change.fact, change.is_covered)).collect();
    assert_eq!(told, [(node(2), false), (node(1), true)]);
}

#[test]
fn no_flood_of_locks_makes_anything_else_forgotten() {
    let changes = Changes::default();
    changes.add(node(1), None);
    (0..100_000).for_each(|time| changes.add(lock(time), None));
    let (version, facts) = since(&changes, 0).unwrap();
    assert_eq!((version, facts.len(), facts[0]), (100_001, 1 + MAX, node(1)));
    assert_eq!(facts.last(), Some(&lock(99_999)));
}

#[test]
fn there_is_news_once_and_what_is_stored_stays_so() {
    let changes = Changes::default();
    assert!(!changes.has_news() && changes.is_stored(0) && !changes.is_stored(1));
    changes.add(node(1), None);
    changes.add(node(2), None);
    assert!(changes.has_news() && !changes.has_news());
    changes.store_has(2);
    changes.store_has(1);
    assert!(changes.is_stored(2) && !changes.is_stored(3));
}

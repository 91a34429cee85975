use super::*;

const UNIX: u64 = 1_800_000_000;

fn at(second: u64) -> Now {
    Now { monotonic: Duration::from_secs(1000 + second), ..Now::at(UNIX + second) }
}

fn id(number: u32) -> NodeId {
    NodeId(u128::from(number).to_be_bytes())
}

#[test]
fn those_count_of_which_news_came_lately() {
    let nodes = Nodes::default();
    assert_eq!(nodes.count(at(0)), 1, "this one");
    assert!(nodes.merge(id(1), UNIX, at(0)));
    assert!(nodes.merge(id(2), UNIX - 50, at(10)), "its clock is late");
    assert!(!nodes.merge(id(1), UNIX, at(20)), "old news");
    for (second, expected) in [(20, 3), (29, 3), (30, 2), (39, 2), (40, 1)] {
        assert_eq!(nodes.count(at(second)), expected, "after {second} s");
    }
    assert!(nodes.merge(id(1), UNIX + 50, at(50)));
    assert_eq!(nodes.count(at(50)), 2, "it is there again");
}

#[test]
fn what_this_one_said_itself_is_no_news() {
    let nodes = Nodes::default();
    let Fact::Node { id, seen } = nodes.heartbeat(at(0)) else { panic!("another kind") };
    assert!(!nodes.merge(id, seen + 1, at(5)));
    assert_eq!((nodes.count(at(5)), nodes.facts(at(5)).len()), (1, 0));
    assert_ne!(Nodes::default().heartbeat(at(0)), nodes.heartbeat(at(0)), "each start has a name of its own");
}

#[test]
fn are_bounded_and_those_that_were_there_last_stay() {
    let nodes = Nodes::default();
    let most = u32::try_from(MAX).unwrap();
    for number in (0..2 * most).rev() {
        let is_kept = nodes.merge(id(number), UNIX - 80 + u64::from(number / most), at(0));
        assert_eq!(is_kept, number >= most, "{number}");
    }
    assert_eq!(nodes.lock().len(), MAX);
    assert!(nodes.facts(at(0)).iter().all(|fact| matches!(fact, Fact::Node { seen, .. } if *seen == UNIX - 79)));
    assert_eq!(nodes.count(at(31)), 1);
    assert_eq!(nodes.facts(at(20)), [], "what is over is told nobody");
}

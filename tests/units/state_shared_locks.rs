use super::*;

const UNIX: u64 = 1_800_000_000;

fn at(second: u64) -> Now {
    Now { monotonic: Duration::from_secs(1000 + second), ..Now::at(UNIX + second) }
}

fn place(number: u32) -> Place {
    (std::net::IpAddr::from(number.to_be_bytes()).into(), Budget::Client)
}

fn left(locks: &SharedLocks, number: u32, second: u64) -> u64 {
    locks.left(&place(number), at(second).monotonic).as_secs()
}

#[test]
fn one_ends_when_it_says_and_after_a_quarter_of_an_hour_at_the_latest() {
    for (until, expected) in [(0, 0), (1, 1), (60, 60), (899, 899), (900, 900), (901, 900), (960, 900)] {
        let mut locks = SharedLocks::default();
        assert_eq!(locks.merge(place(1), UNIX + until, at(0)), until > 0, "{until}");
        assert_eq!(left(&locks, 1, 0), expected, "{until}");
        assert_eq!(left(&locks, 2, 0), 0, "another address");
        locks.merge(place(1), UNIX + until, at(30));
        assert_eq!(left(&locks, 1, 30), expected.saturating_sub(30), "{until}: it is told again");
    }
}

#[test]
fn the_later_end_counts() {
    let mut locks = SharedLocks::default();
    assert!(locks.merge(place(1), UNIX + 100, at(0)));
    assert!(!locks.merge(place(1), UNIX + 99, at(0)));
    assert_eq!(left(&locks, 1, 0), 100);
    assert!(locks.merge(place(1), UNIX + 200, at(10)));
    assert_eq!(left(&locks, 1, 10), 190);
    assert_eq!(locks.facts(at(10)), [Fact::Lock { network: place(1).0, budget: Budget::Client, until: UNIX + 200 }]);
    assert_eq!(locks.facts(at(200)), []);
}

#[test]
fn keys_that_were_evaluated_count_until_it_ends() {
    let mut locks = SharedLocks::default();
    locks.merge(place(1), UNIX + 100, at(0));
    *locks.evaluated(&place(1)).unwrap() = 7;
    locks.merge(place(1), UNIX + 200, at(50));
    assert_eq!(locks.evaluated(&place(1)), Some(&mut 7), "it goes on");
    locks.merge(place(1), UNIX + 400, at(300));
    assert_eq!(locks.evaluated(&place(1)), Some(&mut 0), "another one");
    assert_eq!(locks.evaluated(&place(2)), None);
}

#[test]
fn one_that_began_here_is_told_but_counted_elsewhere() {
    let mut locks = SharedLocks::default();
    locks.begin(place(1), UNIX + 100, at(0));
    assert_eq!(left(&locks, 1, 0), 0);
    assert!(!locks.merge(place(1), UNIX + 100, at(1)), "it comes back");
    assert_eq!(left(&locks, 1, 1), 0);
    assert_eq!(locks.facts(at(1)).len(), 1);
    assert!(locks.merge(place(1), UNIX + 101, at(1)), "another machine has locked the same");
    assert_eq!(left(&locks, 1, 1), 100);
}

#[test]
fn are_bounded_and_those_that_last_longest_stay() {
    let most = u32::try_from(MAX).unwrap();
    let mut locks = SharedLocks::default();
    for number in (0..2 * most).rev() {
        let is_kept = locks.merge(place(number), UNIX + 60 + u64::from(number / most), at(0));
        assert_eq!(is_kept, number >= most, "{number}");
    }
    assert_eq!(locks.0.len(), MAX);
    assert!(left(&locks, most, 0) > 0 && left(&locks, 0, 0) == 0);
    assert!(locks.merge(place(0), UNIX + 200, at(100)), "the others are over");
    assert_eq!(locks.0.len(), 1);
}

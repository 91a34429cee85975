use proptest::collection::vec;
use proptest::prelude::*;

use super::super::generations::GENERATION;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn address(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

/// A client that other machines don't know.
fn own(address: IpAddr) -> Client {
    Client { address, is_shared: false }
}

fn at(monotonic: Duration) -> Now {
    Now { monotonic, ..Now::at(1_800_000_000 + monotonic.as_secs()) }
}

fn guess(throttle: &Throttle, from: IpAddr, number: usize, now: Duration) -> Result<(), Duration> {
    throttle.failed(own(from), Budget::Client, &[Digest::of(&number.to_be_bytes())], at(now))
}

fn evaluate(throttle: &Throttle, from: IpAddr) -> Result<(), Duration> {
    throttle.evaluate(own(from), Budget::Client, SECOND)
}

fn permits(throttle: &Throttle, from: IpAddr, long: Option<KeyId>, now: Duration) -> Result<(), Duration> {
    throttle.permits(own(from), Budget::Client, long, now)
}

/// Ten distinct guesses, all evaluated.
fn lock(throttle: &Throttle, from: IpAddr, now: Duration) {
    for number in 0..MAX_FAILURES {
        assert_eq!(guess(throttle, from, number, now), Ok(()), "guess {number}");
    }
}

#[test]
fn ten_distinct_guesses_lock_and_locks_double_up_to_a_quarter_of_an_hour() {
    let throttle = Throttle::default();
    let mut now = SECOND;
    for expected in [60, 120, 240, 480, 900, 900] {
        lock(&throttle, address(1), now);
        assert_eq!(guess(&throttle, address(1), 0, now), Err(SECOND * expected));
        assert_eq!(guess(&throttle, address(2), 0, now), Ok(()), "others are free");
        now += SECOND * expected;
    }
    now += MAX_LOCK + SECOND;
    lock(&throttle, address(1), now);
    assert_eq!(guess(&throttle, address(1), 0, now), Err(FIRST_LOCK), "a quiet quarter of an hour is forgiven");
}

#[test]
fn long_keys_that_were_good_before_the_lock_still_pass() {
    let throttle = Throttle::default();
    let (known, unknown) = (KeyId([1; 16]), KeyId([2; 16]));
    throttle.succeeded(address(1), known);
    lock(&throttle, address(1), SECOND);
    assert_eq!(permits(&throttle, address(1), Some(known), SECOND), Ok(()));
    assert_eq!(permits(&throttle, address(1), Some(unknown), SECOND), Err(FIRST_LOCK));
    assert_eq!(permits(&throttle, address(1), None, SECOND), Err(FIRST_LOCK), "a short one");
    assert_eq!(permits(&throttle, address(2), Some(unknown), SECOND), Ok(()), "elsewhere it is good");
    assert_eq!(permits(&throttle, address(1), Some(unknown), SECOND + FIRST_LOCK), Ok(()));
}

#[test]
fn ten_are_evaluated_in_a_lock_right_or_wrong() {
    for (wrong, right) in [(0, 10), (4, 6), (10, 0), (3000, 0)] {
        let throttle = Throttle::default();
        lock(&throttle, address(1), SECOND);
        for number in 0..wrong {
            assert_eq!(guess(&throttle, address(1), number, SECOND), Err(FIRST_LOCK), "a wrong one is told the lock");
        }
        for number in 0..right {
            assert_eq!(evaluate(&throttle, address(1)), Ok(()), "{number} after {wrong}");
        }
        assert_eq!(evaluate(&throttle, address(1)), Err(FIRST_LOCK), "after {wrong} and {right}");
        assert_eq!(evaluate(&throttle, address(2)), Ok(()), "others are free");
        let later = SECOND + FIRST_LOCK;
        lock(&throttle, address(1), later);
        assert_eq!(
            throttle.evaluate(own(address(1)), Budget::Client, later),
            Ok(()),
            "the next lock has ten of its own"
        );
    }
}

#[test]
fn what_is_no_key_takes_no_evaluation() {
    let throttle = Throttle::default();
    let malformed = |now| throttle.failed(own(address(1)), Budget::Client, &[], at(now));
    for _ in 0..100 {
        assert_eq!(malformed(SECOND), Ok(()));
    }
    lock(&throttle, address(1), SECOND);
    for _ in 0..100 {
        assert_eq!(malformed(SECOND), Err(FIRST_LOCK));
    }
    assert_eq!(evaluate(&throttle, address(1)), Ok(()));
}

#[test]
fn what_any_page_can_send_locks_nothing_else() {
    for (locked, other) in [(Budget::AnyPage, Budget::Client), (Budget::Client, Budget::AnyPage)] {
        let throttle = Throttle::default();
        let guess = |budget, number: usize| {
            throttle.failed(own(address(1)), budget, &[Digest::of(&number.to_be_bytes())], at(SECOND))
        };
        for number in 0..MAX_FAILURES {
            guess(locked, number).unwrap();
        }
        for number in 0..3000 {
            guess(locked, number).unwrap_err();
        }
        assert_eq!(throttle.permits(own(address(1)), locked, None, SECOND), Err(FIRST_LOCK));
        assert_eq!(throttle.permits(own(address(1)), other, None, SECOND), Ok(()), "{other:?}");
        for number in 0..MAX_FAILURES {
            guess(other, number).unwrap();
        }
        assert_eq!(throttle.evaluate(own(address(1)), other, SECOND), Ok(()), "nor takes its evaluations");
        assert_eq!(throttle.evaluate(own(address(1)), locked, SECOND), Err(FIRST_LOCK));
    }
}

#[test]
fn what_was_noted_lately_is_known_until_somebody_is_locked() {
    let throttle = Throttle::default();
    let [noted, other] = [1_u128, 2].map(|number| KeyId(number.to_be_bytes()));
    assert!(!throttle.knows(1, noted, SECOND));
    throttle.note(1, noted);
    assert!(throttle.knows(1, noted, SECOND));
    assert!(!throttle.knows(1, other, SECOND));
    assert!(!throttle.knows(2, noted, SECOND));
    lock(&throttle, address(3), SECOND);
    assert!(!throttle.knows(1, noted, SECOND), "now the tables must be asked");
}

#[test]
fn one_value_repeated_is_no_attack() {
    let throttle = Throttle::default();
    for second in 0..1000 {
        assert_eq!(guess(&throttle, address(1), 7, SECOND * second), Ok(()));
    }
}

#[test]
fn slow_guesses_do_not_add_up() {
    let throttle = Throttle::default();
    for number in 0..100 {
        assert_eq!(guess(&throttle, address(1), number, SECOND * (7 * u32::try_from(number).unwrap())), Ok(()));
    }
}

/// Whether guesses of these addresses add up.
fn is_one(addresses: &[&str]) -> bool {
    let throttle = Throttle::default();
    let mut all = addresses.iter().cycle().map(|text| text.parse().unwrap());
    (0..MAX_FAILURES).for_each(|number| _ = guess(&throttle, all.next().unwrap(), number, SECOND));
    addresses.iter().all(|text| guess(&throttle, text.parse().unwrap(), 0, SECOND).is_err())
}

#[test]
fn what_counts_as_one_address() {
    for (addresses, expected) in [
        (&["192.0.2.1", "::ffff:192.0.2.1"][..], true),
        (&["192.0.2.1", "192.0.2.2"], false),
        (&["2001:db8::1", "2001:db8::ffff", "2001:db8::ffff:0:0:1"], true),
        (&["2001:db8::1", "2001:db8:0:1::1"], false),
        (&["127.0.0.1", "127.7.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:127.9.9.9"], true),
        (&["127.0.0.1", "128.0.0.1"], false),
        (&["::1", "::2"], false),
        (&["127.0.0.1", "::127.0.0.1"], false),
        (&["127.0.0.1", "126.255.255.255"], false),
    ] {
        assert_eq!(is_one(addresses), expected, "{addresses:?}");
    }
}

#[test]
fn memory_is_bounded_and_what_is_used_stays() {
    let throttle = Throttle::default();
    let key = KeyId([1; 16]);
    throttle.succeeded(address(1), key);
    for number in 2..200_000 {
        guess(&throttle, address(number), 0, SECOND).unwrap();
        throttle.failed(own(address(number)), Budget::AnyPage, &[Digest::of(b"")], at(SECOND)).unwrap();
        throttle.succeeded(address(number), key);
        if number % 10_000 == 0 {
            throttle.succeeded(address(1), key);
        }
    }
    lock(&throttle, address(1), SECOND);
    assert_eq!(permits(&throttle, address(1), Some(key), SECOND), Ok(()));
    let tables = throttle.tables.lock().unwrap();
    for length in [tables.failing.len(), tables.good.len()] {
        assert!(length <= 2 * GENERATION, "{length}");
    }
}

/// A slow version of what the design says: what happened to one address, in one budget.
#[derive(Default)]
struct Slow {
    guesses: Vec<(u8, Duration)>,
    lock: Option<(Duration, Duration)>,
    evaluated: usize,
    locks: u32,
}

impl Slow {
    fn left(&self, now: Duration) -> Option<Duration> {
        self.lock.and_then(|(_, end)| end.checked_sub(now)).filter(|left| !left.is_zero())
    }

    fn failed(&mut self, value: u8, now: Duration) -> Result<(), Duration> {
        if let Some(left) = self.left(now) {
            self.evaluated += 1;
            return Err(left);
        }
        self.guesses.push((value, now));
        // Each value counts from when it was first seen. Guessing it again within that minute changes nothing.
        let mut distinct: Vec<(u8, Duration)> = Vec::new();
        for &(value, at) in &self.guesses {
            distinct.retain(|&(_, first)| first + WINDOW > at);
            if distinct.iter().all(|&(known, _)| known != value) {
                distinct.push((value, at));
            }
        }
        if distinct.len() >= 10 {
            let forgiven = self.lock.is_none_or(|(_, end)| now > end + Duration::from_secs(900));
            self.locks = if forgiven { 1 } else { self.locks + 1 };
            let length = Duration::from_secs([60, 120, 240, 480, 900][self.locks.min(5) as usize - 1]);
            (self.lock, self.evaluated) = (Some((now, now + length)), 0);
            self.guesses.clear();
        }
        Ok(())
    }

    fn evaluate(&mut self, now: Duration) -> bool {
        self.evaluated += usize::from(self.left(now).is_some());
        self.left(now).is_none() || self.evaluated <= 10
    }
}

proptest! {
    /// Any history of two addresses and both budgets, with wrong keys, right ones, and pauses.
    #[test]
    fn does_what_the_design_says(steps in vec((0..2_u32, any::<bool>(), 0..14_u8, 0..40_u64), 1..200)) {
        let throttle = Throttle::default();
        let mut slow: [[Slow; 2]; 2] = Default::default();
        let (mut now, mut begun) = (SECOND, 0);
        for (from, by_page, what, pause) in steps {
            let budget = if by_page { Budget::AnyPage } else { Budget::Client };
            let model = &mut slow[from as usize][usize::from(by_page)];
            // Mostly short pauses, and some that are longer than a lock.
            now += if pause == 39 { SECOND * 600 } else { SECOND * u32::try_from(pause / 4).unwrap() };
            prop_assert_eq!(throttle.permits(own(address(from)), budget, None, now).err(), model.left(now));
            if what == 13 {
                // Only keys that a lock holds back are evaluated.
                if model.left(now).is_some() {
                    prop_assert_eq!(throttle.evaluate(own(address(from)), budget, now).is_ok(), model.evaluate(now));
                }
            } else {
                let wrong = [Digest::of(&[what])];
                let was_locked = model.left(now).is_some();
                prop_assert_eq!(throttle.failed(own(address(from)), budget, &wrong, at(now)), model.failed(what, now));
                begun += u64::from(!was_locked && model.left(now).is_some());
            }
            let in_force = slow.iter().flatten().filter(|model| model.left(now).is_some()).count();
            prop_assert_eq!(throttle.locks(now), Locks { begun, in_force });
            prop_assert!(throttle.locks_anybody(now) || slow.iter().flatten().all(|model| model.left(now).is_none()));
        }
    }
}

/// A client that other machines know by the same address.
fn shared(address: IpAddr) -> Client {
    Client { address, is_shared: true }
}

fn told(throttle: &Throttle) -> Vec<Fact> {
    throttle.changes.since(0).unwrap().1.iter().map(|change| change.fact).collect()
}

#[test]
fn locks_of_clients_that_others_know_are_told() {
    let throttle = Throttle::default();
    lock(&throttle, address(1), SECOND);
    assert_eq!((told(&throttle), throttle.facts(at(SECOND))), (vec![], vec![]), "others know another client by it");
    for number in 0..MAX_FAILURES {
        let wrong = [Digest::of(&number.to_be_bytes())];
        throttle.failed(shared(address(2)), Budget::AnyPage, &wrong, at(SECOND)).unwrap();
    }
    let until = at(SECOND + FIRST_LOCK).unix;
    let fact = Fact::Lock { network: address(2).into(), budget: Budget::AnyPage, until };
    assert_eq!((told(&throttle), throttle.facts(at(SECOND))), (vec![fact], vec![fact]));
    assert_eq!(throttle.begun().len(), 2);
    assert!(!throttle.merge(address(2).into(), Budget::AnyPage, until, at(SECOND)), "it comes back");
}

#[test]
fn a_lock_of_another_machine_counts_for_clients_that_it_knows() {
    let throttle = Throttle::default();
    let known = KeyId([1; 16]);
    throttle.succeeded(address(1), known);
    let client = shared(address(1));
    let permits = |client, budget, long, now| throttle.permits(client, budget, long, now);
    assert!(throttle.merge(address(1).into(), Budget::Client, at(SECOND * 31).unix, at(SECOND)));
    assert!(throttle.locks_anybody(SECOND));
    let left = Err(SECOND * 30);
    assert_eq!(permits(client, Budget::Client, None, SECOND), left);
    assert_eq!(permits(client, Budget::Client, Some(KeyId([2; 16])), SECOND), left);
    assert_eq!(permits(client, Budget::Client, Some(known), SECOND), Ok(()), "a long key that was good before");
    assert_eq!(permits(client, Budget::AnyPage, None, SECOND), Ok(()), "of something else");
    assert_eq!(permits(own(address(1)), Budget::Client, None, SECOND), Ok(()), "another client of this address");
    assert_eq!(permits(shared(address(2)), Budget::Client, None, SECOND), Ok(()));
    assert_eq!(permits(client, Budget::Client, None, SECOND * 31), Ok(()), "it is over");
    assert!(!throttle.locks_anybody(SECOND * 31));
    assert_eq!((told(&throttle), throttle.begun()), (vec![], vec![]), "it did not begin here");
}

#[test]
fn ten_are_evaluated_in_a_lock_of_another_machine() {
    let throttle = Throttle::default();
    throttle.merge(address(1).into(), Budget::Client, at(SECOND * 61).unix, at(SECOND));
    let client = shared(address(1));
    for number in 0..4_u8 {
        let wrong = throttle.failed(client, Budget::Client, &[Digest::of(&[number])], at(SECOND));
        assert_eq!(wrong, Err(FIRST_LOCK), "a wrong one is told the lock");
    }
    for _ in 0..6 {
        assert_eq!(throttle.evaluate(client, Budget::Client, SECOND), Ok(()));
    }
    assert_eq!(throttle.evaluate(client, Budget::Client, SECOND), Err(FIRST_LOCK));
    for number in 4..13_u8 {
        let wrong = throttle.failed(client, Budget::Client, &[Digest::of(&[number])], at(SECOND * 61));
        assert_eq!(wrong, Ok(()), "nothing that was guessed in the lock counts after it");
    }
    throttle.failed(client, Budget::Client, &[Digest::of(&[13])], at(SECOND * 61)).unwrap();
    assert_eq!(throttle.evaluate(client, Budget::Client, SECOND * 61), Ok(()), "the next lock has ten of its own");
    assert_eq!(throttle.permits(client, Budget::Client, None, SECOND * 61), Err(FIRST_LOCK));
}

#[test]
fn the_longer_of_two_locks_counts() {
    for (elsewhere, expected) in [(30, 60), (90, 90)] {
        let throttle = Throttle::default();
        let client = shared(address(1));
        for number in 0..MAX_FAILURES {
            let wrong = [Digest::of(&number.to_be_bytes())];
            throttle.failed(client, Budget::Client, &wrong, at(SECOND)).unwrap();
        }
        throttle.merge(address(1).into(), Budget::Client, at(SECOND * (1 + elsewhere)).unix, at(SECOND));
        let expected = Err(SECOND * expected);
        assert_eq!(throttle.permits(client, Budget::Client, None, SECOND), expected);
        assert_eq!(throttle.failed(client, Budget::Client, &[], at(SECOND)), expected);
    }
}

#[test]
fn what_others_say_makes_this_machine_forget_no_guess_and_no_lock() {
    let throttle = Throttle::default();
    lock(&throttle, address(1), SECOND);
    (0..MAX_FAILURES - 1).for_each(|number| guess(&throttle, address(2), number, SECOND).unwrap());
    for number in 0..70_000 {
        throttle.merge(address(1000 + number).into(), Budget::Client, at(SECOND * 900).unix, at(SECOND));
    }
    assert_eq!(permits(&throttle, address(1), None, SECOND), Err(FIRST_LOCK));
    guess(&throttle, address(2), 99, SECOND).unwrap();
    assert_eq!(permits(&throttle, address(2), None, SECOND), Err(FIRST_LOCK), "the tenth");
    assert!(throttle.facts(at(SECOND)).len() <= super::super::shared_locks::MAX);
}

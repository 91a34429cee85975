use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn address(number: u32) -> IpAddr {
    IpAddr::from(number.to_be_bytes())
}

fn guess(throttle: &Throttle, from: IpAddr, number: usize, now: Duration) -> Result<(), Duration> {
    throttle.failed(from, &[Digest::of(&number.to_be_bytes())], now)
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
fn what_was_good_before_the_lock_still_passes() {
    let throttle = Throttle::default();
    let (known, unknown) = (KeyId([1; 16]), KeyId([2; 16]));
    throttle.succeeded(address(1), known);
    lock(&throttle, address(1), SECOND);
    assert_eq!(throttle.permits(address(1), known, SECOND), Ok(()));
    assert_eq!(throttle.permits(address(1), unknown, SECOND), Err(FIRST_LOCK));
    assert_eq!(throttle.permits(address(2), unknown, SECOND), Ok(()), "elsewhere it is good");
    assert_eq!(throttle.permits(address(1), unknown, SECOND + FIRST_LOCK), Ok(()));
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

#[test]
fn an_ipv6_client_cannot_hop_within_its_network() {
    let throttle = Throttle::default();
    for number in 0..MAX_FAILURES {
        guess(&throttle, format!("2001:db8::{number:x}").parse().unwrap(), number, SECOND).unwrap();
    }
    assert!(guess(&throttle, "2001:db8::ffff".parse().unwrap(), 0, SECOND).is_err());
    assert!(guess(&throttle, "2001:db8:0:1::1".parse().unwrap(), 0, SECOND).is_ok());
}

#[test]
fn memory_is_bounded_and_what_is_used_stays() {
    let throttle = Throttle::default();
    let key = KeyId([1; 16]);
    throttle.succeeded(address(0), key);
    for number in 1..200_000 {
        guess(&throttle, address(number), 0, SECOND).unwrap();
        throttle.succeeded(address(number), key);
        if number % 10_000 == 0 {
            throttle.succeeded(address(0), key);
        }
    }
    lock(&throttle, address(0), SECOND);
    assert_eq!(throttle.permits(address(0), key, SECOND), Ok(()));
    let tables = throttle.tables.lock().unwrap();
    for (young, old) in
        [(tables.failing.young.len(), tables.failing.old.len()), (tables.good.young.len(), tables.good.old.len())]
    {
        assert!(young <= GENERATION && old <= GENERATION);
    }
}

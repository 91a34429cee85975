use super::*;
use crate::keys::{Keys, parse_file};

const UNIX: u64 = 1_800_000_000;
const NOW: Now = Now::at(UNIX);
const DAY: u64 = 24 * 60 * 60;

fn keys() -> Keys {
    Keys::new(&parse_file("f", b"one\ntwo\n").unwrap())
}

fn key<'k>(keys: &'k Keys, text: &str) -> &'k Entry {
    keys.verify(text.as_bytes(), NOW).ok().unwrap()
}

fn network(address: &str) -> Network {
    address.parse::<std::net::IpAddr>().unwrap().into()
}

/// One fact of each kind.
fn each(key: KeyId) -> [Fact; 6] {
    [
        Fact::LogOut { key, session: SessionId([3; 16]), issued: UNIX - 10, expires: UNIX + 10 },
        Fact::EarlierSessions { key, issued: UNIX - 10 },
        Fact::Revocation { key, at: UNIX - 10, until: UNIX + 365 * DAY },
        Fact::Lock { network: network("192.0.2.1"), budget: Budget::AnyPage, until: UNIX + 60 },
        Fact::Prompt { key, time: UNIX * 1000 - 1, id: 7 },
        Fact::Node { id: NodeId([9; 16]), seen: UNIX },
    ]
}

fn written(fact: &Fact, key: &Entry) -> (Record, Option<Mac>) {
    let mac = fact.key().map(|_| fact.sign(key));
    (fact.record(mac.as_ref()), mac)
}

#[test]
fn what_is_written_is_read_again() {
    let keys = keys();
    let one = key(&keys, "one");
    for (fact, kind, length) in
        each(one.id()).iter().zip(*b"seklpn").zip([66, 42, 50, 27, 50, 26]).map(|((f, k), l)| (f, k, l))
    {
        let (record, mac) = written(fact, one);
        assert_eq!(Fact::read(&record, NOW), Some((*fact, mac)), "{fact:?}");
        assert_eq!((record.name[0], record.value.len()), (kind, length), "{fact:?}");
        assert!(record.name.len() <= MAX_NAME && record.until > UNIX);
    }
}

#[test]
fn no_two_facts_have_one_name_but_later_ones_of_a_lock_or_a_machine() {
    let keys = keys();
    let (one, two) = (key(&keys, "one"), key(&keys, "two"));
    let name = |fact: &Fact, key| written(fact, key).0.name;
    let [lock, node] = [3, 5].map(|index: usize| each(one.id())[index]);
    for (first, second, is_one) in [
        (each(one.id())[0], each(two.id())[0], false),
        (Fact::Prompt { key: one.id(), time: 1, id: 1 }, Fact::Prompt { key: one.id(), time: 1, id: 2 }, false),
        (lock, Fact::Lock { network: network("192.0.2.1"), budget: Budget::AnyPage, until: UNIX + 61 }, true),
        (lock, Fact::Lock { network: network("192.0.2.1"), budget: Budget::Client, until: UNIX + 60 }, false),
        (node, Fact::Node { id: NodeId([9; 16]), seen: UNIX + 1 }, true),
        (node, Fact::Node { id: NodeId([8; 16]), seen: UNIX }, false),
    ] {
        let signer = |fact: &Fact| if fact.key() == Some(two.id()) { two } else { one };
        assert_eq!(name(&first, signer(&first)) == name(&second, signer(&second)), is_one, "{first:?} {second:?}");
    }
}

#[test]
fn whatever_is_changed_of_a_record_it_is_none_or_another_without_a_signature() {
    let keys = keys();
    let one = key(&keys, "one");
    for fact in each(one.id()) {
        let (record, _) = written(&fact, one);
        let tells_no_more = |changed: &Record, what: &str| match Fact::read(changed, NOW) {
            None => {}
            Some((told, Some(mac))) => assert!(!told.is_signed(one, &mac), "{what} of {fact:?}"),
            Some((told, None)) => assert!(told.key().is_none() && told != fact, "{what} of {fact:?}"),
        };
        for bit in 0..record.value.len() * 8 {
            let mut changed = record.clone();
            changed.value[bit / 8] ^= 1 << (bit % 8);
            tells_no_more(&changed, "a bit of the value");
            // The name is part of what is said: anyone who changes both only says something else.
            if let Some((told, mac)) = Fact::parse(&changed.value) {
                tells_no_more(&told.record(mac.as_ref()), "a bit of both");
            }
        }
        for name in [&b""[..], b"s", &[record.name.as_slice(), b"x"].concat(), &vec![b's'; 10_000]] {
            assert_eq!(Fact::read(&Record { name: name.to_vec(), ..record.clone() }, NOW), None);
        }
        for value in
            [&record.value[..record.value.len() - 1], &[record.value.as_slice(), b"x"].concat(), &vec![1; 1 << 20], b""]
        {
            assert_eq!(Fact::read(&Record { value: value.to_vec(), ..record.clone() }, NOW), None);
        }
        for until in [0, UNIX, record.until - 1, record.until + 1, u64::MAX] {
            assert_eq!(Fact::read(&Record { until, ..record.clone() }, NOW), None, "until {until}");
        }
    }
}

#[test]
fn only_who_knows_a_key_can_say_something_of_it() {
    let keys = keys();
    let (one, two) = (key(&keys, "one"), key(&keys, "two"));
    for fact in each(one.id()).into_iter().filter(|fact| fact.key().is_some()) {
        assert!(fact.is_signed(one, &fact.sign(one)), "{fact:?}");
        assert!(!fact.is_signed(one, &fact.sign(two)), "{fact:?} by another key");
        assert!(!fact.is_signed(two, &fact.sign(two)), "{fact:?} by another key, judged by it");
    }
    let macs: std::collections::HashSet<_> = each(one.id()).iter().map(|fact| fact.sign(one)).collect();
    assert_eq!(macs.len(), 6, "no signature is good for another kind");
}

#[test]
fn a_fact_counts_from_its_time_to_a_minute_after_its_end() {
    let id = KeyId([1; 16]);
    let log_out = |issued, expires| Fact::LogOut { key: id, session: SessionId([3; 16]), issued, expires };
    let earlier = |issued| Fact::EarlierSessions { key: id, issued };
    let revocation = |at, until| Fact::Revocation { key: id, at, until };
    let lock = |until| Fact::Lock { network: network("192.0.2.1"), budget: Budget::Client, until };
    let prompt = |time| Fact::Prompt { key: id, time, id: 1 };
    let node = |seen| Fact::Node { id: NodeId([9; 16]), seen };
    let month = 30 * DAY;
    for (name, fact, is_current) in [
        ("a session that ended a minute ago", log_out(UNIX - DAY, UNIX - 60), false),
        ("a little less", log_out(UNIX - DAY, UNIX - 59), true),
        ("one for a month", log_out(UNIX, UNIX + month), true),
        ("one for more", log_out(UNIX, UNIX + month + 1), false),
        ("one of a clock that is a day ahead", log_out(UNIX + DAY, UNIX + DAY + month), true),
        ("one of a clock that is more ahead", log_out(UNIX + DAY + 1, UNIX + 2 * DAY), false),
        ("one of the end of time", log_out(u64::MAX, u64::MAX), false),
        ("the sessions of a month ago", earlier(UNIX - month - 59), true),
        ("those before", earlier(UNIX - month - 60), false),
        ("those of tomorrow", earlier(UNIX + DAY), true),
        ("those after tomorrow", earlier(UNIX + DAY + 1), false),
        ("for 400 days", revocation(UNIX, UNIX + 400 * DAY), true),
        ("for longer", revocation(UNIX, UNIX + 400 * DAY + 1), false),
        ("long over", revocation(UNIX - 400 * DAY, UNIX - 60), false),
        ("nearly over", revocation(UNIX - 400 * DAY, UNIX - 59), true),
        ("a lock for a quarter of an hour, by a clock that is a minute ahead", lock(UNIX + 960), true),
        ("a longer one", lock(UNIX + 961), false),
        ("one that was over a minute ago", lock(UNIX - 60), false),
        ("a prompt of yesterday", prompt((UNIX - DAY - 59) * 1000), true),
        ("of the day before", prompt((UNIX - DAY - 60) * 1000), false),
        ("of a clock that is a minute ahead", prompt((UNIX + 60) * 1000), true),
        ("of one that is more ahead", prompt((UNIX + 60) * 1000 + 1), false),
        ("a machine that was there lately", node(UNIX - 89), true),
        ("a while ago", node(UNIX - 90), false),
        ("by a clock that is a minute ahead", node(UNIX + 60), true),
        ("by one that is more ahead", node(UNIX + 61), false),
    ] {
        assert_eq!(fact.is_current(NOW), is_current, "{name}");
        let mac = fact.key().map(|_| [0; 16]);
        assert_eq!(Fact::read(&fact.record(mac.as_ref()), NOW).is_some(), is_current, "{name}");
    }
}

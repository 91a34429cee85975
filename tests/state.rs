//! What machines tell each other: whatever the order and however often it arrives, all know the same in the end. And
//! anyone who can write to a store can do no lasting harm.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use comfy_auth_rs::keys::{Entry, KeyId, KeyStore, Keys, Quota, Rate, Window, parse_file};
use comfy_auth_rs::request::Now;
use comfy_auth_rs::secret::Digest;
use comfy_auth_rs::session::{Session, SessionId};
use comfy_auth_rs::state::State;
use comfy_auth_rs::state::fact::{Fact, Record};
use comfy_auth_rs::state::network::Network;
use comfy_auth_rs::state::nodes::NodeId;
use comfy_auth_rs::state::throttle::{Budget, Client};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

const UNIX: u64 = 1_800_000_000;
const DAY: u64 = 24 * 60 * 60;

/// The keys of every machine. The last key belongs to nobody.
const FILE: &str = "one\ntwo user=alice prompts=9/d\nthree user=alice prompts=5/h queued=2\n";
const NAMES: [&str; 4] = ["one", "two", "three", "four"];

static PATH: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    fs::write(&path, FILE).unwrap();
    (folder, path)
});

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let all = NAMES.join("\n");
    Keys::new(&parse_file("keys", all.as_bytes()).unwrap())
});

fn key(number: usize) -> &'static Entry {
    KEYS.verify(NAMES[number].as_bytes(), at(0)).ok().unwrap()
}

/// This many seconds after the start, by all clocks.
fn at(second: u64) -> Now {
    Now { monotonic: Duration::from_secs(1000 + second), unix: UNIX + second, ahead: (UNIX - 1000) * 1000 }
}

struct Machine {
    keys: KeyStore,
    state: State,
}

impl Machine {
    fn new() -> Self {
        Self { keys: KeyStore::open(&[], std::slice::from_ref(&PATH.1)).unwrap(), state: State::default() }
    }

    fn knowing(records: &[Record]) -> Self {
        let machine = Self::new();
        machine.learn(records);
        machine
    }

    fn learn(&self, records: &[Record]) -> usize {
        self.learn_at(records, at(0))
    }

    fn learn_at(&self, records: &[Record], now: Now) -> usize {
        let news = records.chunks(100).map(|some| self.state.merge(&self.keys, some, now)).sum();
        self.keys.look(now.monotonic);
        self.state.log_outs.noted(self.state.log_outs.begin_look());
        news
    }

    /// Everything that it would tell a store, except that it is running.
    fn tells(&self, now: Now) -> BTreeSet<Record> {
        let (_, records) = self.state.all(&self.keys, now);
        let own = self.state.nodes.heartbeat(now).record(None);
        records.into_iter().filter(|record| *record != own).collect()
    }

    fn tells_all(&self) -> Vec<Record> {
        self.tells(at(0)).into_iter().collect()
    }

    /// Everything that it knows.
    fn knows(&self) -> (BTreeSet<Record>, BTreeSet<Fact>) {
        (self.tells(at(0)), self.state.nodes.facts(at(0)).into_iter().collect())
    }

    fn admits(&self, number: usize) -> bool {
        self.keys.current().verify(NAMES[number].as_bytes(), at(0)).is_ok()
    }

    /// What requests notice of it. It grows with what is known: each number says how much is forbidden.
    fn forbids(&self) -> Vec<u64> {
        let mut seen: Vec<u64> = (0..3).map(|number| u64::from(!self.admits(number))).collect();
        seen.extend(sessions().map(|session| u64::from(self.state.log_outs.contains(&session))));
        let locks = clients().map(|(client, budget)| {
            let refused = self.state.throttle.permits(client, budget, None, at(0).monotonic).err();
            refused.map_or(0, |left| left.as_secs())
        });
        seen.extend(locks);
        for window in [Window::Minute, Window::Hour, Window::Day] {
            let quota = Quota { prompts: Some(Rate { most: 100, window }), queued: None };
            let left = self.state.limits.allowance("alice", quota, at(0).latest_millis());
            seen.push(u64::from(100 - left.prompts.unwrap().left));
        }
        seen
    }
}

fn sessions() -> impl Iterator<Item = Session> {
    let all = (0..3).flat_map(|number| (0..12).map(move |beginning| (number, beginning)));
    all.map(|(number, beginning)| session(number, beginning))
}

/// One of a few sessions of a key.
fn session(number: usize, beginning: u64) -> Session {
    let issued = UNIX - 2 * DAY + beginning * DAY / 5;
    let id = SessionId([u8::try_from(beginning % 5).unwrap(); 16]);
    Session { key: key(number).id(), id, issued, expires: issued + DAY }
}

fn clients() -> impl Iterator<Item = (Client, Budget)> {
    let addresses = (0..4_u8).map(|number| Client { address: [10, 0, 0, number].into(), is_shared: true });
    addresses.flat_map(|client| [Budget::Client, Budget::AnyPage].map(|budget| (client, budget)))
}

/// What a machine may say, and what none would: about few keys, sessions and addresses, so that facts often meet.
fn fact() -> impl Strategy<Value = (usize, Fact)> {
    fact_of(b"seklpn")
}

/// The same, only of some kinds.
fn fact_of(kinds: &'static [u8]) -> impl Strategy<Value = (usize, Fact)> + Clone {
    let numbers = (0..NAMES.len(), 0..12_u64, any::<u8>());
    let times = prop_oneof![
        4 => (0..3000_u64).prop_map(|ago| UNIX - ago),
        2 => (0..32 * DAY).prop_map(|ago| UNIX - ago),
        1 => (0..2 * DAY).prop_map(|ahead| UNIX + ahead),
        1 => select(vec![0, UNIX - 60, UNIX - 59, UNIX + 60, UNIX + 61, UNIX + 900, UNIX + 960, UNIX + 961, u64::MAX]),
    ];
    (select(kinds), numbers, times, 0..1_000_000_u64).prop_map(|(kind, (number, few, byte), time, after)| {
        let (id, byte) = (key(number).id(), byte % 6);
        let Session { id: session, issued, expires, .. } = session(number, few);
        let fact = match kind {
            b's' => Fact::LogOut { key: id, session, issued, expires },
            b'e' => Fact::EarlierSessions { key: id, issued: time },
            b'k' => Fact::Revocation { key: id, at: time, until: time.saturating_add(after) },
            b'l' => {
                let (client, budget) = clients().nth(usize::from(byte)).unwrap();
                Fact::Lock { network: client.address.into(), budget, until: time.saturating_add(after % 1000) }
            }
            b'p' => Fact::Prompt { key: id, time: time.saturating_mul(1000), id: few },
            _ => Fact::Node { id: NodeId([byte; 16]), seen: UNIX + 65 - after % 160 },
        };
        (number, fact)
    })
}

fn written((number, fact): (usize, Fact)) -> Record {
    let mac = fact.key().map(|_| fact.sign(key(number)));
    fact.record(mac.as_ref())
}

fn record() -> impl Strategy<Value = Record> {
    fact().prop_map(written)
}

/// Records in another order, some of them several times.
fn delivered(records: &[Record], order: &[Index]) -> Vec<Record> {
    let mut left = records.to_vec();
    let mut delivered: Vec<Record> = Vec::new();
    for (turn, index) in order.iter().enumerate() {
        if turn % 3 == 2 && !delivered.is_empty() {
            delivered.push(delivered[index.index(delivered.len())].clone());
        } else if !left.is_empty() {
            delivered.push(left.swap_remove(index.index(left.len())));
        }
    }
    delivered.extend(left);
    delivered
}

proptest! {
    #[test]
    fn any_order_and_any_repetition_leads_to_the_same(
        records in vec(record(), 0..60),
        order in vec(any::<Index>(), 0..120),
    ) {
        let machine = Machine::knowing(&records);
        let other = Machine::knowing(&delivered(&records, &order));
        prop_assert_eq!(machine.knows(), other.knows());
        prop_assert_eq!(machine.forbids(), other.forbids());
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent(parts in [vec(record(), 0..30), vec(record(), 0..30), vec(record(), 0..30)]) {
        let [a, b, c] = parts.map(|records| Machine::knowing(&records).tells_all());
        let both = |first: &[Record], second: &[Record]| {
            let machine = Machine::knowing(first);
            machine.learn(second);
            machine.tells_all()
        };
        prop_assert_eq!(both(&a, &b), both(&b, &a));
        prop_assert_eq!(both(&both(&a, &b), &c), both(&a, &both(&b, &c)));
        prop_assert_eq!(both(&a, &a), a.clone());
        prop_assert_eq!(Machine::knowing(&both(&a, &b)).learn(&a), 0, "what it told is no news to who knows more");
    }

    #[test]
    fn nothing_that_was_forbidden_is_allowed_by_what_is_learnt(records in vec(record(), 0..60)) {
        let machine = Machine::new();
        let mut before = machine.forbids();
        for record in records {
            let known = machine.knows();
            let news = machine.learn(std::slice::from_ref(&record));
            let after = machine.forbids();
            prop_assert!(before.iter().zip(&after).all(|(before, after)| before <= after), "{record:?}");
            prop_assert_eq!(news > 0, machine.knows() != known, "{:?}", record);
            before = after;
        }
    }

    #[test]
    fn what_is_over_is_nowhere_any_more(records in vec(record(), 0..60), later in prop_oneof![0..3000_u64, 0..500 * DAY]) {
        let machine = Machine::knowing(&records);
        let now = at(later);
        let until = now.unix;
        let expected: BTreeSet<_> = machine.tells(at(0)).into_iter().filter(|record| record.until > until).collect();
        let told: BTreeSet<_> = machine.tells(now);
        // A prompt counts for a day, and a lock until it ends. Others may hear of both for one more minute.
        prop_assert!(told.is_subset(&expected));
        let rest: Vec<_> = expected.difference(&told).collect();
        prop_assert!(rest.iter().all(|record| [b'p', b'l'].contains(&record.name[0]) && record.until <= until + 60));
        let over: Vec<_> = records.into_iter().filter(|record| record.until <= until).collect();
        prop_assert_eq!(Machine::new().learn_at(&over, now), 0);
    }

    #[test]
    fn one_without_a_key_ends_no_key_and_no_session_and_counts_no_prompt(
        known in vec(record(), 0..20),
        written in vec(written_by_a_stranger(), 0..60),
    ) {
        let machine = Machine::knowing(&known);
        let signed = |machine: &Machine| {
            machine.tells_all().into_iter().filter(|record| record.name[0] != b'l').collect::<Vec<_>>()
        };
        let (before, forbidden) = (signed(&machine), machine.forbids());
        machine.learn(&written);
        prop_assert_eq!(signed(&machine), before);
        let locks = 3 + sessions().count()..3 + sessions().count() + clients().count();
        for (place, (before, after)) in forbidden.iter().zip(machine.forbids()).enumerate() {
            prop_assert!(*before == after || (locks.contains(&place) && after <= 900), "{}", place);
        }
    }

    #[test]
    fn one_with_a_key_can_say_something_of_that_key_alone(
        facts in vec(fact(), 1..60),
        signer in 0..NAMES.len(),
    ) {
        let machine = Machine::new();
        let of_others = facts.iter().filter(|(number, _)| *number != signer).filter(|(_, fact)| fact.key().is_some());
        let records: Vec<_> = of_others.map(|(_, fact)| fact.record(Some(&fact.sign(key(signer))))).collect();
        prop_assert_eq!(machine.learn(&records), 0);
        prop_assert!(machine.tells_all().is_empty());
    }

    #[test]
    fn any_bytes_change_nothing(
        records in vec((vec(any::<u8>(), 0..70), vec(any::<u8>(), 0..170), prop_oneof![any::<u64>(), UNIX..UNIX + 500 * DAY]), 0..60),
        kind in select(b"seklpnx".to_vec()),
    ) {
        let records = records.into_iter().map(|(name, mut value, until)| {
            if let Some(beginning) = value.get_mut(..2) {
                beginning.copy_from_slice(&[1, kind]);
            }
            Record { name, value, until }
        });
        let machine = Machine::new();
        prop_assert_eq!(machine.learn(&records.collect::<Vec<_>>()), 0);
        prop_assert_eq!(machine.knows(), Machine::new().knows());
    }

    #[test]
    fn what_began_here_is_what_others_must_be_told(steps in vec((0..3_usize, 6..12_u64, 0..4_u8), 0..40)) {
        let machine = Machine::new();
        for (what, few, number) in steps {
            let owner = key(usize::from(number % 3));
            match what {
                0 => machine.state.log_outs.add(&session(usize::from(number % 3), few), owner, at(0)),
                1 => {
                    let quota = Quota { prompts: Some(Rate { most: 1000, window: Window::Day }), queued: None };
                    let ticket = machine.state.limits.reserve(key(1).id(), "alice", quota, at(0).latest_millis());
                    drop(ticket.ok().unwrap().queued(at(0).latest_millis()));
                }
                _ => {
                    let client = Client { address: [10, 0, 0, number].into(), is_shared: few % 3 > 0 };
                    for guess in 0..10_u8 {
                        _ = machine.state.throttle.failed(client, Budget::Client, &[Digest::of(&[guess])], at(0));
                    }
                }
            }
        }
        let (version, changes) = machine.state.changes_since(0, &machine.keys).unwrap();
        prop_assert_eq!(version, machine.state.changes.version());
        prop_assert_eq!(changes.iter().cloned().collect::<BTreeSet<_>>(), machine.tells(at(0)));
        prop_assert_eq!(Machine::knowing(&changes).knows(), machine.knows());
        prop_assert_eq!(machine.learn(&changes), 0, "what comes back is no news");
        let quota = Quota { prompts: Some(Rate { most: 1000, window: Window::Day }), queued: None };
        let left = |machine: &Machine| machine.state.limits.allowance("alice", quota, at(0).latest_millis());
        prop_assert_eq!(left(&Machine::knowing(&changes)), left(&machine));
    }
}

/// What someone writes who can read and write the store, but knows no key.
fn written_by_a_stranger() -> impl Strategy<Value = Record> {
    let of_a_key = fact_of(b"sekp");
    let forged = (of_a_key.clone(), any::<[u8; 16]>()).prop_map(|((_, fact), mac)| fact.record(Some(&mac)));
    let by_an_unknown_key = of_a_key.clone().prop_map(|(_, fact)| fact.record(Some(&fact.sign(key(3)))));
    let without = of_a_key.clone().prop_map(|(_, fact)| fact.record(None));
    let changed = (of_a_key, any::<Index>(), 1..=255_u8).prop_map(|(fact, at, other)| {
        let mut record = written(fact);
        let at = at.index(record.value.len());
        record.value[at] ^= other;
        Fact::parse(&record.value).map_or(record, |(fact, mac)| fact.record(mac.as_ref()))
    });
    let unsigned = fact_of(b"ln").prop_map(written);
    prop_oneof![forged, by_an_unknown_key, without, changed, unsigned]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Enough log-outs of one key that one fact replaces the oldest.
    #[test]
    fn a_flood_of_log_outs_leads_to_the_same_in_any_order(
        ends in vec((0..1500_u64, 0..100_u8), 1000..1400),
        earlier in proptest::option::of(0..1500_u64),
        cut in any::<Index>(),
        order in vec(any::<Index>(), 1400..1600),
    ) {
        let log_outs = ends.iter().map(|(second, id)| {
            let (issued, session) = (UNIX - 2000 + second, SessionId([*id; 16]));
            written((0, Fact::LogOut { key: key(0).id(), session, issued, expires: issued + DAY }))
        });
        let earlier = earlier.map(|second| written((0, Fact::EarlierSessions { key: key(0).id(), issued: UNIX - 2000 + second })));
        let records: Vec<_> = log_outs.chain(earlier).collect();
        let machine = Machine::knowing(&records);
        prop_assert!(machine.tells_all().len() <= 1025);
        prop_assert_eq!(machine.knows(), Machine::knowing(&delivered(&records, &order)).knows());

        let (first, second) = records.split_at(cut.index(records.len()));
        let (first, second) = (Machine::knowing(first), Machine::knowing(second));
        first.learn(&second.tells_all());
        second.learn(&first.tells_all());
        prop_assert_eq!(first.knows(), machine.knows(), "what two machines know is what one would");
        prop_assert_eq!(second.knows(), machine.knows());
        for (second, id) in &ends {
            let (issued, id) = (UNIX - 2000 + second, SessionId([*id; 16]));
            let ended = Session { key: key(0).id(), id, issued, expires: issued + DAY };
            prop_assert!(machine.state.log_outs.contains(&ended));
        }
        let open = Session { key: key(0).id(), id: SessionId([200; 16]), issued: UNIX, expires: UNIX + DAY };
        prop_assert!(!machine.state.log_outs.contains(&open), "a later session goes on");
        let of_another = Session { key: key(1).id(), issued: UNIX - 2000, ..open };
        prop_assert!(!machine.state.log_outs.contains(&of_another));
    }
}

/// Any number of facts that need no key.
#[test]
fn nobody_fills_the_memory() {
    let machine = Machine::new();
    for round in 0..40_u32 {
        let number = |place: u32| round * 1000 + place;
        let locks = (0..1000).map(|place| Fact::Lock {
            network: Network::from(std::net::IpAddr::from((0x0b00_0000 + number(place)).to_be_bytes())),
            budget: Budget::Client,
            until: UNIX + 900 + u64::from(number(place) % 60),
        });
        let nodes =
            (0..1000).map(|place| Fact::Node { id: NodeId(u128::from(number(place)).to_be_bytes()), seen: UNIX });
        let records: Vec<_> = locks.chain(nodes).map(|fact| fact.record(None)).collect();
        machine.learn(&records);
    }
    assert_eq!(machine.tells_all().len(), 16_384);
    assert_eq!(machine.state.nodes.facts(at(0)).len(), 4096);
    assert_eq!(machine.state.changes.version(), 0, "nothing of it is told on");
    assert_eq!(machine.tells(at(961)).len(), 0);
    machine.learn_at(
        &[Fact::Lock {
            network: Network::from(std::net::IpAddr::from([192, 0, 2, 1])),
            budget: Budget::Client,
            until: UNIX + 1100,
        }
        .record(None)],
        at(1000),
    );
    assert_eq!(machine.tells(at(1000)).len(), 1, "nothing of it is left");
}

/// With a known key: more than a thousand sessions of it, and more prompts than any limit allows.
#[test]
fn nobody_fills_the_memory_by_a_key_of_their_own() {
    let machine = Machine::new();
    for number in 0..3000_u64 {
        let session = SessionId(u128::from(number).to_be_bytes());
        let log_out = Fact::LogOut { key: key(1).id(), session, issued: UNIX - number, expires: UNIX + DAY };
        let prompts = (0..5).map(|part| Fact::Prompt { key: key(1).id(), time: UNIX * 1000 - number, id: part });
        let records: Vec<_> = prompts.chain([log_out]).map(|fact| written((1, fact))).collect();
        machine.learn(&records);
    }
    let told = machine.tells_all();
    let of_kind = |kind| told.iter().filter(|record| record.name[0] == kind).count();
    assert_eq!((of_kind(b's'), of_kind(b'e'), of_kind(b'p')), (1024, 1, 10_000));
    // A key without limits counts no prompts.
    machine.learn(&[written((0, Fact::Prompt { key: key(0).id(), time: UNIX * 1000, id: 1 }))]);
    assert_eq!(machine.tells_all().len(), told.len());
}

#[test]
fn machines_that_are_made_up_divide_no_limit_to_nothing() {
    let machine = Machine::new();
    let nodes = (0..9000_u128).map(|number| Fact::Node { id: NodeId(number.to_be_bytes()), seen: UNIX + 60 });
    machine.learn(&nodes.map(|fact| fact.record(None)).collect::<Vec<_>>());
    machine.state.set_away(true, at(0));
    let quota = Quota { prompts: Some(Rate { most: 9, window: Window::Day }), queued: None };
    assert_eq!(machine.state.limits.allowance("alice", quota, at(0).latest_millis()).prompts.unwrap().left, 1);
    machine.state.set_away(false, at(0));
    assert_eq!(machine.state.limits.allowance("alice", quota, at(0).latest_millis()).prompts.unwrap().left, 9);
}

#[test]
fn a_lock_that_is_told_again_and_again_ends_all_the_same() {
    let machine = Machine::new();
    let (client, budget) = clients().next().unwrap();
    let lock = Fact::Lock { network: client.address.into(), budget, until: UNIX + 960 }.record(None);
    for second in 0..900 {
        machine.learn_at(std::slice::from_ref(&lock), at(second));
        assert!(machine.state.throttle.permits(client, budget, None, at(second).monotonic).is_err(), "{second}");
    }
    for second in 900..1100 {
        machine.learn_at(std::slice::from_ref(&lock), at(second));
        assert_eq!(machine.state.throttle.permits(client, budget, None, at(second).monotonic), Ok(()), "{second}");
    }
}

#[test]
fn a_store_that_was_flushed_gets_everything_back() {
    let machine = Machine::new();
    machine.state.log_outs.add(&session(0, 8), key(0), at(0));
    let revocation = written((2, Fact::Revocation { key: key(2).id(), at: UNIX, until: UNIX + 365 * DAY }));
    machine.learn(std::slice::from_ref(&revocation));
    let (_, told) = machine.state.all(&machine.keys, at(0));
    let other = Machine::knowing(&told);
    assert_eq!(other.tells_all(), machine.tells_all());
    assert!(other.state.log_outs.contains(&session(0, 8)) && !other.admits(2) && other.admits(1));
    assert_eq!(other.state.nodes.count(at(0)), 2);
    assert!(told.contains(&revocation));
}

#[test]
fn what_is_said_of_a_key_counts_once_it_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    fs::write(&path, "one\n").unwrap();
    let machine = Machine { keys: KeyStore::open(&[], std::slice::from_ref(&path)).unwrap(), state: State::default() };
    let revocation = [written((3, Fact::Revocation { key: key(3).id(), at: UNIX, until: UNIX + 365 * DAY }))];
    assert_eq!(machine.learn(&revocation), 0);
    fs::write(&path, "one\nfour\n").unwrap();
    machine.keys.look(at(10).monotonic);
    assert!(machine.keys.loaded() == 1 && machine.admits(3));
    assert_eq!(machine.learn_at(&revocation, at(20)), 1);
    assert!(!machine.admits(3) && machine.admits(0));
}

#[test]
fn nothing_that_is_told_is_a_secret() {
    let keys = &machine_with_all().0;
    let told: Vec<u8> =
        machine_with_all().1.into_iter().flat_map(|record| [record.name, record.value].concat()).collect();
    let holds = |secret: &[u8]| told.windows(secret.len()).any(|part| part == secret);
    for name in NAMES {
        let digest = Digest::of(name.as_bytes());
        assert!(!holds(digest.expose_secret()) && !holds(name.as_bytes()), "{name}");
    }
    assert!(!holds(b"alice"));
    assert!(holds(&key(0).id().0), "what is public");
    assert_eq!(keys.in_force(at(0)), 3);
}

fn machine_with_all() -> (std::sync::Arc<Keys>, Vec<Record>) {
    let machine = Machine::new();
    (0..3).for_each(|number| machine.state.log_outs.add(&session(number, 8), key(number), at(0)));
    let quota = Quota { prompts: Some(Rate { most: 9, window: Window::Day }), queued: None };
    let ticket = machine.state.limits.reserve(key(1).id(), "alice", quota, at(0).latest_millis());
    drop(ticket.ok().unwrap().queued(at(0).latest_millis()));
    let keys = std::sync::Arc::clone(&machine.keys.current());
    (keys, machine.state.all(&machine.keys, at(0)).1)
}

#[test]
fn a_key_is_told_by_its_id_alone() {
    let ids: BTreeSet<KeyId> = (0..3).map(|number| key(number).id()).collect();
    let told: BTreeSet<_> =
        machine_with_all().1.iter().filter_map(|record| Fact::parse(&record.value)?.0.key()).collect();
    assert_eq!(told, ids);
}

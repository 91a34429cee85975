//! Records from a store that anyone may write to: they change nothing that needs a key, and nothing permanently.

use std::sync::LazyLock;
use std::time::Duration;

use comfy_auth_rs::keys::{Entry, KeyStore, Keys};
use comfy_auth_rs::request::Now;
use comfy_auth_rs::secret::ApiKey;
use comfy_auth_rs::session::{Session, SessionId};
use comfy_auth_rs::state::State;
use comfy_auth_rs::state::fact::{Fact, Record};
use comfy_auth_rs::state::throttle::{Budget, Client};

const UNIX: u64 = 1_800_000_000;

/// The keys, and records as they should be.
struct Fleet {
    keys: KeyStore,
    genuine: Vec<Record>,
}

static FLEET: LazyLock<Fleet> = LazyLock::new(|| {
    let keys = KeyStore::open(&[ApiKey::new("one".to_owned())], &[]).expect("a key");
    let genuine = {
        let current = keys.current();
        let one = one(&current);
        let key = one.id();
        let session = session(one);
        let facts = [
            Fact::LogOut { key, session: session.id, issued: session.issued, expires: session.expires },
            Fact::EarlierSessions { key, issued: UNIX },
            Fact::Revocation { key, at: UNIX, until: UNIX + 100 },
            Fact::Prompt { key, time: UNIX * 1000, id: 1 },
        ];
        facts.iter().map(|fact| fact.record(Some(&fact.sign(one)))).collect()
    };
    Fleet { keys, genuine }
});

fn one(keys: &Keys) -> &Entry {
    keys.verify(b"one", at(0)).expect("the key is there")
}

fn session(key: &Entry) -> Session {
    Session { key: key.id(), id: SessionId([1; 16]), issued: UNIX, expires: UNIX + 100 }
}

fn at(second: u64) -> Now {
    Now { monotonic: Duration::from_secs(1000 + second), ..Now::at(UNIX + second) }
}

/// Checks bytes as records, and as changes of genuine ones.
pub fn check(data: &[u8]) {
    let state = State::default();
    state.merge(&FLEET.keys, &records(data), at(0));
    state.merge(&FLEET.keys, &changed(data), at(0));
    FLEET.keys.look(at(0).monotonic);
    state.log_outs.noted(state.log_outs.begin_look());
    let keys = FLEET.keys.current();
    assert!(!state.log_outs.contains(&session(one(&keys))), "a session was ended");
    assert_eq!(state.changes.version(), 0, "it was told on");
    for address in [[192, 0, 2, 1], [127, 0, 0, 1]].map(Into::into) {
        let client = Client { address, is_shared: true };
        let later = at(900).monotonic;
        assert_eq!(state.throttle.permits(client, Budget::Client, None, later), Ok(()), "locked for long");
    }
    let (_, told) = state.all(&FLEET.keys, at(0));
    assert!(told.iter().all(|record| b"ln".contains(&record.name[0])), "it counts what nobody signed");
    assert!(told.iter().all(|record| Fact::read(record, at(0)).is_some()), "what it tells it does not understand");
    assert_eq!(state.merge(&FLEET.keys, &told, at(0)), 0, "what it knows is news");
    let (_, later) = state.all(&FLEET.keys, at(1000));
    assert_eq!(later.len(), 1, "it lasts");
}

/// Each begins with three bytes: the lengths of its name and value, and its end.
fn records(mut data: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    while let Some(([name, value, until], rest)) = data.split_first_chunk() {
        let (name, rest) = rest.split_at(rest.len().min((*name).into()));
        let (value, rest) = rest.split_at(rest.len().min((*value).into()));
        let until = UNIX + u64::from(*until) * 8;
        records.push(Record { name: name.to_vec(), value: value.to_vec(), until });
        // The same value with the name and the end that belong to it.
        records.extend(Fact::parse(value).map(|(fact, mac)| fact.record(mac.as_ref())));
        data = rest;
    }
    // libFuzzer sees what is compared, so it finds the genuine ones.
    records.retain(|record| FLEET.genuine.iter().all(|genuine| genuine.value != record.value));
    records
}

/// Each genuine record with some bits flipped, under the name of another.
fn changed(data: &[u8]) -> Vec<Record> {
    let flip = |record: &Record| {
        let value: Vec<_> =
            record.value.iter().enumerate().map(|(at, byte)| byte ^ data.get(at).copied().unwrap_or(0)).collect();
        let is_changed = value != record.value;
        let (fact, mac) = Fact::parse(&value).filter(|_| is_changed)?;
        Some(fact.record(mac.as_ref()))
    };
    FLEET.genuine.iter().filter_map(flip).collect()
}

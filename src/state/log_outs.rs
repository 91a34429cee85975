//! Sessions that were ended before they expire.
//!
//! Each is remembered until 60 seconds after it would have expired. Only the newest sessions of each key are remembered
//! one by one. Of the others, only the latest start is kept, and all sessions of that key that began until then are ended.
//! So a flood of log-outs costs no more memory, and only ends older sessions of the same key.
//!
//! A log-out from another machine counts from the next check of the requests in flight on, which notes the session's own.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::changes::Changes;
use super::fact::{Fact, Mac};
use crate::keys::{Entry, KeyId};
use crate::request::Now;
use crate::session::{Session, SessionId};

/// Most log-outs of one key that are remembered one by one.
pub const MAX_OF_ONE: usize = 1024;

/// How many more of one key are shared one by one before a single fact that ends them all is.
const TOLD_AFTER: u32 = 256;

/// Only holders of a key can make sessions to end.
#[derive(Default)]
pub struct LogOuts {
    keys: Mutex<HashMap<KeyId, OfKey>>,
    /// How many checks have begun, and how many of them have noted what is in flight.
    looks: AtomicU64,
    noted: AtomicU64,
    /// The check from which on the latest log-out from others counts.
    latest: AtomicU64,
    changes: Arc<Changes>,
}

#[derive(Default)]
struct OfKey {
    ended: BTreeMap<Ended, Told>,
    /// All that began until then were ended, too.
    earlier: Option<Earlier>,
    /// How many have made room since that was shared.
    untold: u32,
}

/// A session that was ended. The lowest in this order make room.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ended {
    issued: u64,
    id: SessionId,
    expires: u64,
}

/// How this machine learnt of it.
struct Told {
    mac: Mac,
    /// It counts once this many checks have noted what is in flight.
    look: u64,
}

#[derive(Clone, Copy)]
struct Earlier {
    issued: u64,
    mac: Mac,
}

impl LogOuts {
    /// None yet. Log-outs on this machine are added to `changes`.
    #[must_use]
    pub fn new(changes: Arc<Changes>) -> Self {
        Self { changes, ..Self::default() }
    }

    /// Ends a session of `key`, so that copies of its cookie are worthless. What is in flight was noted.
    pub fn add(&self, session: &Session, key: &Entry, now: Now) {
        let fact = Ended::of(session).fact(key.id());
        let mac = fact.sign(key);
        let (is_new, earlier) = self.insert(session, key, Told { mac, look: 0 }, now);
        if is_new {
            self.changes.add(fact, Some(mac));
        }
        if let Some(earlier) = earlier {
            self.changes.add(earlier.fact(key.id()), Some(earlier.mac));
        }
    }

    /// Merges a session that another machine has ended. Returns whether it is new.
    pub fn merge(&self, session: &Session, key: &Entry, mac: Mac, now: Now) -> bool {
        let look = self.looks.load(Ordering::Acquire) + 1;
        let (is_news, _) = self.insert(session, key, Told { mac, look }, now);
        if is_news {
            self.latest.fetch_max(look, Ordering::AcqRel);
        }
        is_news
    }

    /// Merges the end of all sessions that began until then. Returns whether it is new.
    pub fn merge_earlier(&self, key: KeyId, issued: u64, mac: Mac) -> bool {
        self.lock().entry(key).or_default().raise(Earlier { issued, mac })
    }

    /// Whether a log-out from others does not count yet, so that a check is due.
    #[must_use]
    pub fn some_wait(&self) -> bool {
        self.noted.load(Ordering::Relaxed) < self.latest.load(Ordering::Relaxed)
    }

    /// What is in flight is about to be noted. Returns what [`noted`](Self::noted) takes.
    #[must_use]
    pub fn begin_look(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// What is in flight was noted: log-outs merged before that check began count from now on.
    pub fn noted(&self, look: u64) {
        self.noted.fetch_max(look, Ordering::AcqRel);
    }

    /// Whether a session was ended.
    #[must_use]
    pub fn contains(&self, session: &Session) -> bool {
        let noted = self.noted.load(Ordering::Acquire);
        self.lock().get(&session.key).is_some_and(|of| of.ends(session, noted))
    }

    /// All log-outs that count, one key after the other, so that no thread waits for long.
    #[must_use]
    pub fn facts(&self, now: Now) -> Vec<(Fact, Mac)> {
        let keys: Vec<_> = self.lock().keys().copied().collect();
        let mut facts = Vec::new();
        for key in keys {
            let mut all = self.lock();
            let Some(of) = all.get_mut(&key) else { continue };
            of.forget(key, now);
            if of.is_empty() {
                all.remove(&key);
                continue;
            }
            facts.extend(of.earlier.map(|earlier| (earlier.fact(key), earlier.mac)));
            facts.extend(of.ended.iter().map(|(ended, told)| (ended.fact(key), told.mac)));
        }
        facts
    }

    /// Inserts a session. Returns whether it is new, and what to share about those that made room.
    fn insert(&self, session: &Session, key: &Entry, told: Told, now: Now) -> (bool, Option<Earlier>) {
        let mut all = self.lock();
        let of = all.entry(key.id()).or_default();
        if let Some(known) = of.ended.get_mut(&Ended::of(session)) {
            known.look = known.look.min(told.look);
            return (false, None);
        }
        if of.is_earlier(session) {
            return (false, None);
        }
        of.ended.insert(Ended::of(session), told);
        if of.ended.len() > MAX_OF_ONE {
            of.forget(key.id(), now);
        }
        (true, of.make_room(key))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyId, OfKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended {
    fn of(session: &Session) -> Self {
        let Session { id, issued, expires, .. } = *session;
        Self { issued, id, expires }
    }

    fn fact(self, key: KeyId) -> Fact {
        let Self { issued, id, expires } = self;
        Fact::LogOut { key, session: id, issued, expires }
    }
}

impl OfKey {
    fn ends(&self, session: &Session, noted: u64) -> bool {
        self.is_earlier(session) || self.ended.get(&Ended::of(session)).is_some_and(|told| told.look <= noted)
    }

    fn is_earlier(&self, session: &Session) -> bool {
        self.earlier.is_some_and(|earlier| session.issued <= earlier.issued)
    }

    /// Drops the oldest if there are too many. Returns what to share.
    fn make_room(&mut self, key: &Entry) -> Option<Earlier> {
        let (oldest, _) = self.ended.first_key_value().filter(|_| self.ended.len() > MAX_OF_ONE)?;
        let issued = oldest.issued;
        let mac = Fact::EarlierSessions { key: key.id(), issued }.sign(key);
        self.raise(Earlier { issued, mac });
        self.untold += 1;
        (self.untold % TOLD_AFTER == 1).then_some(self.earlier).flatten()
    }

    /// Ends all that began until then, unless later ones were.
    fn raise(&mut self, earlier: Earlier) -> bool {
        if self.earlier.is_some_and(|known| known.issued >= earlier.issued) {
            return false;
        }
        self.earlier = Some(earlier);
        while let Some(oldest) = self.ended.first_entry().filter(|oldest| oldest.key().issued <= earlier.issued) {
            oldest.remove();
        }
        true
    }

    /// Drops what would have expired by now.
    fn forget(&mut self, key: KeyId, now: Now) {
        self.ended.retain(|ended, _| now.unix < ended.fact(key).until());
        self.earlier = self.earlier.filter(|earlier| now.unix < earlier.fact(key).until());
    }

    fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.earlier.is_none()
    }
}

impl Earlier {
    fn fact(self, key: KeyId) -> Fact {
        Fact::EarlierSessions { key, issued: self.issued }
    }
}

#[cfg(test)]
#[path = "../../tests/units/state_log_outs.rs"]
mod tests;

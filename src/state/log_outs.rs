//! Sessions that were ended before they expire.
//!
//! Each is remembered until 60 seconds after it would have expired. Only the newest sessions of each key are remembered
//! one by one. Of the others, only the latest start is kept, and all sessions of that key that began until then are ended.
//! So a flood of log-outs costs no more memory, here or in a store, and only ends older sessions of the same key.
//!
//! A log-out from another machine counts from the next check of the requests in flight, which first notes the session's
//! own.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::changes::Changes;
use super::fact::{Fact, Mac};
use crate::keys::{Entry, KeyId};
use crate::request::Now;
use crate::session::{Session, SessionId};

/// The most log-outs of one key that are remembered one by one.
pub const MAX_OF_ONE: usize = 1024;

/// How many more of one key are shared one by one, before one fact that ends them all is shared instead.
const TOLD_AFTER: usize = 256;

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
    /// The latest of these starts that was shared from here.
    told: Option<Earlier>,
    /// What was dropped to make room since then. A store can forget it as soon as it has the next such fact.
    covered: Vec<(Ended, Mac)>,
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

#[derive(Clone, Copy, PartialEq, Eq)]
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

    /// Ends a session of `key`, so that copies of its cookie are worthless. Requests in flight are already noted.
    pub fn add(&self, session: &Session, key: &Entry, now: Now) {
        let fact = Ended::of(session).fact(key.id());
        let mac = fact.sign(key);
        if self.insert(session, key, Told { mac, look: 0 }, now) {
            self.changes.add(fact, Some(mac));
            self.tell_earlier(key.id());
        }
    }

    /// Merges a session that another machine has ended. Returns whether it is new.
    pub fn merge(&self, session: &Session, key: &Entry, mac: Mac, now: Now) -> bool {
        let look = self.looks.load(Ordering::Acquire) + 1;
        let is_news = self.insert(session, key, Told { mac, look }, now);
        if is_news {
            self.latest.fetch_max(look, Ordering::AcqRel);
        }
        is_news
    }

    /// Merges the end of all sessions that began until then. Returns whether it is new.
    pub fn merge_earlier(&self, key: KeyId, issued: u64, mac: Mac) -> bool {
        self.lock().entry(key).or_default().raise(Earlier { issued, mac }).is_some()
    }

    /// Whether a log-out from others does not count yet, so that a check is due.
    #[must_use]
    pub fn some_wait(&self) -> bool {
        self.noted.load(Ordering::Relaxed) < self.latest.load(Ordering::Relaxed)
    }

    /// Call this before you note what is in flight. Returns what [`noted`](Self::noted) takes.
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

    /// Shares the fact that ends everything dropped to make room, if it is due.
    fn tell_earlier(&self, key: KeyId) {
        let mut all = self.lock();
        let Some(of) = all.get_mut(&key).filter(|of| of.has_to_tell()) else { return };
        let (earlier, covered) = (of.earlier, std::mem::take(&mut of.covered));
        let before = std::mem::replace(&mut of.told, earlier);
        if let Some(earlier) = earlier {
            self.changes.add(earlier.fact(key), Some(earlier.mac));
        }
        let before = before.filter(|_| before != earlier).map(|before| (before.fact(key), before.mac));
        for (fact, mac) in covered.iter().map(|(ended, mac)| (ended.fact(key), *mac)).chain(before) {
            self.changes.remove(fact, Some(mac));
        }
    }

    /// Inserts a session. Returns whether it is new.
    fn insert(&self, session: &Session, key: &Entry, told: Told, now: Now) -> bool {
        let mut all = self.lock();
        let of = all.entry(key.id()).or_default();
        if let Some(known) = of.ended.get_mut(&Ended::of(session)) {
            known.look = known.look.min(told.look);
            return false;
        }
        if of.is_earlier(session) {
            return false;
        }
        of.ended.insert(Ended::of(session), told);
        if of.ended.len() > MAX_OF_ONE {
            of.forget(key.id(), now);
        }
        of.make_room(key);
        true
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

    /// Drops the oldest if there are too many.
    fn make_room(&mut self, key: &Entry) {
        let oldest = self.ended.first_key_value().filter(|_| self.ended.len() > MAX_OF_ONE);
        let Some(issued) = oldest.map(|(oldest, _)| oldest.issued) else { return };
        let mac = Fact::EarlierSessions { key: key.id(), issued }.sign(key);
        let covered = self.raise(Earlier { issued, mac });
        self.covered.extend(covered.into_iter().flatten().map(|(ended, told)| (ended, told.mac)));
        self.covered.truncate(MAX_OF_ONE);
    }

    fn has_to_tell(&self) -> bool {
        !self.covered.is_empty() && (self.told.is_none() || self.covered.len() >= TOLD_AFTER)
    }

    /// Ends all that began until then, and returns what need no longer be remembered one by one. `None` if later ones
    /// have already been ended.
    fn raise(&mut self, earlier: Earlier) -> Option<BTreeMap<Ended, Told>> {
        if self.earlier.is_some_and(|known| known.issued >= earlier.issued) {
            return None;
        }
        self.earlier = Some(earlier);
        let next = Ended { issued: earlier.issued.saturating_add(1), id: SessionId([0; 16]), expires: 0 };
        let later = self.ended.split_off(&next);
        Some(std::mem::replace(&mut self.ended, later))
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

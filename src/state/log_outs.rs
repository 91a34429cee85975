//! Sessions that were ended before they expire.
//!
//! Each is remembered until 60 seconds after it would have expired. Of one key only so many are: those that began last. Of
//! the others the latest beginning is kept, and all sessions of that key that began until then are ended. So a flood of
//! log-outs costs no more memory, and ends no session but older ones of its own key.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::changes::Changes;
use super::fact::{Fact, Mac, TOLERANCE};
use super::ranked::Ranked;
use crate::keys::{Entry, KeyId};
use crate::request::Now;
use crate::session::{Session, SessionId};

/// Most log-outs of one key that are remembered one by one.
pub const MAX_OF_ONE: usize = 1024;

/// How many more of one key are told before the others are told what ends them all.
const TOLD_AFTER: u32 = 256;

/// Only holders of a key can make sessions to end.
#[derive(Default)]
pub struct LogOuts {
    keys: Mutex<HashMap<KeyId, OfKey>>,
    /// How often the requests in flight were looked at.
    looks: AtomicU64,
    changes: Arc<Changes>,
}

#[derive(Default)]
struct OfKey {
    /// By the time of issue.
    ended: Ranked<SessionId, u64, Ended>,
    /// All that began until then were ended, too.
    earlier: Option<Earlier>,
    /// The same at the last look.
    before_the_look: Option<u64>,
    /// How many have made room since that was told.
    untold: u32,
}

struct Ended {
    expires: u64,
    mac: Mac,
    look: u64,
}

#[derive(Clone, Copy)]
struct Earlier {
    issued: u64,
    mac: Mac,
    look: u64,
}

impl LogOuts {
    /// None yet; what begins here is told to `changes`.
    #[must_use]
    pub fn new(changes: Arc<Changes>) -> Self {
        Self { changes, ..Self::default() }
    }

    /// Ends a session of `key`, so that a copy of its cookie is worth nothing.
    pub fn add(&self, session: &Session, key: &Entry, now: Now) {
        let Session { id: session, issued, expires, .. } = *session;
        let fact = Fact::LogOut { key: key.id(), session, issued, expires };
        let mac = fact.sign(key);
        let (is_new, earlier) = self.insert(key, session, issued, (expires, mac), now);
        if is_new {
            self.changes.add(fact, Some(mac));
        }
        if let Some(Earlier { issued, mac, .. }) = earlier {
            self.changes.add(Fact::EarlierSessions { key: key.id(), issued }, Some(mac));
        }
    }

    /// Learns of a session that another machine has ended. Returns whether that is news.
    pub fn merge(&self, session: &Session, key: &Entry, mac: Mac, now: Now) -> bool {
        self.insert(key, session.id, session.issued, (session.expires, mac), now).0
    }

    /// Learns that all sessions were ended that began until then. Returns whether that is news.
    pub fn merge_earlier(&self, key: KeyId, issued: u64, mac: Mac) -> bool {
        let look = self.looks.load(Ordering::Acquire);
        self.lock().entry(key).or_default().raise(Earlier { issued, mac, look })
    }

    /// Whether a session was ended.
    #[must_use]
    pub fn contains(&self, session: &Session) -> bool {
        self.lock().get(&session.key).is_some_and(|of| of.ends(session))
    }

    /// Whether it was ended before the last look at the requests in flight, so that those of it are noted, or were refused.
    #[must_use]
    pub fn contained(&self, session: &Session) -> bool {
        let looks = self.looks.load(Ordering::Acquire);
        self.lock().get(&session.key).is_some_and(|of| of.ended(session, looks))
    }

    /// The requests in flight are about to be looked at.
    pub fn begin_look(&self) {
        self.looks.fetch_add(1, Ordering::AcqRel);
    }

    /// All log-outs that count. One key after the other, so that nobody waits for long.
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
            facts.extend(of.ended.iter().map(|(session, issued, ended)| {
                (Fact::LogOut { key, session, issued, expires: ended.expires }, ended.mac)
            }));
        }
        facts
    }

    /// Puts a session in. Returns whether it is news, and what is to be told of those that made room.
    fn insert(
        &self,
        key: &Entry,
        session: SessionId,
        issued: u64,
        (expires, mac): (u64, Mac),
        now: Now,
    ) -> (bool, Option<Earlier>) {
        let look = self.looks.load(Ordering::Acquire);
        let mut all = self.lock();
        let of = all.entry(key.id()).or_default();
        if of.earlier.is_some_and(|earlier| issued <= earlier.issued) || of.ended.get(&session).is_some() {
            return (false, None);
        }
        of.ended.insert(session, issued, Ended { expires, mac, look });
        if of.ended.len() > MAX_OF_ONE {
            of.forget(key.id(), now);
        }
        (true, of.make_room(key, look))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<KeyId, OfKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OfKey {
    fn ends(&self, session: &Session) -> bool {
        self.earlier.is_some_and(|earlier| session.issued <= earlier.issued) || self.ended.get(&session.id).is_some()
    }

    fn ended(&self, session: &Session, looks: u64) -> bool {
        let is_seen = |look: u64| look + 1 < looks;
        let earlier = match self.earlier {
            Some(earlier) if is_seen(earlier.look) => Some(earlier.issued),
            _ => self.before_the_look,
        };
        earlier.is_some_and(|earlier| session.issued <= earlier)
            || self.ended.get(&session.id).is_some_and(|(_, ended)| is_seen(ended.look))
    }

    /// Drops the oldest where there are too many. Returns what is to be told.
    fn make_room(&mut self, key: &Entry, look: u64) -> Option<Earlier> {
        if self.ended.len() <= MAX_OF_ONE {
            return None;
        }
        let issued = self.ended.lowest()?;
        let mac = Fact::EarlierSessions { key: key.id(), issued }.sign(key);
        self.raise(Earlier { issued, mac, look });
        self.untold += 1;
        (self.untold % TOLD_AFTER == 1).then_some(self.earlier).flatten()
    }

    /// Ends all that began until then, unless later ones were.
    fn raise(&mut self, earlier: Earlier) -> bool {
        if self.earlier.is_some_and(|known| known.issued >= earlier.issued) {
            return false;
        }
        if let Some(known) = self.earlier.filter(|known| known.look + 1 < earlier.look) {
            self.before_the_look = Some(known.issued);
        }
        self.earlier = Some(earlier);
        self.ended.drop_while(|issued| issued <= earlier.issued);
        true
    }

    /// Drops what would have expired by now.
    fn forget(&mut self, key: KeyId, now: Now) {
        self.ended.retain(|ended| now.unix < ended.expires.saturating_add(TOLERANCE));
        self.earlier = self.earlier.filter(|earlier| now.unix < earlier.fact(key).until());
    }

    fn is_empty(&self) -> bool {
        self.ended.len() == 0 && self.earlier.is_none()
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

//! The facts that this machine must share with the others, in order, until they are stored.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fact::{Fact, Mac};

/// The most facts that wait to be shared; locks have the same limit. Forgotten facts, except locks, are still in the
/// state.
pub const MAX: usize = 4096;

/// The facts from this machine. Each raises the version by one.
#[derive(Default)]
pub struct Changes {
    log: Mutex<Log>,
    has_news: AtomicBool,
    stored: AtomicU64,
}

#[derive(Default)]
struct Log {
    version: u64,
    facts: VecDeque<Change>,
    /// Kept separately, so that a flood of locks pushes out nothing else.
    locks: VecDeque<Change>,
    /// The latest of the others that is no longer in the log.
    forgotten: u64,
}

/// A fact from this machine, with its signature if it has one already.
#[derive(Clone, Copy)]
pub struct Change {
    version: u64,
    /// What happened.
    pub fact: Fact,
    /// It is signed when it is shared, if it must be and was not before.
    pub mac: Option<Mac>,
    /// The store can forget it, because something else says the same.
    pub is_covered: bool,
}

impl Changes {
    /// Adds a fact.
    pub fn add(&self, fact: Fact, mac: Option<Mac>) {
        self.push(fact, mac, false);
    }

    /// A store that has what was added so far need not keep this one.
    pub fn remove(&self, fact: Fact, mac: Option<Mac>) {
        self.push(fact, mac, true);
    }

    fn push(&self, fact: Fact, mac: Option<Mac>, is_covered: bool) {
        let mut log = self.lock();
        log.version += 1;
        let change = Change { version: log.version, fact, mac, is_covered };
        if matches!(fact, Fact::Lock { .. }) {
            log.locks.push_back(change);
            if log.locks.len() > MAX {
                log.locks.pop_front();
            }
        } else {
            log.facts.push_back(change);
            if log.facts.len() > MAX {
                log.forgotten = log.facts.pop_front().map_or(0, |change| change.version);
            }
        }
        drop(log);
        self.has_news.store(true, Ordering::Release);
    }

    /// The facts since a version, and the version that they lead to. `None` if some are forgotten: then share the whole
    /// state.
    #[must_use]
    pub fn since(&self, version: u64) -> Option<(u64, Vec<Change>)> {
        let log = self.lock();
        if version < log.forgotten {
            return None;
        }
        let both = [&log.facts, &log.locks].into_iter();
        let later = both.flat_map(|facts| facts.range(facts.partition_point(|change| change.version <= version)..));
        Some((log.version, later.copied().collect()))
    }

    /// How many facts this machine has made so far.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Whether there are new ones since the last call.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.has_news.load(Ordering::Relaxed) && self.has_news.swap(false, Ordering::Acquire)
    }

    /// Notes that the store has all facts up to a version.
    pub fn store_has(&self, version: u64) {
        self.stored.fetch_max(version, Ordering::Relaxed);
    }

    /// Whether the store has all facts up to a version.
    #[must_use]
    pub fn is_stored(&self, version: u64) -> bool {
        version <= self.stored.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "../../tests/units/state_changes.rs"]
mod tests;

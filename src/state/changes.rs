//! What this machine has to tell the others, in order, until it is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::fact::{Fact, Mac};

/// Most facts that wait to be told, and most locks besides. Of what is forgotten, all but locks can be found in the state.
pub const MAX: usize = 4096;

/// The facts that began here. Each raises the version by one.
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
    /// Apart from the others, so that no flood of them makes anything else forgotten.
    locks: VecDeque<Change>,
    /// The latest of the others that is in the log no more.
    forgotten: u64,
}

/// A fact that began here, with its signature where it has one already.
#[derive(Clone, Copy)]
pub struct Change {
    version: u64,
    /// What happened.
    pub fact: Fact,
    /// It is signed when it is told, if it must be and was not before.
    pub mac: Option<Mac>,
    /// The store can forget it: something else says the same.
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

    /// The facts that have begun since a version, and the version that they lead to. `None` where some are forgotten: then only
    /// the whole state tells them.
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

    /// How many facts have begun here so far.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Whether any has begun since the last call.
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

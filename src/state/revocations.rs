//! Revoked keys that may still be in key files of some machines.
//!
//! A key stays revoked for a year after the last machine had it in a key file: while one has it, it renews the revocation
//! each week.

use std::collections::HashMap;

use super::fact::{Fact, Mac};
use crate::keys::{Entry, KeyId};
use crate::request::Now;

const WEEK: u64 = 7 * 24 * 60 * 60;
const YEAR: u64 = 365 * 24 * 60 * 60;

/// The latest revocation of each key. Only holders of a key can revoke it, so there are no more than there were keys.
#[derive(Default)]
pub struct Revocations(HashMap<KeyId, Revocation>);

/// That a key was revoked.
#[derive(Debug, Clone, Copy)]
pub struct Revocation {
    /// Which one.
    pub key: KeyId,
    /// When, in seconds since 1970 (UTC).
    pub at: u64,
    /// Until when that is remembered.
    pub until: u64,
    /// Its signature.
    pub mac: Mac,
}

/// What a merged revocation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    Nothing,
    /// It is remembered for longer.
    Longer,
    /// The key is revoked.
    Revoked,
}

impl Revocation {
    /// A revocation `at` that time. Machines that make it in the same week make the same one.
    #[must_use]
    pub fn new(key: &Entry, at: u64, now: u64) -> Self {
        let (id, until) = (key.id(), until(now));
        let mac = Fact::Revocation { key: id, at, until }.sign(key);
        Self { key: id, at, until, mac }
    }

    /// The fact and its signature.
    #[must_use]
    pub fn fact(&self) -> (Fact, Mac) {
        let Self { key, at, until, mac } = *self;
        (Fact::Revocation { key, at, until }, mac)
    }

    /// Whether it is still remembered, whatever the clock said when it was learnt.
    fn lasts(&self, now: Now) -> bool {
        now.unix < self.fact().0.until()
    }

    /// The same for another year, if renewal is due and it revokes this `key`.
    #[must_use]
    pub fn renewed(&self, key: &Entry, now: u64) -> Option<Self> {
        (key.id() == self.key && self.until < until(now)).then(|| Self::new(key, self.at, now))
    }
}

/// A year after the end of the week.
fn until(now: u64) -> u64 {
    (now / WEEK).saturating_add(1).saturating_mul(WEEK).saturating_add(YEAR)
}

impl Revocations {
    /// Merges a revocation. The one that is remembered longest counts.
    pub fn merge(&mut self, revocation: Revocation, now: Now) -> News {
        self.0.retain(|_, known| known.lasts(now));
        let lasts = |revocation: &Revocation| (revocation.until, revocation.at);
        let news = match self.0.get(&revocation.key) {
            Some(known) if lasts(known) >= lasts(&revocation) => return News::Nothing,
            Some(_) => News::Longer,
            None => News::Revoked,
        };
        self.0.insert(revocation.key, revocation);
        news
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a key was revoked.
    #[must_use]
    pub fn contains(&self, key: KeyId) -> bool {
        self.0.contains_key(&key)
    }

    /// All that count.
    pub fn current(&self, now: Now) -> impl Iterator<Item = &Revocation> {
        self.0.values().filter(move |known| known.lasts(now))
    }
}

#[cfg(test)]
#[path = "../../tests/units/state_revocations.rs"]
mod tests;

//! Keys that were revoked elsewhere, but are still in the sources.

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::file::Record;
use super::store::{records_of_file, union};
use super::{KeyId, KeyStore, Keys};
use crate::error::ConfigError;
use crate::request::Now;
use crate::state::fact::{self, Fact, Mac};
use crate::state::revocations::{News, Revocation, Revocations};

/// The revocations, and what the next look must change.
#[derive(Default)]
pub struct Revoked {
    known: Revocations,
    /// The keys without those revoked since the last look. Requests in flight are noted before a key is removed.
    pub next: Option<Arc<Keys>>,
}

/// A revoked key that is in a file, and has not expired there.
pub struct Unheeded {
    /// The file.
    pub path: PathBuf,
    /// The line in it.
    pub line: usize,
    /// The key.
    pub key: KeyId,
    /// Its label.
    pub label: Option<String>,
}

impl Revoked {
    /// When the revoked ones among these keys would expire.
    pub fn ends_of(&self, records: &[Record]) -> Vec<u64> {
        if self.known.is_empty() {
            return Vec::new();
        }
        let revoked = records.iter().filter(|record| self.known.contains(KeyId::of(&record.digest)));
        revoked.map(|record| record.attributes.expires.unwrap_or(u64::MAX)).collect()
    }

    /// Makes revoked keys expired.
    pub fn apply(&self, records: &mut [Record]) {
        for record in records.iter_mut().filter(|record| self.known.contains(KeyId::of(&record.digest))) {
            record.attributes.expires = Some(0);
        }
    }
}

/// The record that revokes the key with this id in a file; `None` if no key has it.
///
/// # Errors
/// The faults of the file.
pub fn revocation(path: &Path, key: &str, now: u64) -> Result<Option<fact::Record>, Vec<ConfigError>> {
    let keys = Keys::new(&records_of_file(path)?);
    let key = keys.entries().find(|entry| entry.id().to_string() == key);
    let revocation = key.map(|key| Revocation::new(key, now, now).fact());
    Ok(revocation.map(|(fact, mac)| fact.record(Some(&mac))))
}

impl KeyStore {
    /// Takes in revocations with valid signatures. They count from the next look, which is due at once. Returns how
    /// many are new.
    pub fn revoke(&self, revocations: &[Revocation], now: Now) -> usize {
        if revocations.is_empty() {
            return 0;
        }
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let mut revoked = self.revoked();
        let news: Vec<_> = revocations.iter().map(|revocation| revoked.known.merge(*revocation, now)).collect();
        if news.contains(&News::Revoked) {
            revoked.next = Some(Arc::new(union(&self.inline, &files, &revoked)));
            self.look_soon();
        }
        news.iter().filter(|news| **news != News::Nothing).count()
    }

    /// Renews the revocations of keys that are still in the sources. Returns what to tell the others.
    #[must_use]
    pub fn renew_revocations(&self, now: Now) -> Vec<(Fact, Mac)> {
        let keys = self.current();
        let mut revoked = self.revoked();
        let renewed = |known: &Revocation| known.renewed(keys.known(known.key)?, now.unix);
        let renewed: Vec<_> = revoked.known.current(now).filter_map(renewed).collect();
        let is_news = |renewed: &&Revocation| revoked.known.merge(**renewed, now) != News::Nothing;
        renewed.iter().filter(is_news).map(Revocation::fact).collect()
    }

    /// The revocations that count.
    #[must_use]
    pub fn revocations(&self, now: Now) -> Vec<(Fact, Mac)> {
        self.revoked().known.current(now).map(Revocation::fact).collect()
    }

    /// The keys that were revoked, are still in a file, and have not expired there.
    #[must_use]
    pub fn unheeded_revocations(&self, now: Now) -> Vec<Unheeded> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let revoked = self.revoked();
        let records = files.iter().flat_map(|file| file.records.iter().map(|record| (file.path.clone(), record)));
        let unheeded = records.filter_map(|(path, record)| {
            let (key, label) = (KeyId::of(&record.digest), record.label.clone());
            let is_unheeded = revoked.known.contains(key) && !record.attributes.has_expired(now.latest());
            is_unheeded.then_some(Unheeded { path, line: record.line, key, label })
        });
        unheeded.collect()
    }

    pub(super) fn revoked(&self) -> MutexGuard<'_, Revoked> {
        self.revoked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "../../tests/units/keys_revoked.rs"]
mod tests;

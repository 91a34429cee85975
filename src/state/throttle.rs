//! Addresses that guess: ten distinct wrong credentials within a minute lock an address.
//!
//! A misconfigured client that repeats one value, or sends none, is no attack. While an address is locked, keys that were
//! already good from it still pass. Everything is bounded: both tables keep two generations of entries, and when the
//! young one is full the old one is dropped, so that what is used stays and a flood of addresses costs no more memory.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::keys::KeyId;
use crate::request::millis;
use crate::secret::Digest;

/// Distinct wrong credentials that lock an address.
pub const MAX_FAILURES: usize = 10;

/// The time within which they count.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The first lock; each further one is twice as long.
pub const FIRST_LOCK: Duration = Duration::from_secs(60);

/// The longest lock.
pub const MAX_LOCK: Duration = Duration::from_secs(15 * 60);

/// Entries a generation, so that at most twice as many are kept.
const GENERATION: usize = 32_768;

/// Who was noted lately is found without the tables. Far fewer than [`GENERATION`], so that whoever is dropped from the
/// tables was overwritten here before, and is noted again.
const RECENT: usize = 1024;

/// Counts failures by address. All times are of one monotonic clock.
pub struct Throttle {
    tables: Mutex<Tables>,
    hasher: RandomState,
    /// End of the longest lock, in milliseconds: before it somebody may be locked.
    any_locked_until: AtomicU64,
    /// Hashes of peers and keys, each in the place that it gives.
    recent: Box<[AtomicU64]>,
}

#[derive(Default)]
struct Tables {
    failing: Generations<Network, Record>,
    good: Generations<(Network, KeyId), ()>,
}

/// What one subscriber is given: an IPv4 address, or an IPv6 /64, all of whose addresses one client can use.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Network(u128);

#[derive(Clone, Default)]
struct Record {
    /// Hash and time of the latest distinct wrong credentials.
    failures: Vec<(u64, Duration)>,
    locked_until: Duration,
    locks: u32,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            tables: Mutex::default(),
            hasher: RandomState::new(),
            any_locked_until: AtomicU64::new(0),
            recent: std::iter::repeat_with(AtomicU64::default).take(RECENT).collect(),
        }
    }
}

impl Throttle {
    /// Counts wrong credentials that `address` presented in one request.
    ///
    /// # Errors
    /// The time left, where the address is locked already; then nothing is counted.
    pub fn failed(&self, address: IpAddr, wrong: &[Digest], now: Duration) -> Result<(), Duration> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let record = tables.failing.get_or_default(network(address));
        record.locked(now)?;
        record.failures.retain(|&(_, at)| now.saturating_sub(at) < WINDOW);
        for digest in wrong {
            let hash = self.hasher.hash_one(digest.expose_secret());
            if record.failures.iter().all(|&(known, _)| known != hash) {
                record.failures.push((hash, now));
            }
        }
        if record.failures.len() >= MAX_FAILURES {
            // A quiet quarter of an hour after a lock is forgiven.
            if now > record.locked_until + MAX_LOCK {
                record.locks = 0;
            }
            let lock = FIRST_LOCK.saturating_mul(1 << record.locks.min(16)).min(MAX_LOCK);
            record.locks += 1;
            record.locked_until = now + lock;
            record.failures.clear();
            self.any_locked_until.fetch_max(millis(record.locked_until), Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether nobody is locked and `key` was lately noted for `peer`, so that neither [`permits`](Self::permits) nor
    /// [`succeeded`](Self::succeeded) need be asked.
    #[must_use]
    pub fn knows(&self, peer: u64, key: KeyId, now: Duration) -> bool {
        let (hash, place) = self.recent(peer, key);
        place.load(Ordering::Relaxed) == hash && millis(now) >= self.any_locked_until.load(Ordering::Relaxed)
    }

    /// Notes that `key` was remembered as good from the address that the caller calls `peer`, a number that is evenly
    /// spread.
    pub fn note(&self, peer: u64, key: KeyId) {
        let (hash, place) = self.recent(peer, key);
        place.store(hash, Ordering::Relaxed);
    }

    /// Whether `key` may be used from `address`.
    ///
    /// # Errors
    /// The time left, where the address is locked and the key was not good from it before.
    pub fn permits(&self, address: IpAddr, key: KeyId, now: Duration) -> Result<(), Duration> {
        if millis(now) >= self.any_locked_until.load(Ordering::Relaxed) {
            return Ok(());
        }
        let network = network(address);
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        match tables.failing.get(&network) {
            Some(record) if tables.good.get(&(network, key)).is_none() => record.locked(now),
            _ => Ok(()),
        }
    }

    /// Remembers that `key` is good from `address`.
    pub fn succeeded(&self, address: IpAddr, key: KeyId) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        tables.good.get_or_default((network(address), key));
    }

    #[expect(clippy::cast_possible_truncation, reason = "hashes may lose bits")]
    fn recent(&self, peer: u64, key: KeyId) -> (u64, &AtomicU64) {
        let key = u128::from_le_bytes(key.0);
        // 0 is a place where nobody was noted.
        let hash = (peer ^ (key >> 64 ^ key) as u64).max(1);
        (hash, &self.recent[hash as usize % RECENT])
    }
}

impl Record {
    fn locked(&self, now: Duration) -> Result<(), Duration> {
        let left = self.locked_until.saturating_sub(now);
        if left.is_zero() { Ok(()) } else { Err(left) }
    }
}

pub(super) fn network(address: IpAddr) -> Network {
    match address.to_canonical() {
        IpAddr::V4(address) => Network(address.to_ipv6_mapped().to_bits()),
        IpAddr::V6(address) => Network(address.to_bits() >> 64 << 64),
    }
}

/// A map that forgets: what was not used while [`GENERATION`] other entries were.
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, V: Default> Generations<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    fn get_or_default(&mut self, key: K) -> &mut V {
        if !self.young.contains_key(&key) {
            if self.young.len() >= GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            let value = self.old.remove(&key).unwrap_or_default();
            self.young.insert(key, value);
        }
        self.young.entry(key).or_default()
    }
}

#[cfg(test)]
#[path = "../../tests/units/state_throttle.rs"]
mod tests;

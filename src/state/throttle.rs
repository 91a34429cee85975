//! Addresses that guess: ten distinct wrong keys within a minute lock an address.
//!
//! A misconfigured client that repeats one value, or sends none, is not an attack. While an address is locked, long keys
//! that were valid from it before still pass; of all others, ten in total are evaluated. All tables are bounded: they forget
//! what was unused for long. Machines that share a state share their locks, but not the guesses.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::changes::Changes;
use super::fact::Fact;
use super::generations::{GENERATION, Generations};
use super::network::Network;
use super::shared_locks::{Place, SharedLocks};
use crate::keys::KeyId;
use crate::request::{Now, millis};
use crate::secret::Digest;

/// Distinct wrong keys that lock an address.
pub const MAX_FAILURES: usize = 10;

/// Keys that are evaluated while an address is locked, right or wrong.
pub const MAX_EVALUATED: usize = 10;

/// The time within which wrong keys count.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The first lock; each later one is twice as long.
pub const FIRST_LOCK: Duration = Duration::from_secs(60);

/// The longest lock.
pub const MAX_LOCK: Duration = Duration::from_secs(15 * 60);

/// Clients that were noted recently are found without the tables. These are far fewer than a generation's entries, so a
/// client that is dropped from the tables was overwritten here before that, and is noted again.
const RECENT: usize = 1024;

/// The most locks that wait to be taken.
const MAX_BEGUN: usize = 1024;

/// Failures that are counted separately, each kind with a lock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Budget {
    /// What no web page can make its visitor's browser send.
    Client,
    /// What any web page can make it send: so no page can lock its visitor out of the other.
    AnyPage,
}

/// Who sends a request.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// Whether the address means this client for other machines, too, so that its locks are shared in both directions.
    pub is_shared: bool,
}

/// Counts failures by address. All times are of one monotonic clock.
pub struct Throttle {
    tables: Mutex<Tables>,
    hasher: RandomState,
    /// End of the longest lock, in milliseconds: after it, no address is locked.
    any_locked_until: AtomicU64,
    /// Hashes of peers and keys, each at the index that it gives.
    recent: Box<[AtomicU64]>,
    /// Whether there are locks that nobody has taken.
    has_begun: AtomicBool,
    changes: Arc<Changes>,
}

/// An address that is locked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// The address that presented the last wrong key.
    pub address: IpAddr,
    /// What it is locked out of.
    pub budget: Budget,
    /// For how long.
    pub time: Duration,
}

#[derive(Default)]
struct Tables {
    failing: Generations<Place, Record>,
    shared: SharedLocks,
    begun: Vec<Lock>,
    good: Generations<(Network, KeyId), ()>,
    /// When the locks in force end; no more than there is room for addresses.
    ends: BinaryHeap<Reverse<Duration>>,
    locks: u64,
}

/// How many locks there were.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Locks {
    /// Since the start.
    pub begun: u64,
    /// Those that have not ended.
    pub in_force: usize,
}

#[derive(Clone, Default)]
struct Record {
    /// Hash and time of the latest distinct wrong keys.
    failures: Vec<(u64, Duration)>,
    locked_until: Duration,
    /// Keys that were evaluated in the latest lock.
    evaluated: usize,
    locks: u32,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            tables: Mutex::default(),
            hasher: RandomState::new(),
            any_locked_until: AtomicU64::new(0),
            recent: std::iter::repeat_with(AtomicU64::default).take(RECENT).collect(),
            has_begun: AtomicBool::new(false),
            changes: Arc::default(),
        }
    }
}

impl Throttle {
    /// A throttle that has locked no address. Locks that begin here are added to `changes`.
    #[must_use]
    pub fn new(changes: Arc<Changes>) -> Self {
        Self { changes, ..Self::default() }
    }

    /// Counts the wrong keys that a client presented in one request.
    ///
    /// # Errors
    /// The time left, if the address is locked already; then they count among those that are evaluated.
    pub fn failed(&self, client: Client, budget: Budget, wrong: &[Digest], now: Now) -> Result<(), Duration> {
        let mut tables = self.lock();
        if let Some((left, evaluated)) = tables.lock_of(client, budget, now.monotonic) {
            *evaluated = evaluated.saturating_add(wrong.len());
            return Err(left);
        }
        let record = tables.failing.get_or_default(client.place(budget));
        record.failures.retain(|&(_, at)| now.monotonic.saturating_sub(at) < WINDOW);
        for digest in wrong {
            let hash = self.hasher.hash_one(digest.expose_secret());
            if record.failures.iter().all(|&(known, _)| known != hash) {
                record.failures.push((hash, now.monotonic));
            }
        }
        if record.failures.len() < MAX_FAILURES {
            return Ok(());
        }
        record.lock(now.monotonic);
        let until = record.locked_until;
        self.any_locked_until.fetch_max(millis(until), Ordering::Relaxed);
        let fact = self.begin(&mut tables, client, budget, until, now);
        drop(tables);
        if let Some(fact) = fact {
            self.changes.add(fact, None);
        }
        Ok(())
    }

    /// Notes a lock that has begun here. Returns what to share.
    fn begin(&self, tables: &mut Tables, client: Client, budget: Budget, until: Duration, now: Now) -> Option<Fact> {
        let time = until.saturating_sub(now.monotonic);
        tables.count(until, now.monotonic);
        if tables.begun.len() < MAX_BEGUN {
            tables.begun.push(Lock { address: client.address, budget, time });
            self.has_begun.store(true, Ordering::Relaxed);
        }
        let (network, _) = client.place(budget);
        client.is_shared.then(|| {
            let until = now.unix.saturating_add(millis(time).div_ceil(1000));
            tables.shared.begin((network, budget), until, now);
            Fact::Lock { network, budget, until }
        })
    }

    /// Merges a lock of another machine. Returns whether it is new.
    pub fn merge(&self, network: Network, budget: Budget, until: u64, now: Now) -> bool {
        let mut tables = self.lock();
        let is_news = tables.shared.merge((network, budget), until, now);
        let left = tables.shared.left(&(network, budget), now.monotonic);
        if is_news {
            self.any_locked_until.fetch_max(millis(now.monotonic + left), Ordering::Relaxed);
        }
        is_news
    }

    /// The locks shared with or by other machines.
    #[must_use]
    pub fn facts(&self, now: Now) -> Vec<Fact> {
        self.lock().shared.facts(now)
    }

    /// How many locks there were, and how many there are.
    #[must_use]
    pub fn locks(&self, now: Duration) -> Locks {
        let mut tables = self.lock();
        tables.forget_ended(now);
        Locks { begun: tables.locks, in_force: tables.ends.len() }
    }

    /// Whether no address is locked and `key` was recently noted for `peer`, so that you need to call neither
    /// [`permits`](Self::permits) nor [`succeeded`](Self::succeeded).
    #[must_use]
    pub fn knows(&self, peer: u64, key: KeyId, now: Duration) -> bool {
        let (hash, place) = self.recent(peer, key);
        place.load(Ordering::Relaxed) == hash && !self.locks_anybody(now)
    }

    /// Notes that `key` was remembered as valid from the address `peer`, which is an evenly distributed number.
    pub fn note(&self, peer: u64, key: KeyId) {
        let (hash, place) = self.recent(peer, key);
        place.store(hash, Ordering::Relaxed);
    }

    /// Whether any address is locked. If none is, nothing else need be checked.
    #[must_use]
    pub fn locks_anybody(&self, now: Duration) -> bool {
        millis(now) < self.any_locked_until.load(Ordering::Relaxed)
    }

    /// Takes the locks that have begun since the last call.
    #[must_use]
    pub fn begun(&self) -> Vec<Lock> {
        // Reading alone is what a request costs while nothing begins.
        if !self.has_begun.load(Ordering::Relaxed) || !self.has_begun.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        std::mem::take(&mut self.lock().begun)
    }

    /// Whether a client may use a key without it counting as one of those that are evaluated. `long` is its id if nobody
    /// could guess it.
    ///
    /// # Errors
    /// The time left, if the address is locked and no such key was valid from it before.
    pub fn permits(&self, client: Client, budget: Budget, long: Option<KeyId>, now: Duration) -> Result<(), Duration> {
        let place = client.place(budget);
        let tables = self.lock();
        let here = tables.failing.get(&place).map_or(Duration::ZERO, |record| record.left(now));
        let left = here.max(tables.elsewhere(client, budget, now));
        let is_good = || long.and_then(|key| tables.good.get(&(place.0, key))).is_some();
        if left.is_zero() || is_good() { Ok(()) } else { Err(left) }
    }

    /// Takes one of the evaluations that an address has while it is locked.
    ///
    /// # Errors
    /// The time left, if all are used up.
    pub fn evaluate(&self, client: Client, budget: Budget, now: Duration) -> Result<(), Duration> {
        match self.lock().lock_of(client, budget, now) {
            Some((left, evaluated)) if *evaluated >= MAX_EVALUATED => Err(left),
            Some((_, evaluated)) => {
                *evaluated += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Remembers that `key` is valid from `address`.
    pub fn succeeded(&self, address: IpAddr, key: KeyId) {
        self.lock().good.get_or_default((address.into(), key));
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(clippy::cast_possible_truncation, reason = "hashes may lose bits")]
    fn recent(&self, peer: u64, key: KeyId) -> (u64, &AtomicU64) {
        let key = u128::from_le_bytes(key.0);
        // 0 marks an empty place.
        let hash = (peer ^ (key >> 64 ^ key) as u64).max(1);
        (hash, &self.recent[hash as usize % RECENT])
    }
}

impl Client {
    fn place(self, budget: Budget) -> Place {
        (self.address.into(), budget)
    }
}

impl Tables {
    /// What is left of the lock of a client, and how many keys were evaluated in it.
    fn lock_of(&mut self, client: Client, budget: Budget, now: Duration) -> Option<(Duration, &mut usize)> {
        let elsewhere = self.elsewhere(client, budget, now);
        let record = self.failing.get_or_default(client.place(budget));
        let here = record.left(now);
        if !here.is_zero() {
            return Some((here.max(elsewhere), &mut record.evaluated));
        }
        let evaluated = self.shared.evaluated(&client.place(budget)).filter(|_| !elsewhere.is_zero());
        evaluated.map(|evaluated| (elsewhere, evaluated))
    }

    /// What is left of a lock that began on another machine.
    fn elsewhere(&self, client: Client, budget: Budget, now: Duration) -> Duration {
        if client.is_shared { self.shared.left(&client.place(budget), now) } else { Duration::ZERO }
    }

    fn count(&mut self, end: Duration, now: Duration) {
        self.locks += 1;
        self.forget_ended(now);
        if self.ends.len() < 2 * GENERATION {
            self.ends.push(Reverse(end));
        }
    }

    fn forget_ended(&mut self, now: Duration) {
        while self.ends.peek().is_some_and(|Reverse(end)| *end <= now) {
            self.ends.pop();
        }
    }
}

impl Record {
    fn left(&self, now: Duration) -> Duration {
        self.locked_until.saturating_sub(now)
    }

    fn lock(&mut self, now: Duration) {
        // After a quiet quarter of an hour, a lock is forgiven.
        if now > self.locked_until + MAX_LOCK {
            self.locks = 0;
        }
        let lock = FIRST_LOCK.saturating_mul(1 << self.locks.min(16)).min(MAX_LOCK);
        self.locks += 1;
        self.locked_until = now + lock;
        self.evaluated = 0;
        self.failures.clear();
    }
}

#[cfg(test)]
#[path = "../../tests/units/state_throttle.rs"]
mod tests;

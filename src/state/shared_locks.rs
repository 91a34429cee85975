//! Locks that machines share, of addresses that mean the same client for all of them.
//!
//! They are kept separate from this machine's own counts, so that records of others can't make it forget a guess or a lock
//! of its own.

use std::time::Duration;

use super::fact::Fact;
use super::network::Network;
use super::ranked::Ranked;
use super::throttle::{Budget, MAX_LOCK};
use crate::request::Now;

/// The most locks that are remembered: those that last longest.
pub const MAX: usize = 16_384;

/// What is locked.
pub type Place = (Network, Budget);

/// Locks by their ends, as they were reported.
#[derive(Default)]
pub struct SharedLocks(Ranked<Place, u64, Known>);

#[derive(Default)]
struct Known {
    /// The end by this machine's monotonic clock; `None` for a lock that began here, which is counted elsewhere.
    until: Option<Duration>,
    /// Keys that were evaluated during the lock.
    evaluated: usize,
}

impl SharedLocks {
    /// A lock begins here.
    pub fn begin(&mut self, place: Place, until: u64, now: Now) {
        self.insert(place, until, None, now);
    }

    /// A lock began elsewhere. It ends here at its own end, but after a quarter of an hour at the latest, however often it
    /// arrives. Returns whether it is new.
    pub fn merge(&mut self, place: Place, until: u64, now: Now) -> bool {
        let left = Duration::from_secs(until.saturating_sub(now.unix)).min(MAX_LOCK);
        !left.is_zero() && self.insert(place, until, Some(now.monotonic + left), now)
    }

    /// The time left of a lock that began elsewhere.
    pub fn left(&self, place: &Place, now: Duration) -> Duration {
        let until = self.0.get(place).and_then(|(_, known)| known.until);
        until.map_or(Duration::ZERO, |until| until.saturating_sub(now))
    }

    /// How many keys were evaluated during the lock.
    pub fn evaluated(&mut self, place: &Place) -> Option<&mut usize> {
        self.0.get_mut(place).map(|known| &mut known.evaluated)
    }

    /// All of them.
    pub fn facts(&self, now: Now) -> Vec<Fact> {
        let all = self.0.iter().filter(|(_, until, _)| *until > now.unix);
        all.map(|((network, budget), until, _)| Fact::Lock { network, budget, until }).collect()
    }

    fn insert(&mut self, place: Place, told: u64, until: Option<Duration>, now: Now) -> bool {
        self.0.drop_while(|told| told <= now.unix);
        let known = self.0.get(&place);
        if known.is_some_and(|(known, _)| known >= told) {
            return false;
        }
        let lasts = known.filter(|(_, known)| known.until.is_some_and(|until| until > now.monotonic));
        let evaluated = lasts.map_or(0, |(_, known)| known.evaluated);
        self.0.insert(place, told, Known { until, evaluated });
        self.0.keep(MAX);
        self.0.get(&place).is_some()
    }
}

#[cfg(test)]
#[path = "../../tests/units/state_shared_locks.rs"]
mod tests;

//! The machines that share the state, by their heartbeats every few seconds.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fact::{Fact, HEARD_WITHIN};
use super::ranked::Ranked;
use crate::request::Now;
use crate::secret::random_bytes;

/// The most machines that are remembered: those with the latest heartbeats.
pub const MAX: usize = 4096;

/// The random id of a machine, which is new after each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 16]);

impl fmt::Display for NodeId {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// This machine, and the others.
pub struct Nodes {
    own: NodeId,
    /// By the time in each heartbeat, with the time at which it arrived.
    others: Mutex<Ranked<NodeId, u64, Duration>>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { own: NodeId(random_bytes()), others: Mutex::default() }
    }
}

impl Nodes {
    /// The heartbeat of this machine.
    #[must_use]
    pub fn heartbeat(&self, now: Now) -> Fact {
        Fact::Node { id: self.own, seen: now.unix }
    }

    /// Merges another machine's heartbeat. Returns whether it is new.
    pub fn merge(&self, id: NodeId, seen: u64, now: Now) -> bool {
        let mut others = self.lock();
        if id == self.own || others.get(&id).is_some_and(|(known, _)| known >= seen) {
            return false;
        }
        others.insert(id, seen, now.monotonic);
        others.keep(MAX);
        others.get(&id).is_some()
    }

    /// How many are running, including this one: those with a recent heartbeat. Other clocks may be wrong, so the time in a
    /// heartbeat is only compared with the previous one.
    #[must_use]
    pub fn count(&self, now: Now) -> usize {
        let within = Duration::from_secs(HEARD_WITHIN);
        1 + self.lock().iter().filter(|(.., heard)| now.monotonic.saturating_sub(**heard) < within).count()
    }

    /// The heartbeats of the others.
    #[must_use]
    pub fn facts(&self, now: Now) -> Vec<Fact> {
        let others = self.lock();
        let facts = others.iter().map(|(id, seen, _)| Fact::Node { id, seen });
        facts.filter(|fact| fact.is_current(now)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Ranked<NodeId, u64, Duration>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "../../tests/units/state_nodes.rs"]
mod tests;

//! The machines that share the state, by what each says of itself every few seconds.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::fact::{Fact, HEARD_WITHIN};
use super::ranked::Ranked;
use crate::request::Now;
use crate::secret::random_bytes;

/// Most machines that are remembered: those that were there last.
pub const MAX: usize = 4096;

/// Names a machine, at random. It has another one after each start.
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
    /// By the time that each said it was there, with the time at which that was heard.
    others: Mutex<Ranked<NodeId, u64, Duration>>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { own: NodeId(random_bytes()), others: Mutex::default() }
    }
}

impl Nodes {
    /// What this machine says of itself.
    #[must_use]
    pub fn heartbeat(&self, now: Now) -> Fact {
        Fact::Node { id: self.own, seen: now.unix }
    }

    /// Another one is there. Returns whether that is news.
    pub fn merge(&self, id: NodeId, seen: u64, now: Now) -> bool {
        let mut others = self.lock();
        if id == self.own || others.get(&id).is_some_and(|(known, _)| known >= seen) {
            return false;
        }
        others.insert(id, seen, now.monotonic);
        others.keep(MAX);
        others.get(&id).is_some()
    }

    /// How many there are, this one included: those of which news came lately. The clocks of others may be wrong, so the time
    /// that they tell is only compared with the one before.
    #[must_use]
    pub fn count(&self, now: Now) -> usize {
        let within = Duration::from_secs(HEARD_WITHIN);
        1 + self.lock().iter().filter(|(.., heard)| now.monotonic.saturating_sub(**heard) < within).count()
    }

    /// What the others have said.
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

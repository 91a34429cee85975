//! Sessions that were ended before they expire.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::session::{Session, SessionId};

/// Most log-outs remembered. Only holders of a key can make sessions to end.
const MAX: usize = 65_536;

/// Each remembered until the session would have expired.
#[derive(Default)]
pub struct LogOuts(Mutex<HashMap<SessionId, u64>>);

impl LogOuts {
    /// Ends a session, so that a copy of its cookie is worth nothing. `now` is in seconds since 1970 (UTC).
    pub fn add(&self, session: &Session, now: u64) {
        let mut ended = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= MAX {
            ended.retain(|_, expires| *expires > now);
        }
        if ended.len() >= MAX
            && let Some(soonest) = ended.iter().min_by_key(|(_, expires)| **expires).map(|(id, _)| *id)
        {
            ended.remove(&soonest);
        }
        ended.insert(session.id, session.expires);
    }

    /// Whether a session was ended.
    #[must_use]
    pub fn contains(&self, session: &Session) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&session.id)
    }
}

#[cfg(test)]
#[path = "../../tests/units/state_log_outs.rs"]
mod tests;

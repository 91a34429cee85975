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
mod tests {
    use super::*;
    use crate::keys::KeyId;

    const NOW: u64 = 1_700_000_000;

    fn session(number: usize) -> Session {
        let number = u64::try_from(number).unwrap();
        Session { key: KeyId([0; 16]), id: SessionId(u128::from(number).to_be_bytes()), expires: NOW + number + 1 }
    }

    #[test]
    fn an_ended_session_stays_dead_and_others_live() {
        let ended = LogOuts::default();
        ended.add(&session(1), NOW);
        assert!(ended.contains(&session(1)) && !ended.contains(&session(2)));
    }

    #[test]
    fn are_bounded() {
        let ended = LogOuts::default();
        (0..=MAX).for_each(|number| ended.add(&session(number), NOW));
        assert_eq!(ended.0.lock().unwrap().len(), MAX);
        assert!(!ended.contains(&session(0)), "the one soonest to expire made room");
        assert!(ended.contains(&session(1)));
    }
}

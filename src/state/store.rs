//! Whether the state has a store, and whether it can be used.

use std::sync::atomic::{AtomicU8, Ordering};

const NONE: u8 = 0;
const THERE: u8 = 1;
const AWAY: u8 = 2;

/// The last report of the exchange with the store.
#[derive(Debug, Default)]
pub struct Store(AtomicU8);

impl Store {
    /// There is a store, which is unavailable or can be used.
    pub fn set_away(&self, is_away: bool) {
        self.0.store(if is_away { AWAY } else { THERE }, Ordering::Relaxed);
    }

    /// Whether it can be used; `None` if there is none.
    #[must_use]
    pub fn is_there(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            NONE => None,
            state => Some(state == THERE),
        }
    }
}

//! Whether the state has a store, and whether that can be used.

use std::sync::atomic::{AtomicU8, Ordering};

const NONE: u8 = 0;
const THERE: u8 = 1;
const AWAY: u8 = 2;

/// What the exchange with the store said last.
#[derive(Debug, Default)]
pub struct Store(AtomicU8);

impl Store {
    /// There is one, and it is away or can be used.
    pub fn set_away(&self, is_away: bool) {
        self.0.store(if is_away { AWAY } else { THERE }, Ordering::Relaxed);
    }

    /// Whether it can be used; `None` where there is none.
    #[must_use]
    pub fn is_there(&self) -> Option<bool> {
        match self.0.load(Ordering::Relaxed) {
            NONE => None,
            state => Some(state == THERE),
        }
    }
}

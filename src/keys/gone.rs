//! Keys that admit nobody any more.

use super::{Entry, Keys};
use crate::request::Now;

/// A key that has gone.
pub struct Gone<'k> {
    /// The key.
    pub key: &'k Entry,
    /// `removed`, `revoked` or `expired`.
    pub cause: &'static str,
}

/// The keys that were in force at `then` and are not now. Changing a key's expiry in its file can end it, too.
#[must_use]
pub fn gone<'k>(before: &'k Keys, then: Now, after: &Keys, now: Now) -> Vec<Gone<'k>> {
    let ended = before.in_force_at(then).filter(|key| after.by_id(key.id(), now).is_none());
    let why = |key: &'k Entry| {
        let cause = match after.known(key.id()).map(|after| after.attributes().expires) {
            None => "removed",
            Some(end) if end == key.attributes().expires => "expired",
            Some(_) => "revoked",
        };
        Gone { key, cause }
    };
    ended.map(why).collect()
}

#[cfg(test)]
#[path = "../../tests/units/keys_gone.rs"]
mod tests;

//! The latest time so far: an expired key stays expired even if the wall clock is set back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[cfg(test)]
use crate::request::Now;
use crate::request::millis;

/// The most that the wall clock was ahead of the monotonic one, in milliseconds.
#[derive(Default)]
pub struct Latest(AtomicU64);

impl Latest {
    /// Notes what both clocks say. `unix` is the time since 1970 (UTC).
    pub fn saw(&self, monotonic: Duration, unix: Duration) {
        self.0.fetch_max(millis(unix.saturating_sub(monotonic)), Ordering::Relaxed);
    }

    /// That number.
    #[must_use]
    pub fn ahead(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        const UNIX: u64 = 1_800_000_000;
        const HOUR: u64 = 3600;
        let latest = Latest::default();
        let secs = Duration::from_secs;
        let at = |monotonic| Now { monotonic, unix: 0, ahead: latest.ahead() }.latest();
        for (name, monotonic, unix, expected) in [
            ("at first", 5, UNIX, UNIX),
            ("as time goes", 15, UNIX + 10, UNIX + 10),
            ("set back by an hour", 25, UNIX + 20 - HOUR, UNIX + 20),
            ("and on from there", 35, UNIX + 30 - HOUR, UNIX + 30),
            ("set right again", 45, UNIX + 40, UNIX + 40),
            ("the machine slept", 55, UNIX + 50 + HOUR, UNIX + 50 + HOUR),
            ("set forward, and back again", 65, UNIX + 60, UNIX + 60 + HOUR),
        ] {
            latest.saw(secs(monotonic), secs(unix));
            assert_eq!(at(secs(monotonic)), expected, "{name}");
        }
        latest.saw(secs(66), Duration::MAX);
        assert_eq!(at(secs(66)), u64::MAX / 1000, "no clock at all: everything has expired");
    }
}

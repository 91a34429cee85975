//! The time of a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use crate::decide::Now;

/// Tells the time since it was made, and the wall clock's. Only sessions ask for the latter, in whole seconds, so it is
/// looked at no more than once a second.
pub struct Clock {
    started: Instant,
    unix: AtomicU64,
    looked_at: AtomicU64,
}

impl Clock {
    pub fn start() -> Self {
        Self { started: Instant::now(), unix: AtomicU64::new(0), looked_at: AtomicU64::new(u64::MAX) }
    }

    pub fn now(&self) -> Now {
        let monotonic = self.started.elapsed();
        if self.looked_at.load(Ordering::Acquire) != monotonic.as_secs() {
            self.unix.store(unix_time(), Ordering::Relaxed);
            self.looked_at.store(monotonic.as_secs(), Ordering::Release);
        }
        Now { monotonic, unix: self.unix.load(Ordering::Relaxed) }
    }
}

fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(u64::MAX, |time| time.as_secs())
}

//! The time of a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::latest::Latest;
use crate::request::{Now, millis};

/// A monotonic clock and the wall clock. Only sessions use the latter, in whole seconds, so it is read at most once a
/// second.
pub struct Clock {
    monotonic: Monotonic,
    unix: AtomicU64,
    latest: Latest,
    looked_at: AtomicU64,
}

impl Clock {
    pub fn start() -> Self {
        Self {
            monotonic: Monotonic::start(),
            unix: AtomicU64::new(0),
            latest: Latest::default(),
            looked_at: AtomicU64::new(u64::MAX),
        }
    }

    /// Makes the next call begin a second.
    pub fn begin_second(&self) {
        self.looked_at.store(u64::MAX, Ordering::Release);
    }

    /// The latest time so far since 1970 (UTC), in milliseconds. Never begins a second.
    pub fn latest_millis(&self) -> u64 {
        Now { monotonic: self.monotonic.elapsed(), unix: 0, ahead: self.latest.ahead() }.latest_millis()
    }

    /// The exact time now. Never begins a second.
    pub fn fresh(&self) -> Now {
        let (monotonic, unix) = (self.monotonic.elapsed(), unix_time());
        self.latest.saw(monotonic, unix);
        Now { monotonic, unix: unix.as_secs(), ahead: self.latest.ahead() }
    }

    /// The time. Calls `each_second` once a second, in the call that begins it.
    pub fn now(&self, each_second: impl FnOnce()) -> Now {
        let monotonic = self.monotonic.elapsed();
        if self.looked_at.load(Ordering::Acquire) != monotonic.as_secs() {
            each_second();
            let unix = unix_time();
            self.unix.store(unix.as_secs(), Ordering::Relaxed);
            self.latest.saw(monotonic, unix);
            self.looked_at.store(monotonic.as_secs(), Ordering::Release);
        }
        Now { monotonic, unix: self.unix.load(Ordering::Relaxed), ahead: self.latest.ahead() }
    }
}

/// Since 1970 (UTC). If the clock is before 1970, nothing is valid.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::MAX)
}

/// The same in milliseconds, for the audit log.
pub fn unix_millis() -> u64 {
    millis(unix_time())
}

/// Linux's coarse clock: the time of the kernel's last tick, a few milliseconds ago, at a fraction of the cost.
#[cfg(target_os = "linux")]
struct Monotonic;

#[cfg(target_os = "linux")]
impl Monotonic {
    fn start() -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "elsewhere it is asked for its start")]
    fn elapsed(&self) -> Duration {
        use nix::time::{ClockId, clock_gettime};
        clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map(Duration::from).expect("a clock that every Linux has")
    }
}

#[cfg(not(target_os = "linux"))]
struct Monotonic(std::time::Instant);

#[cfg(not(target_os = "linux"))]
impl Monotonic {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

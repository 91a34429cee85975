//! A cached probe, for a server whose health check must answer even if a driver doesn't.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Device;

/// How long figures count as fresh.
pub const CACHE_TIME: Duration = Duration::from_secs(1);

/// How long a health check should wait for a probe before it answers with the last known figures.
pub const FLIGHT_TIME: Duration = Duration::from_secs(2);

/// One probe at a time.
///
/// A probe runs on its own thread, so a hanging driver blocks nothing else: nobody joins that thread, it doesn't keep
/// the process from ending, and no second one starts meanwhile. If it comes back after all, its figures are used. (A
/// thread stuck *inside* the kernel, state D, delays the end of any process; no program can change that.)
pub struct Sampler(Arc<Shared>);

/// Figures, and how much to trust them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What the probe found.
    pub devices: Arc<[Device]>,
    /// When the probe came back with it.
    pub taken: Instant,
    /// The probe that should have replaced it hangs or has failed.
    pub stale: bool,
}

/// No figures: the probe didn't come back in time, or failed, and never succeeded before.
/// [`system_devices`](super::system_devices) then still knows the CPU's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSample;

impl fmt::Display for NoSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device drivers have not answered yet")
    }
}

impl std::error::Error for NoSample {}

struct Shared {
    probe: Box<dyn Fn() -> Vec<Device> + Send + Sync>,
    state: Mutex<State>,
    landed: Condvar,
}

#[derive(Default)]
struct State {
    last: Option<Sample>,
    /// When the running probe started.
    departed: Option<Instant>,
}

impl Sampler {
    /// A sampler of `probe`, which doesn't run yet.
    pub fn new(probe: impl Fn() -> Vec<Device> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared { probe: Box::new(probe), state: Mutex::default(), landed: Condvar::new() }))
    }

    /// The last figures if they are younger than [`CACHE_TIME`]. Never waits.
    #[must_use]
    pub fn fresh(&self, now: Instant) -> Option<Sample> {
        self.0.lock().fresh(now)
    }

    /// The last figures, however old. If they are not fresh, a probe starts for the next caller. Never waits.
    #[must_use]
    pub fn last(&self) -> Option<Sample> {
        let now = Instant::now();
        let mut state = self.0.lock();
        if state.fresh(now).is_none() && state.departed.is_none() && Shared::take_off(&self.0) {
            state.departed = Some(now);
        }
        state.last.clone()
    }

    /// Fresh figures, from the cache or from a probe: a new one, or the one that is running. A probe has `timeout` from
    /// its start; after that every caller gets the last known figures at once.
    ///
    /// # Errors
    ///
    /// [`NoSample`] where there are no last known figures.
    pub fn sample(&self, timeout: Duration) -> Result<Sample, NoSample> {
        let now = Instant::now();
        let mut state = self.0.lock();
        if let Some(sample) = state.fresh(now) {
            return Ok(sample);
        }
        let departed = state.departed.unwrap_or(now);
        if state.departed.is_none() && Shared::take_off(&self.0) {
            state.departed = Some(departed);
        }
        let patience = timeout.saturating_sub(now.saturating_duration_since(departed));
        let in_the_air = |state: &mut State| state.departed == Some(departed);
        let (state, _) =
            self.0.landed.wait_timeout_while(state, patience, in_the_air).unwrap_or_else(PoisonError::into_inner);
        let last = state.last.clone().ok_or(NoSample)?;
        Ok(Sample { stale: last.taken < departed, ..last })
    }
}

impl Shared {
    /// The lock is never held while the probe runs, so its state is whole even if a holder panicked.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a thread could be started.
    fn take_off(shared: &Arc<Self>) -> bool {
        let shared = Arc::clone(shared);
        thread::Builder::new().name("device-probe".into()).spawn(move || shared.fly()).is_ok()
    }

    fn fly(&self) {
        // A panic was already printed by its hook; here it is a probe without a result.
        let devices = catch_unwind(AssertUnwindSafe(|| (self.probe)())).ok();
        let mut state = self.lock();
        state.departed = None;
        if let Some(devices) = devices {
            state.last = Some(Sample { devices: devices.into(), taken: Instant::now(), stale: false });
        }
        drop(state);
        self.landed.notify_all();
    }
}

impl State {
    fn fresh(&self, now: Instant) -> Option<Sample> {
        self.last.clone().filter(|last| now.saturating_duration_since(last.taken) < CACHE_TIME)
    }
}

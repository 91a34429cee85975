//! How long prompts ran, by the labels of keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// By label: the time of prompts that ended, and the time last reported.
#[derive(Default)]
pub struct RunTimes(Mutex<BTreeMap<String, Times>>);

#[derive(Default)]
struct Times {
    ended: Duration,
    told: Duration,
}

impl RunTimes {
    /// Adds the time of a prompt that ended.
    pub fn add(&self, label: String, time: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(label).or_default().ended += time;
    }

    /// All times, including those of running prompts: a long prompt must not look as if it ran only at the moment it
    /// ends.
    ///
    /// A prompt that ends meanwhile may be in neither. The reported value stays, because a counter must not go back.
    pub fn with(&self, running: impl FnOnce() -> Vec<(String, Duration)>) -> Vec<(String, Duration)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut added: HashMap<String, Duration> = HashMap::new();
        for (label, time) in running() {
            all.entry(label.clone()).or_default();
            *added.entry(label).or_default() += time;
        }
        let tell = |(label, times): (&String, &mut Times)| {
            let running = added.get(label).copied().unwrap_or_default();
            times.told = times.told.max(times.ended + running);
            (label.clone(), times.told)
        };
        all.iter_mut().map(tell).collect()
    }
}

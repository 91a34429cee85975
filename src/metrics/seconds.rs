//! How long prompts ran, by the labels of keys.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// By label: the time of those that ended, and what was told.
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

    /// All times, with those of prompts that run: a long one must not look as if it had run in the moment in which it ends.
    ///
    /// One that ends meanwhile may be in neither: what was told stays, since a counter must not go back.
    pub fn with(&self, running: impl FnOnce() -> Vec<(String, Duration)>) -> Vec<(String, Duration)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now: BTreeMap<_, _> = all.iter().map(|(label, times)| (label.clone(), times.ended)).collect();
        for (label, time) in running() {
            *now.entry(label).or_default() += time;
        }
        for (label, time) in &mut now {
            let told = &mut all.entry(label.clone()).or_default().told;
            *told = (*told).max(*time);
            *time = *told;
        }
        now.into_iter().collect()
    }
}

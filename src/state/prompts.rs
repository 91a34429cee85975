//! Prompts that ComfyUI has queued or runs, and who asked for them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::audit::Who;
use crate::keys::KeyId;
use crate::state::limits::Turn;

/// Who sent the request behind an action.
#[derive(Debug, PartialEq, Eq)]
pub struct Asker {
    /// The key.
    pub key: KeyId,
    /// How the log names it.
    pub who: Who,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The client's trace.
    pub traceparent: Option<String>,
}

/// One prompt.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Who asked for it; `None` if a node queued it by itself.
    pub asker: Option<Arc<Asker>>,
    /// When it started.
    started: Option<Duration>,
    /// The key that interrupted it.
    pub interrupted_by: Option<KeyId>,
}

impl Prompt {
    /// How long it has run; `None` if it hasn't started.
    #[must_use]
    pub fn seconds(&self, now: Duration) -> Option<Duration> {
        self.started.map(|started| now.saturating_sub(started))
    }
}

/// All of them, by ComfyUI's id. Clients choose it, so there may be several with the same one. All times are of one monotonic
/// clock.
#[derive(Default)]
pub struct Prompts(Mutex<HashMap<String, Vec<Entry>>>);

/// One of them, and its place among those of its user, if the user has limits.
#[derive(Default)]
struct Entry {
    prompt: Prompt,
    _turn: Option<Turn>,
}

impl Prompts {
    /// The prompt was queued.
    pub fn queued(&self, id: &str, asker: Option<Arc<Asker>>, turn: Option<Turn>) {
        let entry = Entry { prompt: Prompt { asker, ..Prompt::default() }, _turn: turn };
        self.lock().entry(id.to_owned()).or_default().push(entry);
    }

    /// The prompt runs. Returns who asked for it.
    pub fn started(&self, id: &str, now: Duration) -> Option<Arc<Asker>> {
        let mut prompts = self.lock();
        let of_id = prompts.entry(id.to_owned()).or_default();
        if of_id.iter().all(|entry| entry.prompt.started.is_some()) {
            of_id.push(Entry::default()); // it was queued without our knowledge
        }
        let prompt = of_id.iter_mut().map(|entry| &mut entry.prompt).find(|prompt| prompt.started.is_none())?;
        prompt.started = Some(now);
        prompt.asker.clone()
    }

    /// Those that are running, and for how long.
    #[must_use]
    pub fn running(&self, now: Duration) -> Vec<(Option<Arc<Asker>>, Duration)> {
        let prompts = self.lock();
        let all = prompts.values().flatten();
        all.filter_map(|entry| Some((entry.prompt.asker.clone(), entry.prompt.seconds(now)?))).collect()
    }

    /// Someone has asked to interrupt the running prompt.
    pub fn interrupted(&self, by: KeyId) {
        let mut prompts = self.lock();
        for prompt in
            prompts.values_mut().flatten().map(|entry| &mut entry.prompt).filter(|prompt| prompt.started.is_some())
        {
            prompt.interrupted_by = Some(by);
        }
    }

    /// The prompt ran, and has ended.
    pub fn finished(&self, id: &str) -> Option<Prompt> {
        self.take(id, |prompt| prompt.started.is_some())
    }

    /// The prompt was removed from the queue.
    pub fn cancelled(&self, id: &str) -> Option<Prompt> {
        self.take(id, |prompt| prompt.started.is_none())
    }

    /// All that are left, when the server ends.
    #[must_use]
    pub fn drain(&self) -> Vec<(String, Prompt)> {
        let mut prompts = self.lock();
        let all =
            prompts.drain().flat_map(|(id, of_id)| of_id.into_iter().map(move |entry| (id.clone(), entry.prompt)));
        all.collect()
    }

    fn take(&self, id: &str, is_it: impl Fn(&Prompt) -> bool) -> Option<Prompt> {
        let mut prompts = self.lock();
        let of_id = prompts.get_mut(id)?;
        let place = of_id.iter().position(|entry| is_it(&entry.prompt))?;
        let prompt = of_id.remove(place).prompt;
        if of_id.is_empty() {
            prompts.remove(id);
        }
        Some(prompt)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "../../tests/units/state_prompts.rs"]
mod tests;

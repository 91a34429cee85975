//! How much each user has queued.
//!
//! A limit counts the set of queued prompts, each with its time. A prompt leaves the set after the window, so no window
//! ever holds more (a sliding window). Keys of one user share the set, but each has its own limits.
//!
//! A place is reserved before ComfyUI checks a prompt, and counts from then on. It becomes a prompt when ComfyUI queues it,
//! or is given back.
//!
//! Machines that share a state exchange their prompts, and the union counts. While the store is unavailable they can't: then
//! what is left of a limit is divided among the machines that were running.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::changes::Changes;
use super::fact::Fact;
use crate::allowance::{Allowance, Prompts, Queued};
use crate::keys::{KeyId, MOST_PROMPTS, Quota, Rate, Window};
use crate::secret::random_bytes;

/// The sets of all users, by their names or the ids of their keys.
#[derive(Default, Clone)]
pub struct Limits(Arc<Inner>);

#[derive(Default)]
struct Inner {
    accounts: Mutex<Accounts>,
    changes: Arc<Changes>,
}

#[derive(Default)]
struct Accounts {
    by_subject: HashMap<String, Account>,
    alone: Option<Alone>,
}

/// The store is unavailable.
#[derive(Clone, Copy)]
struct Alone {
    /// Since when, in milliseconds since 1970.
    since: u64,
    /// How many machines share what was left then.
    machines: usize,
}

/// The places and prompts of one user.
#[derive(Default)]
struct Account {
    admitted: Admitted,
    /// Places whose prompts ComfyUI has not answered yet.
    reserved: usize,
    /// Prompts that wait or run.
    queued: usize,
}

/// The queued prompts, in order: a set that grows until its entries expire. The union of two machines' sets is what both
/// have admitted.
#[derive(Default)]
struct Admitted(VecDeque<Admission>);

/// One prompt that was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Admission {
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// Its name, a random number.
    pub id: u64,
    /// By which key.
    pub key: KeyId,
}

/// A place for one prompt. Dropping it gives the place back if nothing was queued.
pub struct Ticket {
    user: User,
    key: KeyId,
    quota: Quota,
    is_open: bool,
}

/// Counts as a prompt that waits or runs until it is dropped.
pub struct Turn(User);

/// A user's account. One with places is never forgotten.
#[derive(Clone)]
struct User {
    limits: Limits,
    subject: String,
}

impl Limits {
    /// Limits with nothing queued. Prompts queued here are added to `changes`.
    #[must_use]
    pub fn new(changes: Arc<Changes>) -> Self {
        Self(Arc::new(Inner { accounts: Mutex::default(), changes }))
    }

    /// A place for one more prompt of `subject` by one of its keys. `now` is in milliseconds since 1970 (UTC), and never goes
    /// back.
    ///
    /// # Errors
    /// What is left, if a limit is reached.
    pub fn reserve(&self, key: KeyId, subject: &str, quota: Quota, now: u64) -> Result<Ticket, Allowance> {
        let mut accounts = self.lock();
        let alone = accounts.alone;
        let account = accounts.of(subject, now);
        let left = account.allowance(quota, alone, now);
        if left.reached().is_some() {
            return Err(left);
        }
        account.reserved += 1;
        Ok(Ticket { user: User { limits: self.clone(), subject: subject.to_owned() }, key, quota, is_open: true })
    }

    /// What a key of `subject` with this quota may still queue.
    #[must_use]
    pub fn allowance(&self, subject: &str, quota: Quota, now: u64) -> Allowance {
        let accounts = self.lock();
        let account = accounts.by_subject.get(subject);
        account.unwrap_or(&Account::default()).allowance(quota, accounts.alone, now)
    }

    /// Merges a prompt of `subject` that another machine has queued. Returns whether it is new.
    #[must_use]
    pub fn merge(&self, subject: &str, prompt: Admission, now: u64) -> bool {
        let mut accounts = self.lock();
        let admitted = &mut accounts.of(subject, now).admitted;
        admitted.add(prompt, now).is_some_and(|outdated| !outdated.contains(&prompt))
    }

    /// The prompts, queued here or elsewhere, that still count.
    #[must_use]
    pub fn prompts(&self, now: u64) -> Vec<Admission> {
        let subjects: Vec<_> = self.lock().by_subject.keys().cloned().collect();
        let mut prompts = Vec::new();
        for subject in subjects {
            let accounts = self.lock();
            let Some(Account { admitted, .. }) = accounts.by_subject.get(&subject) else { continue };
            prompts.extend(admitted.0.range(admitted.0.len() - admitted.within(Window::Day, now)..));
        }
        prompts
    }

    /// The store is unavailable, and this many machines share what is left of each limit; or it is available again.
    pub fn divide(&self, machines: Option<usize>, now: u64) {
        let mut accounts = self.lock();
        accounts.alone = match (machines, accounts.alone) {
            (Some(_), Some(alone)) => Some(alone),
            (machines, _) => machines.map(|machines| Alone { since: now, machines: machines.max(1) }),
        };
    }

    fn lock(&self) -> MutexGuard<'_, Accounts> {
        self.0.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    fn of(&mut self, subject: &str, now: u64) -> &mut Account {
        if !self.by_subject.contains_key(subject) {
            self.by_subject.retain(|_, account| !account.is_forgotten(now));
        }
        self.by_subject.entry(subject.to_owned()).or_default()
    }
}

impl Account {
    fn allowance(&self, quota: Quota, alone: Option<Alone>, now: u64) -> Allowance {
        let prompts = |rate| match alone {
            None => self.prompts(rate, now),
            Some(alone) => self.share(rate, alone, now),
        };
        Allowance {
            prompts: quota.prompts.map(prompts),
            queued: quota.queued.map(|most| Queued { most, left: left(most, self.reserved + self.queued) }),
        }
    }

    fn prompts(&self, rate: Rate, now: u64) -> Prompts {
        let admitted = self.admitted.within(rate.window, now);
        // There is room for one more once this many of them have left.
        let room = (rate.most as usize).saturating_sub(self.reserved);
        let next = self.admitted.newest(admitted.min(room));
        let reset = next.map(|prompt| prompt.seconds_left(rate.window, now));
        Prompts { rate, left: left(rate.most, self.reserved + admitted), reset }
    }

    /// The same while the store is unavailable: this machine's part of what was left.
    fn share(&self, rate: Rate, alone: Alone, now: u64) -> Prompts {
        let admitted = self.admitted.within(rate.window, now);
        let inside = self.admitted.0.range(self.admitted.0.len() - admitted..);
        let earlier = inside.clone().filter(|prompt| prompt.time < alone.since).count();
        let left_of = |earlier: usize, here: usize| {
            let share = left(rate.most, earlier).checked_div(u32::try_from(alone.machines).unwrap_or(u32::MAX));
            let share = share.unwrap_or(0).max(u32::from(left(rate.most, earlier) > 0));
            left(share, here + self.reserved)
        };
        let now_left = left_of(earlier, admitted - earlier);
        // They leave in order, those from before the store became unavailable first.
        let mut leaving = inside
            .zip(1..)
            .filter(|(_, gone)| left_of(earlier.saturating_sub(*gone), admitted - earlier.max(*gone)) > now_left);
        let reset = leaving.next().map(|(prompt, _)| prompt.seconds_left(rate.window, now));
        Prompts { rate, left: now_left, reset }
    }

    fn is_forgotten(&self, now: u64) -> bool {
        self.reserved + self.queued + self.admitted.within(Window::Day, now) == 0
    }
}

impl Admission {
    /// What other machines are told about it.
    #[must_use]
    pub fn fact(self) -> Fact {
        Fact::Prompt { key: self.key, time: self.time, id: self.id }
    }

    /// Seconds until it leaves the window, rounded up.
    fn seconds_left(self, window: Window, now: u64) -> u32 {
        let left = self.time.saturating_add(millis(window)).saturating_sub(now);
        u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX)
    }
}

impl Admitted {
    /// Keeps only as many as the highest possible limit: older ones make no difference. Returns those that are dropped, or
    /// `None` if it is known already.
    fn add(&mut self, prompt: Admission, now: u64) -> Option<Vec<Admission>> {
        let at = self.0.binary_search(&prompt).err()?;
        self.0.insert(at, prompt);
        let outdated = self.0.len().saturating_sub(self.within(Window::Day, now).min(MOST_PROMPTS as usize));
        Some(self.0.drain(..outdated).collect())
    }

    /// How many are in the window that ends now.
    fn within(&self, window: Window, now: u64) -> usize {
        self.0.len() - self.0.partition_point(|prompt| now.saturating_sub(prompt.time) >= millis(window))
    }

    /// The newest (1), the one before it (2), and so on.
    fn newest(&self, place: usize) -> Option<Admission> {
        let place = self.0.len().checked_sub(place)?;
        self.0.get(place).copied()
    }
}

impl Ticket {
    /// ComfyUI queues the prompt. `None` if this ticket was used already, or its place was given back.
    pub fn queued(&mut self, now: u64) -> Option<Turn> {
        if !std::mem::replace(&mut self.is_open, false) {
            return None;
        }
        let prompt = Admission { time: now, id: u64::from_le_bytes(random_bytes()), key: self.key };
        let mut outdated = Vec::new();
        self.user.change(|account| {
            account.reserved -= 1;
            account.queued += 1;
            outdated = account.admitted.add(prompt, now).unwrap_or_default();
        });
        let changes = &self.user.limits.0.changes;
        changes.add(prompt.fact(), None);
        for outdated in outdated {
            changes.remove(outdated.fact(), None);
        }
        Some(Turn(self.user.clone()))
    }

    /// Nothing more will be queued by it.
    pub fn give_back(&mut self) {
        if std::mem::replace(&mut self.is_open, false) {
            self.user.change(|account| account.reserved -= 1);
        }
    }

    /// What its key may still queue.
    #[must_use]
    pub fn allowance(&self, now: u64) -> Allowance {
        self.user.limits.allowance(&self.user.subject, self.quota, now)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.change(|account| account.queued -= 1);
    }
}

impl User {
    fn change(&self, change: impl FnOnce(&mut Account)) {
        self.limits.lock().by_subject.get_mut(&self.subject).map(change);
    }
}

fn left(most: u32, taken: usize) -> u32 {
    u32::try_from(taken).map_or(0, |taken| most.saturating_sub(taken))
}

const fn millis(window: Window) -> u64 {
    window.seconds() * 1000
}

#[cfg(test)]
#[path = "../../tests/units/state_limits.rs"]
mod tests;

//! How much each user has queued.
//!
//! A limit is the set of the prompts that were queued, each with its time. A prompt leaves the set after the window, so no
//! window ever holds more. Keys of one user share the set, and each is judged by its own limits.
//!
//! A place is reserved before ComfyUI looks at a prompt. It counts from then on. It becomes a prompt when ComfyUI queues it,
//! or is given back.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::allowance::{Allowance, Prompts, Queued};
use crate::keys::{MOST_PROMPTS, Quota, Rate, Window};
use crate::secret::random_bytes;

/// The sets of all users, by their names or the ids of their keys.
#[derive(Default, Clone)]
pub struct Limits(Arc<Mutex<HashMap<String, Account>>>);

/// What one user has queued.
#[derive(Default)]
struct Account {
    admitted: Admitted,
    /// Places that ComfyUI has not answered yet.
    reserved: usize,
    /// Prompts that wait or run.
    queued: usize,
}

/// The prompts that were queued: times in milliseconds since 1970 and ids, in order. It is a set that grows until its entries
/// expire. The union of those of two machines is what both have admitted.
#[derive(Default)]
struct Admitted(VecDeque<(u64, u64)>);

/// A place for one prompt. It is given back when this is dropped, if nothing was queued.
pub struct Ticket {
    user: User,
    quota: Quota,
    is_open: bool,
}

/// Counts as a prompt that waits or runs until it is dropped.
pub struct Turn(User);

/// Whose account it is. One with places is never forgotten.
#[derive(Clone)]
struct User {
    limits: Limits,
    subject: String,
}

impl Limits {
    /// A place for one more prompt of `subject`. `now` is in milliseconds since 1970 (UTC), and never goes back.
    ///
    /// # Errors
    /// What is left, where a limit is reached.
    pub fn reserve(&self, subject: &str, quota: Quota, now: u64) -> Result<Ticket, Allowance> {
        let mut accounts = self.lock();
        if !accounts.contains_key(subject) {
            accounts.retain(|_, account| !account.is_forgotten(now));
        }
        let account = accounts.entry(subject.to_owned()).or_default();
        let left = account.allowance(quota, now);
        if left.reached().is_some() {
            return Err(left);
        }
        account.reserved += 1;
        Ok(Ticket { user: User { limits: self.clone(), subject: subject.to_owned() }, quota, is_open: true })
    }

    /// What a key of `subject` with this quota may still queue.
    #[must_use]
    pub fn allowance(&self, subject: &str, quota: Quota, now: u64) -> Allowance {
        self.lock().get(subject).unwrap_or(&Account::default()).allowance(quota, now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Account>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn allowance(&self, quota: Quota, now: u64) -> Allowance {
        Allowance {
            prompts: quota.prompts.map(|rate| self.prompts(rate, now)),
            queued: quota.queued.map(|most| Queued { most, left: left(most, self.reserved + self.queued) }),
        }
    }

    fn prompts(&self, rate: Rate, now: u64) -> Prompts {
        let admitted = self.admitted.within(rate.window, now);
        // There is room for one more when so many of them are left.
        let room = (rate.most as usize).saturating_sub(self.reserved);
        let next = self.admitted.newest(admitted.min(room));
        let seconds = |time: u64| time.saturating_add(millis(rate.window)).saturating_sub(now).div_ceil(1000);
        let reset = next.map(|time| u32::try_from(seconds(time)).unwrap_or(u32::MAX));
        Prompts { rate, left: left(rate.most, self.reserved + admitted), reset }
    }

    fn is_forgotten(&self, now: u64) -> bool {
        self.reserved + self.queued + self.admitted.within(Window::Day, now) == 0
    }
}

impl Admitted {
    /// Only as many are kept as a limit may name: an older one changes no judgement.
    fn add(&mut self, now: u64) {
        let entry = (now, u64::from_le_bytes(random_bytes()));
        let at = self.0.partition_point(|other| *other < entry);
        self.0.insert(at, entry);
        let outdated = self.0.len().saturating_sub(self.within(Window::Day, now).min(MOST_PROMPTS as usize));
        self.0.drain(..outdated);
    }

    /// How many are in the window that ends now.
    fn within(&self, window: Window, now: u64) -> usize {
        self.0.len() - self.0.partition_point(|(time, _)| now.saturating_sub(*time) >= millis(window))
    }

    /// The time of the newest (1), of the one before it (2), and so on.
    fn newest(&self, place: usize) -> Option<u64> {
        let place = self.0.len().checked_sub(place)?;
        self.0.get(place).map(|(time, _)| *time)
    }
}

impl Ticket {
    /// ComfyUI queues the prompt. `None` where it has queued one by this ticket, or the place was given back.
    pub fn queued(&mut self, now: u64) -> Option<Turn> {
        if !std::mem::replace(&mut self.is_open, false) {
            return None;
        }
        self.user.change(|account| {
            account.reserved -= 1;
            account.queued += 1;
            account.admitted.add(now);
        });
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
        self.limits.lock().get_mut(&self.subject).map(change);
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

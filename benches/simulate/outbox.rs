//! What is still to be written, in the order in which it matters, and no faster than allowed: `store/outbox.py`.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use super::exchange::{AROUND, LARGEST_BATCH, MOST_SAVED, RATE, ROUNDED};
use super::store::Told;
use super::time::SECOND;

#[derive(Default)]
pub struct Outbox {
    news: Waiting,
    lacking: Waiting,
    locks: Waiting,
    /// What may leave now, in bytes.
    saved: f64,
    at: Option<u64>,
    /// How long locks are gathered, and when the next ones may leave.
    gather: u64,
    locks_at: u64,
    pub dropped: u64,
}

/// Records in order, none twice.
#[derive(Default)]
struct Waiting {
    records: VecDeque<Told>,
    names: HashSet<Rc<[u8]>>,
}

impl Outbox {
    pub fn new(gather: u64) -> Self {
        Self { gather, ..Self::default() }
    }

    pub fn add(&mut self, records: impl IntoIterator<Item = Told>, are_news: bool) {
        for record in records {
            let others = if are_news { &mut self.news } else { &mut self.lacking };
            let waiting = if record.name[0] == b'l' { &mut self.locks } else { others };
            waiting.push(record);
        }
        let mut room = RATE;
        let fits = |record: &&Told| {
            room = room.saturating_sub(cost(record));
            room > 0
        };
        let stay = self.locks.records.iter().take_while(fits).count();
        for lock in self.locks.records.drain(stay..) {
            self.locks.names.remove(&lock.name);
            self.dropped += 1;
        }
    }

    /// What may leave now.
    pub fn take(&mut self, now: u64) -> Vec<Told> {
        self.earn(now);
        let mut left = self.saved;
        let mut batch = Vec::new();
        self.news.fitting(&mut left, &mut batch);
        // Not a few at a time.
        if left >= MOST_SAVED as f64 / 2.0 && self.lacking.fitting(&mut left, &mut batch) && now >= self.locks_at {
            self.locks.fitting(&mut left, &mut batch);
        }
        batch
    }

    /// They are in the store.
    pub fn written(&mut self, batch: &[Told]) {
        self.saved -= batch.iter().map(cost).sum::<u64>() as f64;
        if batch.iter().any(|record| record.name[0] == b'l') {
            self.locks_at = self.at.unwrap_or(0) + self.gather;
        }
        for waiting in [&mut self.news, &mut self.lacking, &mut self.locks] {
            waiting.remove(batch);
        }
    }

    /// The time from the last `take` until more may leave; `None` where nothing waits.
    pub fn delay(&self) -> Option<u64> {
        if [&self.news, &self.lacking].iter().any(|waiting| !waiting.records.is_empty()) {
            return Some(MOST_SAVED / 2 * SECOND / RATE);
        }
        let saving = (MOST_SAVED as f64 / 2.0 - self.saved) * SECOND as f64 / RATE as f64;
        let gathering = self.locks_at.saturating_sub(self.at.unwrap_or(0));
        (!self.locks.records.is_empty()).then_some(gathering.max(saving as u64) + ROUNDED)
    }

    pub fn has_news(&self) -> bool {
        !self.news.records.is_empty()
    }

    fn earn(&mut self, now: u64) {
        let earned = self.at.map_or(MOST_SAVED as f64, |at| (now - at) as f64 * RATE as f64 / SECOND as f64);
        self.saved = (self.saved + earned).min(MOST_SAVED as f64);
        self.at = Some(now);
    }
}

impl Waiting {
    fn push(&mut self, record: Told) {
        if self.names.insert(Rc::clone(&record.name)) {
            self.records.push_back(record);
        }
    }

    /// Copies as many of the first as fit. Returns whether all did.
    fn fitting(&self, left: &mut f64, batch: &mut Vec<Told>) -> bool {
        for record in &self.records {
            *left -= cost(record) as f64;
            if *left < 0.0 || batch.len() == LARGEST_BATCH {
                return false;
            }
            batch.push(record.clone());
        }
        true
    }

    fn remove(&mut self, batch: &[Told]) {
        let written: HashSet<_> = batch.iter().map(|record| &record.name).collect();
        // They were the first ones when they were taken, and more came only after them.
        while self.records.front().is_some_and(|record| written.contains(&record.name)) {
            let name = self.records.pop_front().map(|record| record.name);
            name.map(|name| self.names.remove(&name));
        }
    }
}

fn cost(record: &Told) -> u64 {
    2 * (record.name.len() + record.value.len()) as u64 + AROUND
}

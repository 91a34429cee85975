//! What is still to be written, most important first, and no faster than allowed: `store/outbox.py`.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use super::exchange::{AROUND, LARGEST_BATCH, LOCKS_LAST, MOST_LOCKS, MOST_SAVED, RATE, ROUNDED, Variation};
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
    /// How long locks are gathered, how many then leave, and when the next ones may leave.
    gather: u64,
    most_locks: usize,
    locks_at: u64,
    /// How many more locks may be taken in.
    locks_saved: f64,
    pub dropped: u64,
}

/// Records in order, without duplicates.
#[derive(Default)]
struct Waiting {
    records: VecDeque<Told>,
    names: HashSet<Rc<[u8]>>,
}

impl Outbox {
    pub fn new(variation: Variation) -> Self {
        let locks_saved = MOST_LOCKS as f64;
        Self { gather: variation.gather, most_locks: variation.locks, locks_saved, ..Self::default() }
    }

    pub fn add(&mut self, records: impl IntoIterator<Item = Told>, are_news: bool) {
        for record in records {
            let others = if are_news { &mut self.news } else { &mut self.lacking };
            if record.name[0] != b'l' {
                others.push(record);
            } else if self.locks_saved >= 1.0 {
                self.locks.push(record);
                self.locks_saved -= 1.0;
            } else {
                self.dropped += 1;
            }
        }
        let mut room = RATE;
        let fits = |record: &&Told| {
            room = room.saturating_sub(cost(record));
            room > 0
        };
        let stay = self.locks.records.iter().take_while(fits).count();
        for lock in self.locks.records.drain(stay..) {
            self.locks.names.remove(&lock.name);
            self.locks_saved += 1.0;
            self.dropped += 1;
        }
    }

    /// What may leave now.
    pub fn take(&mut self, now: u64) -> Vec<Told> {
        self.earn(now);
        let mut left = self.saved;
        let mut batch = Vec::new();
        self.news.fitting(&mut left, &mut batch, LARGEST_BATCH);
        // Not just a few at a time.
        if left >= MOST_SAVED as f64 / 2.0
            && self.lacking.fitting(&mut left, &mut batch, LARGEST_BATCH)
            && now >= self.locks_at
        {
            let most = LARGEST_BATCH.min(batch.len() + self.most_locks);
            self.locks.fitting(&mut left, &mut batch, most);
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

    /// The time from the last `take` until more may leave; `None` if nothing waits.
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
        let passed = self.at.map_or(0.0, |at| (now - at) as f64);
        let more = passed * MOST_LOCKS as f64 / LOCKS_LAST as f64;
        self.locks_saved = (self.locks_saved + more).min(MOST_LOCKS as f64);
        self.at = Some(now);
    }
}

impl Waiting {
    fn push(&mut self, record: Told) {
        if self.names.insert(Rc::clone(&record.name)) {
            self.records.push_back(record);
        }
    }

    /// Copies as many of the first records as fit. Returns whether all of them did.
    fn fitting(&self, left: &mut f64, batch: &mut Vec<Told>, most: usize) -> bool {
        for record in &self.records {
            *left -= cost(record) as f64;
            if *left < 0.0 || batch.len() == most {
                return false;
            }
            batch.push(record.clone());
        }
        true
    }

    fn remove(&mut self, batch: &[Told]) {
        let written: HashSet<_> = batch.iter().map(|record| &record.name).collect();
        // They were first when they were taken, and new ones are added only at the end.
        while self.records.front().is_some_and(|record| written.contains(&record.name)) {
            let name = self.records.pop_front().map(|record| record.name);
            name.map(|name| self.names.remove(&name));
        }
    }
}

fn cost(record: &Told) -> u64 {
    2 * (record.name.len() + record.value.len()) as u64 + AROUND
}

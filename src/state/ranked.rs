//! A map whose entries have ranks, so that the lowest can make room.
//!
//! Limited to its highest entries, it is the same whatever the order in which entries came, and however often.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Entries by key and by rank.
pub struct Ranked<K, R, V> {
    entries: HashMap<K, (R, V)>,
    ranks: BTreeSet<(R, K)>,
}

impl<K, R, V> Default for Ranked<K, R, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), ranks: BTreeSet::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord, R: Copy + Ord, V> Ranked<K, R, V> {
    /// An entry and its rank.
    pub fn get(&self, key: &K) -> Option<(R, &V)> {
        self.entries.get(key).map(|(rank, value)| (*rank, value))
    }

    /// The value of an entry.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// Puts an entry in, in place of the one that has its key.
    pub fn insert(&mut self, key: K, rank: R, value: V) {
        if let Some((before, _)) = self.entries.insert(key, (rank, value)) {
            self.ranks.remove(&(before, key));
        }
        self.ranks.insert((rank, key));
    }

    /// Removes the lowest entries as long as they are out.
    pub fn drop_while(&mut self, is_out: impl Fn(R) -> bool) {
        while let Some((rank, key)) = self.ranks.first().copied().filter(|(rank, _)| is_out(*rank)) {
            self.ranks.remove(&(rank, key));
            self.entries.remove(&key);
        }
    }

    /// Removes all but the highest `most`.
    pub fn keep(&mut self, most: usize) {
        while self.ranks.len() > most
            && let Some((_, key)) = self.ranks.pop_first()
        {
            self.entries.remove(&key);
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (K, R, &V)> {
        self.entries.iter().map(|(key, (rank, value))| (*key, *rank, value))
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

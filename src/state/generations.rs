//! A bounded map that forgets entries.

use std::collections::HashMap;
use std::hash::Hash;

/// Entries per generation. At most twice as many are kept.
pub const GENERATION: usize = 32_768;

/// Forgets entries that were not used while [`GENERATION`] others were: when the young generation is full, the old one is
/// dropped. So entries in use stay, and a flood of entries costs no more memory.
pub struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Generations<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, V: Default> Generations<K, V> {
    /// An entry, which does not count as used.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// An entry that is used.
    pub fn get_or_default(&mut self, key: K) -> &mut V {
        if !self.young.contains_key(&key) {
            if self.young.len() >= GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            let value = self.old.remove(&key).unwrap_or_default();
            self.young.insert(key, value);
        }
        self.young.entry(key).or_default()
    }

    /// How many entries there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

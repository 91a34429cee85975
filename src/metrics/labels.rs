//! Labels of keys, limited to as many as a time series database can take.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The most labels that are told apart.
pub const MOST: usize = 1000;

/// What all other labels are called.
pub const OTHER: &str = "other";

/// Longest label, in characters.
pub const LONGEST: usize = 64;

/// The labels seen so far. A label that was reported once stays reported, because counters must not go back.
#[derive(Default)]
pub struct Labels(Mutex<HashSet<String>>);

impl Labels {
    /// The name under which a key's label is reported.
    pub fn bounded(&self, label: Option<&str>) -> String {
        let label = cut(label);
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !label.is_empty() && !seen.contains(label) {
            if seen.len() >= MOST {
                return OTHER.to_owned();
            }
            seen.insert(label.to_owned());
        }
        label.to_owned()
    }
}

/// Its beginning; empty if there is no label.
pub fn cut(label: Option<&str>) -> &str {
    let label = label.unwrap_or_default();
    if label.len() <= LONGEST {
        return label;
    }
    label.char_indices().nth(LONGEST).map_or(label, |(end, _)| &label[..end])
}

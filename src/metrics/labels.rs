//! Labels of keys, as many as a database of time series takes.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// Most labels that are told apart.
pub const MOST: usize = 1000;

/// What all further ones are called.
pub const OTHER: &str = "other";

/// Longest label, in characters.
pub const LONGEST: usize = 64;

/// Those that were seen. What was told of one goes on being told of it: counters must not go back.
#[derive(Default)]
pub struct Labels(Mutex<HashSet<String>>);

impl Labels {
    /// What a key's label is called.
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

/// Its beginning; nothing where there is none.
pub fn cut(label: Option<&str>) -> &str {
    let label = label.unwrap_or_default();
    if label.len() <= LONGEST {
        return label;
    }
    label.char_indices().nth(LONGEST).map_or(label, |(end, _)| &label[..end])
}

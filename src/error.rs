//! A fault of the configuration, which stops the start. The refusal of a request is a [`Denial`](crate::decision::Denial).

use std::fmt;

use crate::keys::REDACTED;
use crate::secret::SHORT_KEY_LENGTH;

/// A start-up fault: the server must not start. One line: where, what, what to do; never the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting, by its name in Python (`exempt`): only the caller knows how the operator spelled it.
    pub setting: &'static str,
    /// `FILE` or `FILE:LINE`, if the value came from a file.
    pub place: Option<String>,
    /// What is wrong, and what to do.
    pub detail: String,
}

impl ConfigError {
    /// A fault of the value itself.
    #[must_use]
    pub fn new(setting: &'static str, detail: impl Into<String>) -> Self {
        Self { setting, place: None, detail: detail.into() }
    }

    /// A fault of a key file, or of one line of it.
    #[must_use]
    pub fn in_key_file(place: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { setting: "api_key_file", place: Some(place.into()), detail: detail.into() }
    }
}

/// A value as an error quotes it: hidden if it may hold a key or a password, which people put in wrong places.
#[must_use]
pub fn quoted(value: &str) -> String {
    if may_hold_a_key(value) { format!("{REDACTED:?}") } else { format!("{value:?}") }
}

/// Whether it has a word as long as a good key, or looks like an address with a credential.
#[must_use]
pub fn may_hold_a_key(value: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-+=".contains(c);
    let mut words = value.split(|c| !is_word(c));
    words.any(|word| word.len() >= SHORT_KEY_LENGTH)
        || ["@", "key=", "token=", "/key/"].iter().any(|mark| value.contains(mark))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place.as_deref().unwrap_or(self.setting), self.detail)
    }
}

impl std::error::Error for ConfigError {}

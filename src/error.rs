//! A fault of the configuration, which stops the start. The refusal of a request is a [`Denial`](crate::decision::Denial).

use std::fmt;

/// A start-up fault: the server must not start. One line: where, what, what to do; never the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    place: String,
    line: Option<usize>,
    message: String,
}

impl ConfigError {
    /// A fault of a whole source: a flag (`--api-key`) or a file.
    #[must_use]
    pub fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), line: None, message: message.into() }
    }

    /// A fault on one line of a file, counted from 1.
    #[must_use]
    pub fn at_line(place: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { place: place.into(), line: Some(line), message: message.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.place, self.message),
            None => write!(f, "{}: {}", self.place, self.message),
        }
    }
}

impl std::error::Error for ConfigError {}

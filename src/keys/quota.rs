//! How much a key may queue, as its line says: `prompts=60/h queued=3`.

use std::fmt;

use crate::error::quoted;

/// The most prompts that a limit may allow.
pub const MOST_PROMPTS: u32 = 10_000;

/// The limits of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// Prompts in any window of time.
    pub prompts: Option<Rate>,
    /// Prompts that wait or run at once.
    pub queued: Option<u32>,
}

impl Quota {
    /// Whether there is any.
    #[must_use]
    pub fn is_limited(self) -> bool {
        self != Self::default()
    }
}

/// At most so many prompts in any window of this length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub most: u32,
    /// How long the window is.
    pub window: Window,
}

/// The lengths that a window may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is as long as its name says")]
pub enum Window {
    Minute,
    Hour,
    Day,
}

impl Window {
    /// Its length.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 60 * 60,
            Self::Day => 24 * 60 * 60,
        }
    }
}

impl Rate {
    /// Reads `60/h`.
    ///
    /// # Errors
    /// What is wrong with the value of `prompts=`.
    pub fn parse(value: &str) -> Result<Self, String> {
        let read = |(count, unit)| {
            let window = match unit {
                "m" => Window::Minute,
                "h" => Window::Hour,
                "d" => Window::Day,
                _ => return None,
            };
            Some(Self { most: parse_count(count)?, window })
        };
        value.split_once('/').and_then(read).ok_or_else(|| {
            format!(
                "prompts= takes 1 to {MOST_PROMPTS} prompts a minute, hour or day (60/m, 60/h, 60/d), not {}",
                quoted(value)
            )
        })
    }

    /// `60 prompts an hour`.
    #[must_use]
    pub fn in_words(self) -> String {
        let window = match self.window {
            Window::Minute => "a minute",
            Window::Hour => "an hour",
            Window::Day => "a day",
        };
        format!("{} {window}", prompts_in_words(self.most))
    }
}

impl fmt::Display for Rate {
    /// As in a key file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = match self.window {
            Window::Minute => 'm',
            Window::Hour => 'h',
            Window::Day => 'd',
        };
        write!(f, "{}/{window}", self.most)
    }
}

/// The value of `queued=`.
pub fn parse_queued(value: &str) -> Result<u32, String> {
    parse_count(value)
        .ok_or_else(|| format!("queued= takes a number of prompts from 1 to {MOST_PROMPTS}, not {}", quoted(value)))
}

fn parse_count(digits: &str) -> Option<u32> {
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|count| is_plain && *count <= MOST_PROMPTS)
}

/// `1 prompt`, `60 prompts`.
#[must_use]
pub fn prompts_in_words(count: u32) -> String {
    format!("{count} prompt{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
#[path = "../../tests/units/keys_quota.rs"]
mod tests;

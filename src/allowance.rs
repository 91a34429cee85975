//! What a key may still queue, as we tell its client.
//!
//! The header fields are those of draft-ietf-httpapi-ratelimit-headers-10: lists of strings with parameters (RFC 9651).

use std::fmt::Write as _;

use crate::keys::{Rate, prompts_in_words};

/// What is left of the limits of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowance {
    /// What is left of `prompts=`.
    pub prompts: Option<Prompts>,
    /// What is left of `queued=`.
    pub queued: Option<Queued>,
}

/// What is left in the current window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prompts {
    /// The limit.
    pub rate: Rate,
    /// How many more may be queued now.
    pub left: u32,
    /// Seconds until more are allowed, rounded up; `None` if that can't happen or the time is unknown.
    pub reset: Option<u32>,
}

/// How many more may wait or run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// The limit.
    pub most: u32,
    /// How many more may be queued now.
    pub left: u32,
}

/// A limit that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Which one.
    pub limit: Limit,
    /// Seconds until it is worth trying again.
    pub retry_after: u32,
}

/// One limit of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The `prompts=` limit.
    Prompts(Rate),
    /// The `queued=` limit.
    Queued(u32),
}

/// Seconds to wait if the time is unknown: a prompt is running, or about to be queued or refused.
pub const SOON: u32 = 5;

impl Allowance {
    /// The limit that is reached, if one is.
    #[must_use]
    pub fn reached(&self) -> Option<Reached> {
        let (limit, retry_after) = match (self.prompts, self.queued) {
            (Some(Prompts { left: 0, rate, reset }), _) => (Limit::Prompts(rate), reset.unwrap_or(SOON)),
            (_, Some(Queued { left: 0, most })) => (Limit::Queued(most), SOON),
            _ => return None,
        };
        Some(Reached { limit, retry_after })
    }

    /// Header fields that say what is left, if there is a limit.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let fields = [("RateLimit-Policy", self.policy()), ("RateLimit", self.left())];
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    /// The value of `RateLimit-Policy`; `None` where there is no limit.
    fn policy(&self) -> Option<String> {
        let prompts = self.prompts.map(|prompts| {
            let Rate { most, window } = prompts.rate;
            format!("\"prompts\";q={most};w={}", window.seconds())
        });
        list([prompts, self.queued.map(|queued| format!("\"queued\";q={}", queued.most))])
    }

    /// The value of `RateLimit`. Its times are never later than a `Retry-After` in the same answer.
    fn left(&self) -> Option<String> {
        let retry_after = self.reached().map(|reached| reached.retry_after);
        let prompts = self.prompts.map(|Prompts { left, reset, .. }| {
            let mut item = format!("\"prompts\";r={left}");
            if let Some(reset) = reset.filter(|reset| retry_after.is_none_or(|retry_after| *reset <= retry_after)) {
                let _ = write!(item, ";t={reset}");
            }
            item
        });
        list([prompts, self.queued.map(|queued| format!("\"queued\";r={}", queued.left))])
    }
}

impl Reached {
    /// The message for people, without a colon: newer pages of ComfyUI show nothing after one.
    #[must_use]
    pub fn in_words(self) -> String {
        match self.limit {
            Limit::Prompts(rate) => {
                format!("Your limit is {}; you may go on in {}.", rate.in_words(), seconds_in_words(self.retry_after))
            }
            Limit::Queued(most) => format!(
                "Your limit is {} in the queue at once; you may go on when one of yours has ended.",
                prompts_in_words(most),
            ),
        }
    }
}

fn list(items: [Option<String>; 2]) -> Option<String> {
    let items: Vec<_> = items.into_iter().flatten().collect();
    (!items.is_empty()).then(|| items.join(", "))
}

/// A time in words, rounded up.
fn seconds_in_words(seconds: u32) -> String {
    let some = |count: u32, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    let minutes = seconds.div_ceil(60);
    match (minutes / 60, minutes % 60) {
        _ if seconds < 120 => some(seconds, "second"),
        _ if minutes < 120 => some(minutes, "minute"),
        (hours, 0) => some(hours, "hour"),
        (hours, minutes) => format!("{} and {}", some(hours, "hour"), some(minutes, "minute")),
    }
}

#[cfg(test)]
#[path = "../tests/units/allowance.rs"]
mod tests;

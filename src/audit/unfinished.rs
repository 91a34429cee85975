//! Prompts that a server had not finished when it ended.

use std::collections::HashMap;

use serde::Deserialize;

use super::line::{Event, Fields, Line, Who};

/// The most prompts to look for.
const MOST: usize = 65_536;

#[derive(Deserialize)]
struct Seen {
    event: String,
    prompt_id: Option<String>,
    key: Option<String>,
    label: Option<String>,
    user: Option<String>,
    traceparent: Option<String>,
}

/// A line for each prompt that was queued according to `text`, but never ended there.
pub fn lines(text: &[u8], now: u64) -> Vec<Line> {
    let mut open: HashMap<String, (usize, Seen)> = HashMap::new();
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
        // Most lines are about something else, and one may be incomplete.
        let is_of_a_prompt = line.windows(11).any(|window| window == b"\"prompt_id\"");
        let Some(mut seen) = is_of_a_prompt.then(|| serde_json::from_slice::<Seen>(line).ok()).flatten() else {
            continue;
        };
        let Some(id) = seen.prompt_id.take() else { continue };
        match &*seen.event {
            "prompt_queued" if open.len() < MOST => _ = open.insert(id, (number, seen)),
            "prompt_finished" | "prompt_cancelled" | "prompt_unfinished" => _ = open.remove(&id),
            _ => {}
        }
    }
    let mut open: Vec<_> = open.into_iter().collect();
    open.sort_unstable_by_key(|(_, (number, _))| *number);
    let line = |(id, (_, seen)): (String, (usize, Seen))| {
        let who = Who { key: seen.key, label: seen.label, user: seen.user };
        let fields = Fields { who, prompt_id: Some(id), traceparent: seen.traceparent, ..Fields::default() };
        Line::new(now, Event::PromptUnfinished, fields)
    };
    open.into_iter().map(line).collect()
}

//! One line of the log.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::date::rfc3339_millis;
use crate::keys::{Entry, KeyId};

/// Longest texts from clients, in bytes as written.
const MAX_METHOD: usize = 32;
const MAX_TEXT: usize = 256;
const MAX_PROMPT_ID: usize = 128;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "docs/audit.md explains each")]
pub enum Event {
    Started,
    KeysRead,
    KeyGone,
    LogIn,
    LogOut,
    Admitted,
    Refused,
    RefusedForeign,
    Lock,
    PromptQueued,
    PromptStarted,
    PromptFinished,
    PromptCancelled,
    PromptUnfinished,
    Dropped,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Success,
    Failure,
    Unknown,
}

/// Whose key it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Who {
    /// The key's public id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl From<&Entry> for Who {
    fn from(entry: &Entry) -> Self {
        Self {
            key: Some(entry.id().to_string()),
            label: entry.label().map(str::to_owned),
            user: entry.attributes().user.clone(),
        }
    }
}

impl Who {
    /// A key about which nothing else is known.
    #[must_use]
    pub fn of(key: KeyId) -> Self {
        Self { key: Some(key.to_string()), ..Self::default() }
    }
}

/// The fields, in the order in which they are written. Filters rely on that order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "docs/audit.md explains each")]
pub struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(flatten)]
    pub who: Who,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outputs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<&'static str>,
}

/// A time in seconds, with at most three decimals, and none if it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seconds(pub Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.subsec_millis() {
            0 => serializer.serialize_u64(self.0.as_secs()),
            millis => serializer.serialize_f64(Duration::new(self.0.as_secs(), millis * 1_000_000).as_secs_f64()),
        }
    }
}

/// When, what, and its fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    #[serde(rename = "time", serialize_with = "moment")]
    at: u64,
    /// What happened.
    pub event: Event,
    outcome: Outcome,
    /// The details.
    #[serde(flatten)]
    pub fields: Fields,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
fn moment<S: Serializer>(at: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339_millis(*at))
}

impl Line {
    /// A line about something that happened `at` this time, in milliseconds since 1970 (UTC). Cuts texts from clients.
    #[must_use]
    pub fn new(at: u64, event: Event, mut fields: Fields) -> Self {
        let texts = [
            (&mut fields.who.label, MAX_TEXT),
            (&mut fields.method, MAX_METHOD),
            (&mut fields.origin, MAX_TEXT),
            (&mut fields.user_agent, MAX_TEXT),
            (&mut fields.prompt_id, MAX_PROMPT_ID),
        ];
        for (text, most) in texts {
            if let Some(long) = text {
                let end = end_of(long, most);
                if end < long.len() {
                    *text = Some(long[..end].to_owned()); // a copy, to free the rest
                }
            }
        }
        let outcome = match event {
            Event::PromptFinished if fields.status != Some("success") => Outcome::Failure,
            Event::KeysRead if fields.cause.is_some() => Outcome::Failure,
            Event::Refused | Event::RefusedForeign | Event::Lock | Event::Dropped | Event::PromptCancelled => {
                Outcome::Failure
            }
            Event::PromptUnfinished => Outcome::Unknown,
            _ => Outcome::Success,
        };
        Self { at, event, outcome, fields }
    }

    /// Adds its text and a line feed.
    pub fn write(&self, text: &mut Vec<u8>) {
        let length = text.len();
        let mut serializer = serde_json::Serializer::with_formatter(&mut *text, Ascii);
        match self.serialize(&mut serializer) {
            Ok(()) => text.push(b'\n'),
            Err(_) => text.truncate(length), // can't fail: a line has only what JSON knows, and memory takes it
        }
    }
}

/// Where to cut a text so that at most this many bytes are written.
fn end_of(text: &str, most: usize) -> usize {
    let mut bytes = 0;
    let fits = |&(_, c): &(usize, char)| {
        bytes += match c {
            '"' | '\\' => 2,
            c if is_plain(c) => 1,
            c => 6 * c.len_utf16(),
        };
        bytes <= most
    };
    text.char_indices().take_while(fits).last().map_or(0, |(start, c)| start + c.len_utf8())
}

fn is_plain(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic()
}

/// JSON like Python's `json.dumps`: a space after commas and colons, and only visible ASCII, so that no text means
/// anything to a terminal or a filter.
struct Ascii;

impl Formatter for Ascii {
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        for part in fragment.split_inclusive(|c| !is_plain(c)) {
            let plain = part.trim_end_matches(|c| !is_plain(c));
            writer.write_all(plain.as_bytes())?;
            for unit in part[plain.len()..].encode_utf16() {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}

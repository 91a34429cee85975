//! Key files: text to records.
//!
//! UTF-8, one entry per line, `KEY [label] [name=value …]`; `#` comments and blank lines; a byte order mark and CRLF
//! are tolerated; `sha256:<64 hex digits>` in place of KEY keeps only the digest on disk.

use std::collections::HashMap;

use super::attributes::Attributes;
use super::{jwt, words};
use crate::error::ConfigError;
use crate::secret::{Digest, MAX_KEY_LENGTH, SHORT_KEY_LENGTH};

/// Longest label accepted, in bytes of UTF-8.
const MAX_LABEL_LENGTH: usize = 256;

/// What comes before a digest that replaces a key.
pub const DIGEST_PREFIX: &str = "sha256:";

/// What replaces a key in `sys.argv` after parsing. A process that restarts itself with its own `sys.argv`
/// would otherwise come back with this well-known word as its key.
pub const REDACTED: &str = "[redacted]";

/// One key as an operator configured it.
#[derive(Debug, Clone)]
pub struct Record {
    /// SHA-256 of the key.
    pub digest: Digest,
    /// The operator's name for it.
    pub label: Option<String>,
    /// Its attributes.
    pub attributes: Attributes,
    /// The line number in its file, from 1; 0 for a flag.
    pub line: usize,
    /// Whether the key is known to be shorter than [`SHORT_KEY_LENGTH`].
    pub short: bool,
    /// Whether the key is known to look like a JSON Web Token.
    pub is_jwt: bool,
}

/// Parses a whole key file. All faults are collected, so that an operator fixes a file in one go.
///
/// # Errors
/// Every fault, each with `place` and its line: text that is not UTF-8, a bad key, label or attribute, a duplicate.
pub fn parse_file(place: &str, bytes: &[u8]) -> Result<Vec<Record>, Vec<ConfigError>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut records: Vec<Record> = Vec::new();
    let mut faults = Vec::new();
    let mut seen: HashMap<[u8; 32], usize> = HashMap::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let number = index + 1;
        let mut fault = |detail: String| faults.push(ConfigError::in_key_file(format!("{place}:{number}"), detail));
        match parse_line(line, number) {
            Ok(None) => {}
            Ok(Some(record)) => match seen.insert(*record.digest.expose_secret(), number) {
                None => records.push(record),
                Some(first) => fault(format!("the same key as on line {first}; remove one of the two")),
            },
            Err(details) => details.into_iter().for_each(fault),
        }
    }
    if faults.is_empty() { Ok(records) } else { Err(faults) }
}

/// Parses one key that was given without a file.
///
/// # Errors
/// A line naming the setting, never the value.
pub fn parse_flag(value: &str) -> Result<Record, ConfigError> {
    let fault = |detail: &str| ConfigError::new("api_key", detail);
    if value.is_empty() {
        return Err(fault("the key is empty (an unset variable?); give a key, or leave it out"));
    }
    if value == REDACTED {
        return Err(fault(
            "the key was removed from the arguments of the process that started this one; \
             start again with the key itself, or use a key file, which survives such restarts",
        ));
    }
    parse_key(value, 0).map_err(|detail| fault(&detail))
}

/// One line of a file, without its end; `None` if it has no entry.
pub fn parse_line(line: &[u8], number: usize) -> Result<Option<Record>, Vec<String>> {
    let line = std::str::from_utf8(line)
        .map_err(|_| vec!["not UTF-8 text; is this a key file? Save it as UTF-8, one key a line".to_owned()])?;
    let line = line.trim_matches([' ', '\t', '\r']);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (key, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let record = if words::is_attribute(key) { Err(NO_KEY.to_owned()) } else { parse_key(key, number) };
    let rest = read_rest(rest);
    match (record, rest) {
        (Ok(record), Ok((label, attributes))) => Ok(Some(Record { label, attributes, ..record })),
        (record, rest) => Err(record.err().into_iter().chain(rest.err().into_iter().flatten()).collect()),
    }
}

const NO_KEY: &str = "the line begins with an attribute (NAME=VALUE), not with a key; put the key first (if that \
                      is the key, write its sha256: digest instead, or make a new key with `comfy-auth-rs keygen`)";

/// What follows the key.
fn read_rest(rest: &str) -> Result<(Option<String>, Attributes), Vec<String>> {
    let words = words::split(rest).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    if let Some(label) = words.label {
        if label.len() > MAX_LABEL_LENGTH {
            faults.push(format!("the label is longer than {MAX_LABEL_LENGTH} bytes; shorten it"));
        }
        if label.chars().any(char::is_control) {
            faults.push("the label holds a control character; use printable text".to_owned());
        }
    }
    match Attributes::parse(&words.attributes) {
        Ok(attributes) if faults.is_empty() => Ok((words.label.map(str::to_owned), attributes)),
        read => {
            faults.extend(read.err().into_iter().flatten());
            Err(faults)
        }
    }
}

/// One key, or `sha256:` and its digest.
pub fn parse_key(key: &str, line: usize) -> Result<Record, String> {
    if let Some(position) = key.bytes().position(|byte| !byte.is_ascii_graphic()) {
        return Err(format!(
            "character {} of the key is not visible ASCII (a space, a control or an accented character); \
             use letters, digits and punctuation only",
            key.char_indices().take_while(|&(at, _)| at < position).count() + 1,
        ));
    }
    if key.len() > MAX_KEY_LENGTH {
        return Err(format!("the key is longer than {MAX_KEY_LENGTH} characters; shorten it"));
    }
    let Some(hex) = key.strip_prefix(DIGEST_PREFIX) else {
        let (short, is_jwt) = (key.len() < SHORT_KEY_LENGTH, jwt::has_shape(key));
        return Ok(Record {
            digest: Digest::of(key.as_bytes()),
            label: None,
            attributes: Attributes::default(),
            line,
            short,
            is_jwt,
        });
    };
    let digest = decode_digest(hex).ok_or("sha256: must be followed by exactly 64 hexadecimal digits")?;
    Ok(Record { digest, label: None, attributes: Attributes::default(), line, short: false, is_jwt: false })
}

fn decode_digest(hex: &str) -> Option<Digest> {
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(Digest::from_bytes(bytes))
}

#[cfg(test)]
#[path = "../../tests/units/keys_file.rs"]
mod tests;

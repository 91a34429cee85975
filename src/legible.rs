//! URLs that could forge lines in a log (log injection).
//!
//! ComfyUI and custom nodes log decoded paths and `clientId`s. A line feed in one would forge whole lines, and an escape
//! sequence overwrites the screen of anyone who reads the log.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::ascii;

/// The query parameter by which ComfyUI names a socket in its log.
const CLIENT_ID: &str = "clientId";

/// Whether neither the path nor any `clientId` of a request's target, as it was sent, decodes to a control character: C0,
/// DEL, C1, or what Unicode separates lines and paragraphs with (U+2028, U+2029).
///
/// ComfyUI decodes some paths a second time, so they are looked at twice.
#[must_use]
pub fn is_legible(target: &str) -> bool {
    // Nearly every target has nothing to decode.
    ascii::is_graphic_but(target.as_bytes(), b'%') || {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        is_clean(path) && pairs.all(|(name, value)| decoded(name) != CLIENT_ID || is_clean(value))
    }
}

fn is_clean(text: &str) -> bool {
    let once = decoded(text);
    !text.contains(is_control) && !once.contains(is_control) && !decoded(&once).contains(is_control)
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
#[path = "../tests/units/legible.rs"]
mod tests;

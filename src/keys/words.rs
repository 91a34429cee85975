//! What follows the key on a line: a label, then words of the form `name=value`.
//!
//! If a word that was meant to restrict a key counted as part of the label, the key would be unrestricted. So a word that
//! only looks like an attribute is a fault; a label with such a word must be in double quotes.

use super::attributes::NAMES;

/// A line without its key.
#[derive(Debug, PartialEq, Eq)]
pub struct Words<'a> {
    /// As it was written, without its quotes.
    pub label: Option<&'a str>,
    /// Names of letters, and what follows their `=`.
    pub attributes: Vec<(&'a str, &'a str)>,
}

/// What separates words.
const SPACES: [char; 2] = [' ', '\t'];

/// Tells label and attributes apart.
///
/// # Errors
/// What is wrong with the line, and what to do.
pub fn split(rest: &str) -> Result<Words<'_>, String> {
    let rest = rest.trim_matches(SPACES);
    if let Some(inner) = rest.strip_prefix('"') {
        return split_quoted(rest, inner);
    }
    let (label, attributes) = rest.split_at(first_attribute(rest).unwrap_or(rest.len()));
    label.split(char::is_whitespace).try_for_each(refuse_near_miss)?;
    Ok(Words { label: told(label), attributes: all_attributes(attributes)? })
}

/// The same for text that begins with a double quote. If it isn't a quoted label and attributes, all of it is the
/// label, unless a word in it may be meant as an attribute.
fn split_quoted<'a>(rest: &'a str, inner: &'a str) -> Result<Words<'a>, String> {
    let fault = match inner.split_once('"') {
        Some((label, after)) if after.is_empty() || after.starts_with(SPACES) => match all_attributes(after) {
            Ok(attributes) => return Ok(Words { label: told(label), attributes }),
            Err(fault) => fault,
        },
        Some(_) => "a label in double quotes cannot hold a double quote, and its last one comes before a space; \
                    use single quotes inside"
            .to_owned(),
        None => "the double quote before the label is never closed; write KEY \"LABEL\" scope=view".to_owned(),
    };
    let is_harmless = |word: &str| refuse_near_miss(word.trim_start_matches('"')).is_ok();
    if !rest.split(char::is_whitespace).all(is_harmless) {
        return Err(fault);
    }
    Ok(Words { label: Some(rest), attributes: Vec::new() })
}

fn told(label: &str) -> Option<&str> {
    Some(label.trim_matches(SPACES)).filter(|label| !label.is_empty())
}

/// Where the first attribute begins.
fn first_attribute(rest: &str) -> Option<usize> {
    let mut at = 0;
    rest.split(SPACES).find_map(|word| {
        let here = at;
        at += word.len() + 1;
        as_attribute(word).map(|_| here)
    })
}

/// The words, if each is an attribute.
fn all_attributes(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let mut attributes = Vec::new();
    for word in text.split(SPACES).filter(|word| !word.is_empty()) {
        let Some(attribute) = as_attribute(word) else {
            word.split(char::is_whitespace).try_for_each(refuse_near_miss)?;
            return Err(
                "a word after the attributes, or after a label in double quotes, is not an attribute; the label \
                        comes before the attributes, in double quotes if it holds `=`, and a list has no spaces \
                        (scope=view,run)"
                    .to_owned(),
            );
        };
        if word.contains(char::is_whitespace) {
            return Err(odd_space());
        }
        attributes.push(attribute);
    }
    Ok(attributes)
}

/// A word `letters=…`: letters of any script, since some look like those of another.
fn as_attribute(word: &str) -> Option<(&str, &str)> {
    word.split_once('=').filter(|(name, _)| !name.is_empty() && name.chars().all(char::is_alphabetic))
}

/// Refuses a word of a label that was probably meant as an attribute: a space other than a blank or a tab comes before
/// it, a space comes before its `=`, or it has signs in, before or after a known name.
fn refuse_near_miss(word: &str) -> Result<(), String> {
    if as_attribute(word).is_some() {
        return Err(odd_space());
    }
    let plain: String = word.chars().map(half_width).collect();
    if plain.starts_with('=') {
        return Err(
            "a word begins with `=`; write NAME=VALUE without spaces, or put the label in double quotes if it \
                    belongs there: KEY \"LABEL\" scope=view"
                .to_owned(),
        );
    }
    let Some((names, _)) = plain.rsplit_once('=') else { return Ok(()) };
    let names = names.to_lowercase();
    let whole = plain.match_indices('=').map(|(at, _)| letters_of(&plain[..at]));
    let mut parts = names.split(|c: char| !c.is_alphabetic()).map(str::to_owned).chain(whole);
    match parts.find_map(|part| NAMES.iter().find(|name| **name == part)) {
        None => Ok(()),
        Some(name) => Err(format!(
            "a word looks like the attribute {name}=, but is not written like it; write {name}=VALUE as a word of its \
             own, or put the label in double quotes if it belongs there: KEY \"LABEL\" scope=view"
        )),
    }
}

/// The letters of a name, in lower case.
fn letters_of(name: &str) -> String {
    name.chars().filter(|c| c.is_alphabetic()).collect::<String>().to_lowercase()
}

fn odd_space() -> String {
    "an attribute is next to a space that is neither a blank nor a tab (it may have been copied from a web page); \
     type that space again"
        .to_owned()
}

/// Full-width forms (U+FF01 to U+FF5E) are those of ASCII; so is a small equals sign.
fn half_width(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        '\u{fe66}' | '\u{a78a}' | '\u{2550}' => '=',
        _ => c,
    }
}

/// Whether a word in place of a key is an attribute, or is meant as one.
pub fn is_attribute(word: &str) -> bool {
    let is_known = |(name, _): (&str, &str)| NAMES.contains(&letters_of(name).as_str());
    as_attribute(word).is_some() || word.split_once('=').is_some_and(is_known)
}

#[cfg(test)]
#[path = "../../tests/units/keys_words.rs"]
mod tests;

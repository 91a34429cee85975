//! Key files and `--api-key`: any bytes are keys or faults, and no fault reveals a key.

use std::collections::HashSet;

use comfy_auth_rs::error::ConfigError;
use comfy_auth_rs::keys::{Attributes, Entry, Keys, REDACTED, Record, parse_file, parse_flag, write_line};
use comfy_auth_rs::request::Now;
use comfy_auth_rs::secret::Digest;

/// Checks any bytes as a key file and, if they are text, as a flag.
pub fn check(data: &[u8]) {
    match parse_file("keys", data) {
        Ok(records) => {
            are_what_the_lines_say(&records, data);
            survive_being_written(&records);
            admit_themselves_only(&records, data);
        }
        Err(faults) => {
            assert!(!faults.is_empty());
            let told = parse_file("keys", &swapped(data)).expect_err("other letters make no keys of faults");
            assert_eq!(lines(&faults), lines(&told), "a fault tells letters of the file");
            assert!(lines(&faults).iter().all(|line| !holds_a_long_word_of(line, data)), "{faults:?}");
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse_flag(text) {
        Ok(record) => assert_eq!(record.digest.expose_secret(), digest_of(text).expose_secret()),
        Err(_) if text == REDACTED => {}
        Err(fault) => {
            let other = swapped(data);
            let other = std::str::from_utf8(&other).expect("letters for letters");
            assert_eq!(fault, parse_flag(other).expect_err("as above"), "a fault tells letters of the flag");
        }
    }
}

/// Swaps letters that are in no attribute's name, no hexadecimal digit, and not in `sha256:`. Leaves attributes as they
/// are, because a fault may quote their names and values.
fn swapped(data: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8] = b"gjklnvwyz";
    let swap = |&byte: &u8| match LETTERS.iter().position(|letter| *letter == byte) {
        Some(place) => LETTERS[(place + 4) % LETTERS.len()],
        None => byte,
    };
    let (mut result, mut is_first) = (Vec::with_capacity(data.len()), true);
    for word in data.split_inclusive(|byte| b" \t\n".contains(byte)) {
        let is_key = is_first && !word.trim_ascii().is_empty();
        let is_attribute = !is_key && word.contains(&b'=');
        result.extend(word.iter().map(|byte| if is_attribute { *byte } else { swap(byte) }));
        is_first = word.ends_with(b"\n") || (is_first && !is_key);
    }
    result
}

/// Whether a fault shows what may be a key, wherever in the file it is.
fn holds_a_long_word_of(fault: &str, data: &[u8]) -> bool {
    let is_of_a_key = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-+=".contains(byte);
    let mut words = data.split(|byte| !is_of_a_key(byte)).filter(|word| word.len() >= 32);
    words.any(|word| fault.contains(std::str::from_utf8(word).expect("ASCII")))
}

fn lines(faults: &[ConfigError]) -> Vec<String> {
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert!(lines.iter().all(|line| line.starts_with("keys:") && !line.contains(char::is_control)), "{lines:?}");
    lines
}

fn are_what_the_lines_say(records: &[Record], data: &[u8]) {
    let text = std::str::from_utf8(data).expect("keys in what is no text");
    let lines: Vec<_> = text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').collect();
    assert!(records.windows(2).all(|pair| pair[0].line < pair[1].line));
    for record in records {
        let line = lines[record.line - 1].trim_matches([' ', '\t', '\r']);
        let key = line.split([' ', '\t']).next().unwrap_or_default();
        assert!(key.bytes().all(|byte| byte.is_ascii_graphic()) && !key.starts_with('#'));
        assert_eq!(record.digest.expose_secret(), digest_of(key).expose_secret());
        is_what_the_rest_says(record, line[key.len()..].trim_matches([' ', '\t']));
        assert!(format!("{record:?}").contains("digest: Digest([redacted])"));
    }
    let entries = lines.iter().map(|line| line.trim_matches([' ', '\t', '\r']));
    assert_eq!(records.len(), entries.filter(|line| !line.is_empty() && !line.starts_with('#')).count());
}

/// Without attributes, the rest is the label. With attributes, they come last, and none of them is part of the label.
fn is_what_the_rest_says(record: &Record, rest: &str) {
    let label = record.label.as_deref().unwrap_or_default();
    if !rest.contains('=') {
        let in_quotes = rest.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(rest);
        assert!([rest, in_quotes.trim_matches([' ', '\t'])].contains(&label));
        assert_eq!(record.attributes, Attributes::default());
        return;
    }
    let name = |word: &str| Some(word.split_once('=')?.0.to_owned());
    let names: Vec<_> = rest.split([' ', '\t']).filter_map(name).collect();
    if !rest.starts_with('"') {
        assert!(label.split(char::is_whitespace).filter_map(name).all(|name| !name.chars().all(char::is_alphabetic)));
        let is_there = |known: &str| names.iter().any(|name| name == known);
        assert_eq!(record.attributes.expires.is_some(), is_there("expires"));
        assert_eq!(!record.attributes.from.is_empty(), is_there("from"));
        assert_eq!(record.attributes.user.is_some(), is_there("user"));
        assert_eq!(record.attributes.quota.prompts.is_some(), is_there("prompts"));
        assert_eq!(record.attributes.quota.queued.is_some(), is_there("queued"));
        assert!(is_there("scope") || record.attributes.scopes == Attributes::default().scopes);
    }
}

/// SHA-256 of a key, or what replaces one.
fn digest_of(key: &str) -> Digest {
    let Some(digits) = key.strip_prefix("sha256:") else { return Digest::of(key.as_bytes()) };
    assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    Digest::from_bytes(std::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..][..2], 16).expect("digits")))
}

fn survive_being_written(records: &[Record]) {
    let key = |record: &Record| {
        let digest = record.digest.expose_secret();
        digest.iter().fold("sha256:".to_owned(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    let write =
        |record: &Record| write_line(&key(record), record.label.as_deref(), &record.attributes).expect("was read");
    let text = records.iter().map(write).collect::<Vec<_>>().join("\n");
    let read = parse_file("keys", text.as_bytes()).expect("what was read, written again");
    assert_eq!(records.len(), read.len());
    for (record, again) in records.iter().zip(&read) {
        assert_eq!(record.digest.expose_secret(), again.digest.expose_secret());
        assert_eq!((&record.label, &record.attributes), (&again.label, &again.attributes));
        let (label, expired) = (record.label.as_deref(), Attributes { expires: Some(1), ..record.attributes.clone() });
        let cannot = label.is_some_and(|label| label.starts_with('"'));
        assert!(write_line(&key(record), label, &expired).is_ok() || cannot, "{label:?}");
    }
}

fn admit_themselves_only(records: &[Record], data: &[u8]) {
    let for_good = |record: &Record| {
        let attributes = Attributes { expires: None, ..record.attributes.clone() };
        Record { attributes, ..record.clone() }
    };
    let keys = Keys::new(&records.iter().map(for_good).collect::<Vec<_>>());
    if keys.in_force(Now::at(0)) < records.len() {
        // Keys are looked up by half of their digest. Only made-up digests have that half in common.
        let halves: HashSet<_> = records.iter().map(|record| record.digest.halves()[0]).collect();
        assert_eq!(keys.in_force(Now::at(0)), halves.len());
        return;
    }
    for candidate in data.split(|byte| b" \t\r\n".contains(byte)) {
        for candidate in [candidate, &candidate[..candidate.len().saturating_sub(1)], &[candidate, b"x"].concat()] {
            let digest = *Digest::of(candidate).expose_secret();
            let expected = records.iter().any(|record| *record.digest.expose_secret() == digest);
            let entry = keys.verify(candidate, Now::at(0)).ok();
            assert_eq!(entry.is_some(), expected);
            assert_eq!(entry.and_then(|entry| keys.by_id(entry.id(), Now::at(0))).map(Entry::id), entry.map(Entry::id));
        }
    }
}

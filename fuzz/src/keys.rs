//! Key files and `--api-key`: any bytes are keys or faults, and no fault tells anything of a key.

use std::collections::HashSet;

use comfy_auth_rs::error::ConfigError;
use comfy_auth_rs::keys::{Entry, Keys, REDACTED, Record, parse_file, parse_flag};
use comfy_auth_rs::secret::Digest;

/// Checks any bytes as a key file and, where they are text, as a flag.
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

/// Other letters for most of them: all that are neither hexadecimal digits nor in `sha256:`.
fn swapped(data: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8] = b"gijklmnopqrtuvwxyz";
    let swap = |&byte: &u8| match LETTERS.iter().position(|letter| *letter == byte) {
        Some(place) => LETTERS[(place + 7) % LETTERS.len()],
        None => byte,
    };
    data.iter().map(swap).collect()
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
        let label = line[key.len()..].trim_matches([' ', '\t']);
        assert_eq!(record.label.as_deref().unwrap_or_default(), label);
        assert!(format!("{record:?}").contains("digest: Digest([redacted])"));
    }
    let entries = lines.iter().map(|line| line.trim_matches([' ', '\t', '\r']));
    assert_eq!(records.len(), entries.filter(|line| !line.is_empty() && !line.starts_with('#')).count());
}

/// SHA-256 of a key, or what stands in place of one.
fn digest_of(key: &str) -> Digest {
    let Some(digits) = key.strip_prefix("sha256:") else { return Digest::of(key.as_bytes()) };
    assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    Digest::from_bytes(std::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..][..2], 16).expect("digits")))
}

fn survive_being_written(records: &[Record]) {
    let hex = |record: &Record| record.digest.expose_secret().map(|byte| format!("{byte:02x}")).concat();
    let write = |record| format!("sha256:{} {}", hex(record), record.label.as_deref().unwrap_or_default());
    let text = records.iter().map(write).collect::<Vec<_>>().join("\n");
    let read = parse_file("keys", text.as_bytes()).expect("what was read, written again");
    assert_eq!(records.len(), read.len());
    for (record, again) in records.iter().zip(&read) {
        assert_eq!(record.digest.expose_secret(), again.digest.expose_secret());
        let label = |record: &Record| record.label.clone().unwrap_or_default();
        assert_eq!(label(record), label(again));
    }
}

fn admit_themselves_only(records: &[Record], data: &[u8]) {
    let keys = Keys::new(records);
    if keys.in_force(0) < records.len() {
        // Only digests that somebody made up have the half in common by which they are looked up.
        let halves: HashSet<_> = records.iter().map(|record| record.digest.halves()[0]).collect();
        assert_eq!(keys.in_force(0), halves.len());
        return;
    }
    for candidate in data.split(|byte| b" \t\r\n".contains(byte)) {
        for candidate in [candidate, &candidate[..candidate.len().saturating_sub(1)], &[candidate, b"x"].concat()] {
            let digest = *Digest::of(candidate).expose_secret();
            let expected = records.iter().any(|record| *record.digest.expose_secret() == digest);
            let entry = keys.verify(candidate, 0).ok();
            assert_eq!(entry.is_some(), expected);
            assert_eq!(entry.and_then(|entry| keys.by_id(entry.id(), 0)).map(Entry::id), entry.map(Entry::id));
        }
    }
}

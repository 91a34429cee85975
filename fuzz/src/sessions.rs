//! Session cookies: only what this server issued verifies, however a genuine one is changed.

use std::sync::LazyLock;

use comfy_auth_rs::credential::cookie;
use comfy_auth_rs::keys::{Keys, parse_file};
use comfy_auth_rs::request::Now;
use comfy_auth_rs::session::{self, BROWSER};

const NOW: u64 = 1_800_000_000;
const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A server with two keys, and a session of its own.
struct Server {
    keys: Keys,
    without_the_key: Keys,
    token: String,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let keys = |text: &str| Keys::new(&parse_file("keys", text.as_bytes()).expect("keys"));
    let both = keys("one\ntwo\n");
    let token = session::issue(both.verify(b"one", Now::at(NOW)).expect("a key"), BROWSER, NOW);
    Server { keys: both, without_the_key: keys("two\n"), token }
});

/// Checks any text as a `Cookie` and a `Host`, and the bytes as a change of a genuine session.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check_fields(&text);
    refuses_unless_issued(&text);
    refuses_unless_issued(&edited(data));
    refuses_unless_issued(&with_other_bits(data));
    let now = data.iter().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let lives = verifies(&SERVER.keys, &SERVER.token, now);
    assert_eq!(lives, now < NOW + BROWSER.as_secs(), "at {now}");
    assert!(!verifies(&SERVER.without_the_key, &SERVER.token, now));
}

fn verifies(keys: &Keys, value: &str, now: u64) -> bool {
    session::verify(value, keys, Now::at(now)).is_some()
}

fn refuses_unless_issued(value: &str) {
    assert_eq!(verifies(&SERVER.keys, value, NOW), value == SERVER.token, "{value:?}");
}

/// The session after edits: of every three bytes, one each says what, where and which digit.
fn edited(data: &[u8]) -> String {
    let mut token = SERVER.token.clone().into_bytes();
    for [what, place, digit] in data.as_chunks().0 {
        let place = usize::from(*place) % token.len().max(1);
        let digit = DIGITS[usize::from(*digit) % DIGITS.len()];
        match what % 4 {
            0 if !token.is_empty() => token[place] = digit,
            1 if !token.is_empty() => _ = token.remove(place),
            2 => token.insert(place, digit),
            _ => token.rotate_left(place),
        }
    }
    String::from_utf8(token).expect("ASCII")
}

/// The session with some of its bits flipped.
fn with_other_bits(data: &[u8]) -> String {
    let values = SERVER.token.bytes().map(|digit| DIGITS.iter().position(|known| *known == digit).expect("a digit"));
    let changed = values.enumerate().map(|(at, value)| value ^ (usize::from(data.get(at).copied().unwrap_or(0)) % 64));
    changed.map(|value| char::from(DIGITS[value])).collect()
}

fn check_fields(text: &str) {
    let name = cookie::Name::at(cookie::port(text)).to_string();
    let port = name.strip_prefix("comfyui_session").expect("its name");
    if let Some(port) = port.strip_prefix('_') {
        let number: u16 = port.parse().expect("a port");
        let (_, written) = text.rsplit_once(':').expect("a port");
        assert_eq!(written.trim_start_matches('+').trim_start_matches('0'), number.to_string().trim_start_matches('0'));
    } else {
        assert_eq!(port, "");
    }
    let name = cookie::Name::at(Some(8188));
    let mut expected = Vec::new();
    for pair in text.split(';') {
        match pair.trim_matches([' ', '\t']).split_once('=') {
            Some((found, value)) if found == "comfyui_session_8188" && !value.is_empty() => expected.push(value),
            _ => {}
        }
    }
    let found = cookie::parse(text).filter(|(found, _)| *found == name);
    assert_eq!(found.map(|(_, value)| value).collect::<Vec<_>>(), expected);
}

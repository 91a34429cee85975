//! The credentials of a request: how each source is read, compared with a slow reading of it.

use comfy_auth_rs::credential::authorization::{self, Token};
use comfy_auth_rs::credential::{Source, query, url_prefix, x_api_key};

/// Checks any text as `Authorization`, as `X-API-Key`, as a query string and as a path.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    check_authorization(&text);
    let found = x_api_key::parse(&text).map(|plain| plain.expose_secret().to_owned());
    assert_eq!(found.unwrap_or_default(), text.trim_matches([' ', '\t']));
    // A space ends the target in a request's first line.
    check_query(&text.replace(' ', ""));
    let found = url_prefix::parse(&text).map(|(key, left)| (key.expose_secret().to_owned(), left.to_owned()));
    assert_eq!(found, in_front(&text));
}

fn check_authorization(text: &str) {
    let space = [' ', '\t'];
    let (scheme, rest) = text.trim_matches(space).split_once(space).unwrap_or_default();
    let rest = rest.trim_start_matches(space);
    let scheme = scheme.to_ascii_lowercase();
    let expected = match scheme.as_str() {
        "bearer" if rest.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(rest.to_owned()),
        "basic" => basic_password(rest),
        "bearer" => Err(()),
        _ => Ok(String::new()),
    };
    match (authorization::parse(text), expected) {
        (Token::Absent, Ok(key)) => assert!(key.is_empty(), "{text:?}"),
        (Token::Malformed, Err(())) => {}
        (Token::Key(source, plain), Ok(key)) => {
            assert!(!key.is_empty() && plain.expose_secret() == key, "{text:?}");
            assert_eq!(source, if scheme == "basic" { Source::Basic } else { Source::Bearer });
            assert_eq!(format!("{plain:?}"), "Plain([redacted])");
        }
        (found, expected) => panic!("{text:?}: {expected:?}, but {}", std::any::type_name_of_val(&found)),
    }
}

/// The password of `user:password` in base64; empty if there is none.
fn basic_password(encoded: &str) -> Result<String, ()> {
    if encoded.is_empty() {
        return Ok(String::new());
    }
    let digits = encoded.trim_end_matches('=');
    let padding = encoded.len() - digits.len();
    let mut bits = Vec::new();
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(()),
        };
        bits.extend((0..6).rev().map(|place| value >> place & 1));
    }
    let (bytes, rest) = bits.as_chunks::<8>();
    if digits.len() % 4 == 1 || padding > (4 - digits.len() % 4) % 4 || rest.contains(&1) {
        return Err(());
    }
    let bytes = bytes.iter().map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit)).collect();
    let text = String::from_utf8(bytes).map_err(|_| ())?;
    text.split_once(':').map(|(_, password)| password.to_owned()).ok_or(())
}

fn check_query(text: &str) {
    let keys: Vec<_> = query::parse(text).map(|plain| plain.expose_secret().to_owned()).collect();
    let values = text.split('&').filter_map(credential).map(|value| value.replace(' ', "+"));
    assert_eq!(keys, values.filter(|value| !value.is_empty()).collect::<Vec<_>>());
    let kept: Vec<_> = text.split('&').filter(|pair| credential(pair).is_none()).collect();
    assert_eq!(query::without_credentials(text), kept.join("&"));
}

/// The value of an `api_key=…` or `token=…`, however it is encoded.
fn credential(pair: &str) -> Option<String> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    ["api_key", "token"].contains(&decoded(name).as_str()).then(|| decoded(value))
}

/// The key before a path, and the rest of the path.
fn in_front(path: &str) -> Option<(String, String)> {
    let mut parts = path.splitn(4, '/');
    let (Some(""), Some("key"), Some(key), left) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    let key = decoded(&key.replace('+', "%2B"));
    let sound = !key.is_empty() && key != "." && key != "..";
    sound.then(|| (key, format!("/{}", left.unwrap_or_default())))
}

/// As the URL standard's `application/x-www-form-urlencoded` parser reads it.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..2).and_then(|hex| {
            let digits = std::str::from_utf8(hex).ok().filter(|_| hex.iter().all(u8::is_ascii_hexdigit))?;
            u8::from_str_radix(digits, 16).ok()
        });
        match (byte, escaped) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

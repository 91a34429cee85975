//! URLs: legible if a slow reading finds no control character.

use comfy_auth_rs::legible::is_legible;

/// Checks any text as the target of a request.
pub fn check(data: &[u8]) {
    let target = String::from_utf8_lossy(data);
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let ids = pairs.filter(|(name, _)| decoded(name) == "clientId").map(|(_, value)| value);
    let expected = std::iter::once(path).chain(ids).all(|part| {
        let once = decoded(part);
        is_clean(part) && is_clean(&once) && is_clean(&decoded(&once))
    });
    assert_eq!(is_legible(&target), expected, "{target:?}");
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, others)) = rest.split_first() {
        let digits = others.get(..2).and_then(|two| std::str::from_utf8(two).ok()).filter(|_| first == b'%');
        let byte = digits.filter(|two| !two.contains('+')).and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &others[2..] } else { others };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_clean(text: &str) -> bool {
    text.chars().all(|one| !matches!(one as u32, 0..=0x1f | 0x7f..=0x9f | 0x2028 | 0x2029))
}

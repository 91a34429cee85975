//! Recognizes text that is only visible ASCII, eight bytes at a time, because every request has some.

/// Whether all bytes are visible ASCII, and none is `but`. Takes the same time wherever the first other byte is.
#[must_use]
pub fn is_graphic_but(bytes: &[u8], but: u8) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().fold(true, |all, byte| all & (byte.is_ascii_graphic() && *byte != but));
    };
    let (chunks, _) = bytes.as_chunks::<8>();
    chunks.iter().fold(others(*last, but), |found, chunk| found | others(*chunk, but)) == 0
}

/// Not 0 if any of the eight bytes is not visible ASCII, or is `but`.
fn others(chunk: [u8; 8], but: u8) -> u64 {
    let (bytes, eight) = (u64::from_ne_bytes(chunk), |byte| u64::from_ne_bytes([byte; 8]));
    let any_below = |bytes: u64, bound| bytes.wrapping_sub(eight(bound)) & !bytes;
    let any_is = |byte| any_below(bytes ^ eight(byte), 1);
    (bytes | any_below(bytes, b'!') | any_is(0x7f) | any_is(but)) & eight(0x80)
}

#[cfg(test)]
#[path = "../tests/units/ascii.rs"]
mod tests;

//! `Authorization: Bearer KEY` (RFC 6750, section 2.1; the scheme in any case, RFC 9110, section 11.1).

use super::authorization::Token;
use super::{Plain, Source};

/// The scheme's name.
pub const SCHEME: &str = "Bearer";

/// Reads what follows the scheme. Keys may hold any visible ASCII character, which is more than RFC 6750's `b64token`.
#[must_use]
pub fn parse(token: &str) -> Token<'_> {
    if token.is_empty() {
        Token::Absent
    } else if is_graphic(token.as_bytes()) {
        Token::Key(Source::Bearer, Plain::Borrowed(token))
    } else {
        Token::Malformed
    }
}

/// Whether all are visible ASCII characters. Looks at every byte, eight at a time.
fn is_graphic(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let graphic = |graphic, bytes: &[u8]| bytes.iter().fold(graphic, |graphic, byte| graphic & byte.is_ascii_graphic());
    graphic(chunks.iter().fold(true, |all, chunk| graphic(all, chunk)), rest)
}

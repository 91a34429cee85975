//! `Authorization: Bearer KEY` (RFC 6750, section 2.1; the scheme in any case, RFC 9110, section 11.1).

use super::authorization::Token;
use super::{Plain, Source};
use crate::ascii;

/// The scheme's name.
pub const SCHEME: &str = "Bearer";

/// DEL is not a visible character either.
const DELETE: u8 = 0x7f;

/// Reads what follows the scheme. Keys may hold any visible ASCII character, which is more than RFC 6750's `b64token`.
#[must_use]
pub fn parse(token: &str) -> Token<'_> {
    if token.is_empty() {
        Token::Absent
    } else if ascii::is_graphic_but(token.as_bytes(), DELETE) {
        Token::Key(Source::Bearer, Plain::Borrowed(token))
    } else {
        Token::Malformed
    }
}

//! `Authorization: Bearer KEY` (RFC 6750, section 2.1; the scheme in any case, RFC 9110, section 11.1).

use super::{Authorization, Plain, Source};

/// The scheme's name.
pub const SCHEME: &str = "Bearer";

/// Reads what follows the scheme. Keys may hold any visible ASCII character, which is more than RFC 6750's `b64token`.
#[must_use]
pub fn parse(token: &str) -> Authorization<'_> {
    if token.is_empty() {
        Authorization::Absent
    } else if token.bytes().fold(true, |graphic, byte| graphic & byte.is_ascii_graphic()) {
        Authorization::Key(Source::Bearer, Plain::Borrowed(token))
    } else {
        Authorization::Malformed
    }
}

//! `Authorization: Basic` (RFC 7617) with the key as password and any user name: what clients with a
//! `http://any:KEY@host` URL send.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use super::authorization::Token;
use super::{Plain, Source};

/// The scheme's name.
pub const SCHEME: &str = "Basic";

/// Standard alphabet; padding may be missing, as some clients leave it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Reads what follows the scheme. An empty password is absent, as with every other source.
#[must_use]
pub fn parse(token: &str) -> Token<'_> {
    if token.is_empty() {
        return Token::Absent;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(token.len()));
    if BASE64.decode_vec(token, &mut bytes).is_err() {
        return Token::Malformed;
    }
    let Some((_, password)) = std::str::from_utf8(&bytes).ok().and_then(|text| text.split_once(':')) else {
        return Token::Malformed;
    };
    if password.is_empty() {
        Token::Absent
    } else {
        Token::Key(Source::Basic, Plain::Decoded(Zeroizing::new(password.to_owned())))
    }
}

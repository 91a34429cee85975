//! Secrets that announce themselves: redacted when printed, zeroized when dropped, compared in constant time.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

/// Longest key accepted, in characters.
pub const MAX_KEY_LENGTH: usize = 1024;

/// Keys shorter than this, in characters, can be guessed with patience; they cause a warning.
pub const SHORT_KEY_LENGTH: usize = 32;

/// Bytes of randomness in a generated key.
const GENERATED_KEY_BYTES: usize = 32;

/// A key in plain text, held only until it is hashed.
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// Takes a key as an operator wrote it. Checks nothing; the parser in [`crate::keys`] does.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The plain text. Callers must not store, log or return it.
    #[must_use]
    pub fn expose_secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey([redacted])")
    }
}

/// SHA-256 of a key: all that stays in memory.
///
/// There is deliberately no `PartialEq`: the only comparison is [`ct_eq`](ConstantTimeEq::ct_eq).
/// A key's digest is as good as the key for signing sessions, so it is redacted too.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Hashes a candidate. The time depends only on its length, which the sender knows.
    #[must_use]
    pub fn of(candidate: &[u8]) -> Self {
        Self(Sha256::digest(candidate).into())
    }

    /// A digest read from a key file.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// As two numbers, for looking up and comparing. Callers must not log or return them.
    #[must_use]
    pub fn halves(&self) -> [u128; 2] {
        let (halves, _) = self.0.as_chunks();
        [u128::from_le_bytes(halves[0]), u128::from_le_bytes(halves[1])]
    }

    /// The bytes, for deriving other values. Callers must not log or return them.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8; 32] {
        &self.0
    }
}

impl ConstantTimeEq for Digest {
    fn ct_eq(&self, other: &Self) -> Choice {
        // Two halves rather than 32 bytes: `subtle` puts a barrier against the optimizer after each one.
        self.halves().ct_eq(&other.halves())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest([redacted])")
    }
}

/// A new key: 256 random bits from the operating system, as 43 URL-safe base64 characters (RFC 4648, section 5).
///
/// # Panics
/// If the operating system has no randomness: a predictable key would be an open door.
#[must_use]
pub fn generate_key() -> Zeroizing<String> {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    loop {
        let bytes = Zeroizing::new(random_bytes::<GENERATED_KEY_BYTES>());
        let key = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        // After `--api-key`, a leading dash would be read as another flag.
        if !key.starts_with('-') {
            return key;
        }
    }
}

/// Random bytes from the operating system.
///
/// # Panics
/// See [`generate_key`].
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system's random source");
    bytes
}

#[cfg(test)]
#[path = "../tests/units/secret.rs"]
mod tests;

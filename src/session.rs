//! Sessions: a cookie that stands for a key, for `<img>`, `<video>`, module scripts and WebSockets, to which no script can
//! add a header.
//!
//! Stateless: `version ‖ key id ‖ session id ‖ time of issue ‖ expiry ‖ HMAC-SHA256`, under a key derived from the API
//! key's digest. So a session survives restarts, works on every replica with the same key file, and dies with its key. The
//! fields have fixed lengths, and each goes into the HMAC after its length. Only a log-out needs memory:
//! [`crate::state::log_outs`].

use std::time::Duration;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::keys::{Entry, KeyId, Keys};
use crate::request::Now;
use crate::secret::random_bytes;

/// Life of a session with "Remember me".
pub const REMEMBERED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Life of a session whose cookie ends with the browser: how long the server honours it.
pub const BROWSER: Duration = Duration::from_secs(24 * 60 * 60);

const VERSION: u8 = 2;
const FIELDS: usize = 5;
const SIGNED_LENGTH: usize = 1 + 16 + 16 + 8 + 8;
const LENGTH: usize = SIGNED_LENGTH + 32;
const ENCODED_LENGTH: usize = (LENGTH * 4).div_ceil(3);

/// The random id of a session, which a log-out ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub [u8; 16]);

/// A session whose signature was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// The key that it stands for.
    pub key: KeyId,
    /// Its own name.
    pub id: SessionId,
    /// When it began, in seconds since 1970 (UTC).
    pub issued: u64,
    /// When it ends, in seconds since 1970 (UTC).
    pub expires: u64,
}

/// A new cookie value for `key`. `now` is in seconds since 1970 (UTC).
#[must_use]
pub fn issue(key: &Entry, life: Duration, now: u64) -> String {
    let (id, expires) = (SessionId(random_bytes()), now.saturating_add(life.as_secs()));
    let session = Session { key: key.id(), id, issued: now, expires };
    let mut token = Vec::with_capacity(LENGTH);
    token.push(VERSION);
    token.extend_from_slice(&session.key.0);
    token.extend_from_slice(&session.id.0);
    token.extend_from_slice(&session.issued.to_be_bytes());
    token.extend_from_slice(&session.expires.to_be_bytes());
    token.extend_from_slice(&mac(key, &session).finalize().into_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(token)
}

/// The session that a cookie value stands for, and its key: well formed, signed under a key that is still accepted, not
/// expired. Anything else counts as no cookie at all.
#[must_use]
pub fn verify<'k>(value: &str, keys: &'k Keys, now: Now) -> Option<(Session, &'k Entry)> {
    let (session, signature) = decode(value)?;
    let key = keys.by_id(session.key, now)?;
    mac(key, &session).verify_slice(&signature).ok()?;
    (now.unix < session.expires).then_some((session, key))
}

fn mac(key: &Entry, session: &Session) -> Hmac<Sha256> {
    let [issued, expires] = [session.issued, session.expires].map(u64::to_be_bytes);
    let fields: [&[u8]; FIELDS] = [&[VERSION], &session.key.0, &session.id.0, &issued, &expires];
    // Short enough for one block of SHA-256.
    let mut signed = [0; SIGNED_LENGTH + FIELDS];
    let mut rest = &mut signed[..];
    for field in fields {
        let (framed, behind) = rest.split_at_mut(1 + field.len());
        framed[0] = u8::try_from(field.len()).unwrap_or(u8::MAX);
        framed[1..].copy_from_slice(field);
        rest = behind;
    }
    key.session_mac().chain_update(signed)
}

fn decode(value: &str) -> Option<(Session, [u8; 32])> {
    if value.len() != ENCODED_LENGTH {
        return None;
    }
    let mut token = [0; LENGTH + 2];
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(value, &mut token).ok()?;
    let token = token.get(..length).filter(|token| token.len() == LENGTH)?;
    let (version, rest) = token.split_first()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (issued, rest) = rest.split_first_chunk()?;
    let (expires, rest) = rest.split_first_chunk()?;
    let [issued, expires] = [issued, expires].map(|time| u64::from_be_bytes(*time));
    let session = Session { key: KeyId(*key), id: SessionId(*id), issued, expires };
    (*version == VERSION).then_some((session, rest.try_into().ok()?))
}

#[cfg(test)]
#[path = "../tests/units/session.rs"]
mod tests;

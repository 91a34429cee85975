//! The keys in force, and looking one up.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::attributes::Attributes;
use super::file::Record;
use super::jwt;
use crate::request::Now;
use crate::secret::{Digest, random_bytes};

/// The public id of a key, derived from its digest, the same on every replica. It reveals nothing about a key of 32
/// random characters or more; a shorter key can be found from it by guessing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 16]);

impl fmt::Display for KeyId {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl KeyId {
    /// The id of the key with this digest.
    #[must_use]
    pub fn of(digest: &Digest) -> Self {
        let id = derive(digest, b"comfy-auth-rs key id v1");
        Self(std::array::from_fn(|index| id[index]))
    }

    fn number(self) -> u128 {
        u128::from_le_bytes(self.0)
    }
}

/// One accepted key, with all that is derived from it once.
pub struct Entry {
    digest: Digest,
    id: KeyId,
    label: Option<String>,
    attributes: Attributes,
    session_mac: Hmac<Sha256>,
}

impl Entry {
    fn new(record: &Record) -> Self {
        let session_key = derive(&record.digest, b"comfy-auth-rs session key v1");
        Self {
            digest: record.digest,
            id: KeyId::of(&record.digest),
            label: record.label.clone(),
            attributes: record.attributes.clone(),
            session_mac: keyed(&session_key),
        }
    }

    /// The key's public name.
    #[must_use]
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The operator's label.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Its attributes from its file.
    #[must_use]
    pub fn attributes(&self) -> &Attributes {
        &self.attributes
    }

    /// Who uses it: its user, in lower case, since names are compared without case; without a user, its own public
    /// name.
    #[must_use]
    pub fn subject(&self) -> String {
        self.user().unwrap_or_else(|| self.id.to_string())
    }

    fn user(&self) -> Option<String> {
        self.attributes.user.as_ref().map(|user| user.to_ascii_lowercase())
    }

    fn is_in_force(&self, now: Now) -> bool {
        self.attributes.expires.is_none_or(|end| now.latest() < end)
    }

    /// HMAC-SHA256 under the key's session secret, ready for input.
    #[must_use]
    pub fn session_mac(&self) -> Hmac<Sha256> {
        self.session_mac.clone()
    }

    /// The same for what machines with this key tell each other about it. Derived each time, because it is rarely
    /// needed.
    #[must_use]
    pub fn state_mac(&self) -> Hmac<Sha256> {
        keyed(&derive(&self.digest, b"comfy-auth-rs state v1"))
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn derive(digest: &Digest, purpose: &[u8]) -> [u8; 32] {
    keyed(digest.expose_secret()).chain_update(purpose).finalize().into_bytes().into()
}

/// An immutable set of keys; a reload makes a new one.
pub struct Keys {
    /// By the first half of the digest.
    entries: HashMap<u128, Entry, Slots>,
    /// The first half of the digest, by the key's id.
    by_id: HashMap<u128, u128, Slots>,
    /// Whether any key is known to look like a JSON Web Token.
    hold_a_jwt: bool,
}

impl Keys {
    /// Builds the set. Of several equal keys, the first gives the label.
    #[must_use]
    pub fn new(records: &[Record]) -> Self {
        let mut keys = Self {
            entries: HashMap::with_capacity_and_hasher(records.len(), Slots::default()),
            by_id: HashMap::with_capacity_and_hasher(records.len(), Slots::default()),
            hold_a_jwt: records.iter().any(|record| record.is_jwt),
        };
        for record in records {
            let prefix = prefix(&record.digest);
            let entry = keys.entries.entry(prefix).or_insert_with(|| Entry::new(record));
            keys.by_id.insert(entry.id.number(), prefix);
        }
        keys
    }

    /// All of them, accepted or not.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The keys that have not expired.
    pub fn in_force_at(&self, now: Now) -> impl Iterator<Item = &Entry> {
        self.entries().filter(move |entry| entry.is_in_force(now))
    }

    /// How many different keys have not expired.
    #[must_use]
    pub fn in_force(&self, now: Now) -> usize {
        self.in_force_at(now).count()
    }

    /// When the keys that have not expired will do so, with their labels, in seconds since 1970 (UTC).
    pub fn ends(&self, now: Now) -> impl Iterator<Item = (Option<&str>, u64)> {
        let in_force = self.entries.values().filter(move |entry| entry.is_in_force(now));
        in_force.filter_map(|entry| Some((entry.label(), entry.attributes.expires?)))
    }

    /// All users who have a key, in lower case.
    pub fn users(&self) -> impl Iterator<Item = String> {
        self.entries.values().filter_map(Entry::user)
    }

    /// Looks up a candidate. Its digest picks at most one entry, which is then compared in constant time. If there is none,
    /// the candidate is compared with itself and refused, so that an unknown key takes as long as a known one. An expired
    /// key is an unknown one.
    ///
    /// # Errors
    /// The candidate's digest, for counting distinct wrong ones.
    pub fn verify(&self, candidate: &[u8], now: Now) -> Result<&Entry, Digest> {
        let digest = Digest::of(candidate);
        let entry = self.entries.get(&prefix(&digest));
        let equal = entry.map_or(&digest, |entry| &entry.digest).ct_eq(&digest);
        match entry {
            Some(entry) if equal.into() && entry.is_in_force(now) => Ok(entry),
            _ => Err(digest),
        }
    }

    /// Whether a wrong value is the token of another login rather than a guess. Keys kept as digests are assumed to
    /// look different: a token has a signature, which nobody guesses.
    #[must_use]
    pub fn is_foreign_token(&self, wrong: &str) -> bool {
        !self.hold_a_jwt && jwt::has_shape(wrong)
    }

    /// The key with this id, if it is still accepted.
    #[must_use]
    pub fn by_id(&self, id: KeyId, now: Now) -> Option<&Entry> {
        self.known(id).filter(|entry| entry.is_in_force(now))
    }

    /// The key with this id, accepted or not.
    #[must_use]
    pub fn known(&self, id: KeyId) -> Option<&Entry> {
        self.by_id.get(&id.number()).and_then(|prefix| self.entries.get(prefix))
    }
}

fn prefix(digest: &Digest) -> u128 {
    digest.halves()[0]
}

/// Hashes digests for a table, whose look-up takes longer if seven bits of the hash match an entry's. The sender of a
/// candidate knows its digest, but not these random numbers, so the time reveals nothing about the entry's digest.
struct Slots(u64, u64);

impl Default for Slots {
    fn default() -> Self {
        let [offset, factor] = [u64::from_le_bytes(random_bytes()), u64::from_le_bytes(random_bytes())];
        Self(offset, factor | 1)
    }
}

impl BuildHasher for Slots {
    type Hasher = SlotHasher;

    fn build_hasher(&self) -> SlotHasher {
        SlotHasher { offset: self.0, factor: self.1, hash: 0 }
    }
}

struct SlotHasher {
    offset: u64,
    factor: u64,
    hash: u64,
}

impl Hasher for SlotHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    /// Part of a SHA-256 digest is evenly spread already. It only has to be mixed with a secret.
    #[expect(clippy::cast_possible_truncation, reason = "both halves of the product are used")]
    fn write_u128(&mut self, prefix: u128) {
        let product = u128::from(prefix as u64 ^ self.offset) * u128::from(self.factor);
        self.hash = (product >> 64) as u64 ^ product as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u128(u128::from(self.hash << 8 | u64::from(byte)));
        }
    }
}

#[cfg(test)]
#[path = "../../tests/units/keys_set.rs"]
mod tests;

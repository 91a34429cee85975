//! Facts, which machines share, and how a store keeps them.
//!
//! A fact never changes, so two writers never contradict each other. A store only needs to know a fact's name, and when
//! anyone may delete it. A fact that ends a key or a session, or counts against a limit, is signed under a key derived
//! from the digest of its API key, so that only holders of that key can make it.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::network::Network;
use super::nodes::NodeId;
use super::throttle::{Budget, MAX_LOCK};
use crate::keys::{Entry, KeyId, Window};
use crate::request::Now;
use crate::session::{REMEMBERED, SessionId};

/// Longest name of a record, in bytes.
pub const MAX_NAME: usize = 64;

/// Longest value of a record, in bytes.
pub const MAX_VALUE: usize = 160;

/// How much the clocks of two machines may differ, in seconds. An entry is ignored this long after its end.
pub const TOLERANCE: u64 = 60;

/// How far ahead the clock of a machine may be for its log-outs to count, in seconds.
pub const MAX_AHEAD: u64 = 24 * 60 * 60;

/// The longest that a revocation is kept, in seconds.
pub const MAX_REVOKED: u64 = 400 * 24 * 60 * 60;

/// A machine counts as running if its last heartbeat is no older than this, in seconds.
pub const HEARD_WITHIN: u64 = 30;

/// No fact is kept for longer than this, in seconds.
const MAX_KEPT: u64 = MAX_REVOKED + TOLERANCE;

const VERSION: u8 = 1;

/// What a store keeps of a fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Record<B = Vec<u8>> {
    /// The fact's name in a store. The first byte is its kind.
    pub name: B,
    /// The fact.
    pub value: B,
    /// When anyone may delete it, in seconds since 1970 (UTC).
    pub until: u64,
}

impl Record {
    /// Says that it can be deleted.
    #[must_use]
    pub fn forgotten(self) -> Self {
        Self { value: Vec::new(), until: 0, ..self }
    }
}

/// The signature of a fact.
pub type Mac = [u8; 16];

/// One thing that happened. All times are of the wall clock, since 1970 (UTC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fact {
    /// A session was ended before it expires.
    LogOut {
        /// The key that it stood for.
        key: KeyId,
        /// Its name.
        session: SessionId,
        /// When it began, in seconds.
        issued: u64,
        /// When it would have ended.
        expires: u64,
    },
    /// All sessions of a key that began at this time or before, in seconds, were ended.
    EarlierSessions {
        /// The key.
        key: KeyId,
        /// The latest beginning.
        issued: u64,
    },
    /// A key was revoked.
    Revocation {
        /// The key.
        key: KeyId,
        /// When, in seconds.
        at: u64,
        /// Until when this is remembered.
        until: u64,
    },
    /// An address is locked out.
    Lock {
        /// What counts as one address.
        network: Network,
        /// What it is locked out of.
        budget: Budget,
        /// Until when, in seconds.
        until: u64,
    },
    /// A prompt was queued by a key that has limits.
    Prompt {
        /// The key.
        key: KeyId,
        /// When, in milliseconds.
        time: u64,
        /// Its name, a random number.
        id: u64,
    },
    /// A machine is running.
    Node {
        /// Its name, which is new after each start.
        id: NodeId,
        /// When it said so last, in seconds.
        seen: u64,
    },
}

const LOG_OUT: u8 = b's';
const EARLIER_SESSIONS: u8 = b'e';
const REVOCATION: u8 = b'k';
const LOCK: u8 = b'l';
const PROMPT: u8 = b'p';
const NODE: u8 = b'n';

impl Fact {
    /// The key whose holders may make it.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        match *self {
            Self::LogOut { key, .. }
            | Self::EarlierSessions { key, .. }
            | Self::Revocation { key, .. }
            | Self::Prompt { key, .. } => Some(key),
            Self::Lock { .. } | Self::Node { .. } => None,
        }
    }

    /// When it no longer counts, in seconds since 1970 (UTC).
    #[must_use]
    pub fn until(&self) -> u64 {
        let end = match *self {
            Self::LogOut { expires, .. } => expires,
            Self::EarlierSessions { issued, .. } => issued.saturating_add(REMEMBERED.as_secs()),
            Self::Revocation { until, .. } | Self::Lock { until, .. } => until,
            Self::Prompt { time, .. } => time.div_ceil(1000).saturating_add(Window::Day.seconds()),
            Self::Node { seen, .. } => seen.saturating_add(HEARD_WITHIN),
        };
        end.saturating_add(TOLERANCE)
    }

    /// Whether it is neither over nor from the future. A false later time can't make it last longer.
    #[must_use]
    pub fn is_current(&self, now: Now) -> bool {
        let within = |time: u64, seconds: u64| time <= now.unix.saturating_add(seconds);
        let may_be = match *self {
            Self::LogOut { issued, expires, .. } => {
                within(issued, MAX_AHEAD) && expires.saturating_sub(issued) <= REMEMBERED.as_secs()
            }
            Self::EarlierSessions { issued, .. } => within(issued, MAX_AHEAD),
            Self::Revocation { until, .. } => within(until, MAX_REVOKED),
            Self::Lock { until, .. } => within(until, MAX_LOCK.as_secs() + TOLERANCE),
            Self::Prompt { time, .. } => time <= now.latest_millis().saturating_add(TOLERANCE * 1000),
            Self::Node { seen, .. } => within(seen, TOLERANCE),
        };
        may_be && now.unix < self.until()
    }

    /// Its signature under the key that it is about.
    #[must_use]
    pub fn sign(&self, key: &Entry) -> Mac {
        let mac = self.mac(key).finalize().into_bytes();
        std::array::from_fn(|index| mac[index])
    }

    /// Whether a signature is its own.
    #[must_use]
    pub fn is_signed(&self, key: &Entry, mac: &Mac) -> bool {
        self.key() == Some(key.id()) && self.mac(key).verify_truncated_left(mac).is_ok()
    }

    fn mac(&self, key: &Entry) -> Hmac<Sha256> {
        key.state_mac().chain_update(self.fields().framed)
    }

    /// The record for a store. A signed one is named by its signature.
    #[must_use]
    pub fn record(&self, mac: Option<&Mac>) -> Record {
        let mut value = self.fields().value;
        let kind = value[1];
        let name = match (self, mac) {
            (_, Some(mac)) => mac.as_slice(),
            (Self::Node { id, .. }, _) => &id.0,
            // Without its end: each replaces the one before it.
            (Self::Lock { .. }, _) => value.get(2..value.len() - 8).unwrap_or_default(),
            _ => &value[2..],
        };
        let name = [&[kind], name].concat();
        value.extend(mac.into_iter().flatten());
        Record { name, value, until: self.until() }
    }

    /// The fact in a record, and its signature if it needs one. `None` if it is not one of ours, or not current. Does
    /// not check the signature.
    pub fn read<B: AsRef<[u8]>>(record: &Record<B>, now: Now) -> Option<(Self, Option<Mac>)> {
        let (name, value) = (record.name.as_ref(), record.value.as_ref());
        let is_kept = (now.unix..=now.unix.saturating_add(MAX_KEPT)).contains(&record.until);
        if name.len() > MAX_NAME || value.len() > MAX_VALUE || !is_kept {
            return None;
        }
        let (fact, mac) = Self::parse(value).filter(|(fact, _)| fact.is_current(now))?;
        let told = fact.record(mac.as_ref());
        (told.name == name && told.value == value && told.until == record.until).then_some((fact, mac))
    }

    /// The fact in a value, and its signature if it needs one.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<(Self, Option<Mac>)> {
        let mut rest = value;
        let rest = &mut rest;
        if take(rest)? != [VERSION] {
            return None;
        }
        let [kind] = take(rest)?;
        let fact = match kind {
            LOG_OUT => Self::LogOut {
                key: KeyId(take(rest)?),
                session: SessionId(take(rest)?),
                issued: number(rest)?,
                expires: number(rest)?,
            },
            EARLIER_SESSIONS => Self::EarlierSessions { key: KeyId(take(rest)?), issued: number(rest)? },
            REVOCATION => Self::Revocation { key: KeyId(take(rest)?), at: number(rest)?, until: number(rest)? },
            LOCK => Self::Lock {
                network: Network::from_bytes(take(rest)?)?,
                budget: budget(take(rest)?)?,
                until: number(rest)?,
            },
            PROMPT => Self::Prompt { key: KeyId(take(rest)?), time: number(rest)?, id: number(rest)? },
            NODE => Self::Node { id: NodeId(take(rest)?), seen: number(rest)? },
            _ => return None,
        };
        let mac = if fact.key().is_some() { Some(take(rest)?) } else { None };
        rest.is_empty().then_some((fact, mac))
    }

    fn fields(&self) -> Fields {
        match self {
            Self::LogOut { key, session, issued, expires } => {
                Fields::of(LOG_OUT).add(&key.0).add(&session.0).number(*issued).number(*expires)
            }
            Self::EarlierSessions { key, issued } => Fields::of(EARLIER_SESSIONS).add(&key.0).number(*issued),
            Self::Revocation { key, at, until } => Fields::of(REVOCATION).add(&key.0).number(*at).number(*until),
            Self::Lock { network, budget, until } => {
                Fields::of(LOCK).add(&network.to_bytes()).add(&[number_of(*budget)]).number(*until)
            }
            Self::Prompt { key, time, id } => Fields::of(PROMPT).add(&key.0).number(*time).number(*id),
            Self::Node { id, seen } => Fields::of(NODE).add(&id.0).number(*seen),
        }
    }
}

/// The version, the kind, and the details, in fields of fixed lengths.
struct Fields {
    value: Vec<u8>,
    /// The same for signing: each field after its length.
    framed: Vec<u8>,
}

impl Fields {
    fn of(kind: u8) -> Self {
        Self { value: Vec::new(), framed: Vec::new() }.add(&[VERSION]).add(&[kind])
    }

    fn add(mut self, field: &[u8]) -> Self {
        self.value.extend(field);
        self.framed.push(u8::try_from(field.len()).unwrap_or(u8::MAX));
        self.framed.extend(field);
        self
    }

    fn number(self, number: u64) -> Self {
        self.add(&number.to_be_bytes())
    }
}

/// The next bytes.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*taken)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_be_bytes)
}

fn number_of(budget: Budget) -> u8 {
    match budget {
        Budget::Client => 0,
        Budget::AnyPage => 1,
    }
}

fn budget([number]: [u8; 1]) -> Option<Budget> {
    [Budget::Client, Budget::AnyPage].into_iter().find(|budget| number_of(*budget) == number)
}

#[cfg(test)]
#[path = "../../tests/units/state_fact.rs"]
mod tests;

//! What machines share of the state, and how each merges it.
//!
//! Every kind of fact is a set that grows until its entries end, or a maximum. So facts may arrive in any order, and more
//! than once. Facts without the required signature, or malformed ones, change nothing.

use super::State;
use super::fact::{Fact, Mac, Record};
use super::limits::Admission;
use super::revocations::Revocation;
use crate::keys::{Entry, KeyStore, Keys};
use crate::request::Now;
use crate::session::Session;

impl State {
    /// Merges the records of others. Returns how many are new.
    pub fn merge<B: AsRef<[u8]>>(&self, keys: &KeyStore, records: &[Record<B>], now: Now) -> usize {
        let known = keys.current();
        let mut revocations = Vec::new();
        let told = records.iter().filter_map(|record| Fact::read(record, now));
        let news = told.filter(|(fact, mac)| self.learn(fact, *mac, &known, &mut revocations, now)).count();
        news + keys.revoke(&revocations, now)
    }

    /// Merges one fact, but leaves revocations to the caller. Returns whether it is new.
    fn learn(&self, fact: &Fact, mac: Option<Mac>, keys: &Keys, revocations: &mut Vec<Revocation>, now: Now) -> bool {
        match *fact {
            Fact::Lock { network, budget, until } => return self.throttle.merge(network, budget, until, now),
            Fact::Node { id, seen } => return self.nodes.merge(id, seen, now),
            _ => {}
        }
        let of = fact.key().and_then(|key| keys.known(key));
        let Some((of, mac)) = of.zip(mac).filter(|(of, mac)| fact.is_signed(of, mac)) else { return false };
        match *fact {
            Fact::LogOut { key, session: id, issued, expires } => {
                self.log_outs.merge(&Session { key, id, issued, expires }, of, mac, now)
            }
            Fact::EarlierSessions { key, issued } => self.log_outs.merge_earlier(key, issued, mac),
            Fact::Prompt { key, time, id } => {
                let is_limited = of.attributes().quota.is_limited();
                is_limited && self.limits.merge(&of.subject(), Admission { time, id, key }, now.latest_millis())
            }
            Fact::Revocation { key, at, until } => {
                revocations.push(Revocation { key, at, until, mac });
                false
            }
            Fact::Lock { .. } | Fact::Node { .. } => false,
        }
    }

    /// Every valid fact that this machine knows, for a store that may know less, and their version. Other machines send
    /// their own heartbeats.
    #[must_use]
    pub fn all(&self, keys: &KeyStore, now: Now) -> (u64, Vec<Record>) {
        let version = self.changes.version(); // first: facts made in the meantime are sent twice
        let known = keys.current();
        let signed = keys.revocations(now).into_iter().chain(self.log_outs.facts(now));
        let mut records: Vec<_> = signed.map(|(fact, mac)| fact.record(Some(&mac))).collect();
        let prompts = self.limits.prompts(now.latest_millis()).into_iter().map(Admission::fact);
        let others = prompts.chain(self.throttle.facts(now)).chain([self.nodes.heartbeat(now)]);
        records.extend(others.filter_map(|fact| signed_record(&fact, None, &known)));
        (version, records)
    }

    /// What began on this machine since a version, and the version that this leads to; `None` if only
    /// [`all`](Self::all) can tell. A record without a value is one that the store can forget, once it has those
    /// before.
    #[must_use]
    pub fn changes_since(&self, version: u64, keys: &KeyStore) -> Option<(u64, Vec<Record>)> {
        let (version, changes) = self.changes.since(version)?;
        let known = keys.current();
        let records = changes.iter().filter_map(|change| {
            let record = signed_record(&change.fact, change.mac, &known)?;
            Some(if change.is_covered { record.forgotten() } else { record })
        });
        Some((version, records.collect()))
    }

    /// This machine's heartbeat, to be sent every few seconds. Also renews what must be renewed.
    #[must_use]
    pub fn heartbeat(&self, keys: &KeyStore, now: Now) -> Record {
        for (fact, mac) in keys.renew_revocations(now) {
            self.changes.add(fact, Some(mac));
        }
        self.nodes.heartbeat(now).record(None)
    }

    /// The store is away, or it is back.
    pub fn set_away(&self, is_away: bool, now: Now) {
        self.store.set_away(is_away);
        self.limits.divide(is_away.then(|| self.nodes.count(now)), now.latest_millis());
    }
}

/// A fact for a store, signed if it must be; `None` if its key is no longer known.
fn signed_record(fact: &Fact, mac: Option<Mac>, keys: &Keys) -> Option<Record> {
    let Some(key) = fact.key().filter(|_| mac.is_none()) else { return Some(fact.record(mac.as_ref())) };
    let sign = |key: &Entry| fact.record(Some(&fact.sign(key)));
    keys.known(key).map(sign)
}

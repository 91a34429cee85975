//! What is measured: when each node learned of each log-out, and how many bytes went where.

use std::collections::{HashMap, VecDeque};

use comfy_auth_rs::session::{Session, SessionId};
use comfy_auth_rs::state::fact::Fact;
use serde::Serialize;

use super::fleet::Fleet;
use super::node::Brought;
use super::time::SECOND;

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, Serialize, Default, PartialEq)]
pub struct Spread {
    pub median: f64,
    pub p99: f64,
    pub worst: f64,
}

impl Spread {
    pub fn of(times: &[u64]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let at = |share: f64| {
            let place = (share * sorted.len() as f64).ceil() as usize;
            sorted.get(place.saturating_sub(1)).map_or(f64::NAN, |time| *time as f64 / 1e6)
        };
        Self { median: at(0.5), p99: at(0.99), worst: at(1.0) }
    }
}

/// The log-outs, and which nodes know of each.
pub struct LogOuts {
    places: HashMap<SessionId, usize>,
    all: Vec<LogOut>,
    unanswered: Vec<VecDeque<(u64, u64)>>,
    pub answers: Vec<u64>,
}

struct LogOut {
    session: Session,
    began: u64,
    /// When each node knew of it, counted from then.
    known: Vec<Option<u64>>,
}

impl LogOuts {
    pub fn new(nodes: usize) -> Self {
        Self { places: HashMap::new(), all: Vec::new(), unanswered: vec![VecDeque::new(); nodes], answers: Vec::new() }
    }

    /// One begins.
    pub fn begin(&mut self, session: Session, node: usize, fleet: &Fleet) {
        let mut known = vec![None; fleet.nodes.len()];
        known[node] = Some(0);
        self.places.insert(session.id, self.all.len());
        self.all.push(LogOut { session, began: fleet.now, known });
        self.unanswered[node].push_back((fleet.nodes[node].state.changes.version(), fleet.now));
    }

    /// A node has learned something: its state says what.
    pub fn learned(&mut self, node: usize, brought: &Brought, fleet: &Fleet) {
        for record in brought.batches.iter().flat_map(|batch| batch.iter()).filter(|record| record.name[0] == b's') {
            let Some((Fact::LogOut { session, .. }, _)) = Fact::parse(&record.value) else { continue };
            let Some(log_out) = self.places.get(&session).map(|place| &mut self.all[*place]) else { continue };
            if log_out.known[node].is_none() {
                assert!(fleet.nodes[node].state.log_outs.contains(&log_out.session), "it was told");
                log_out.known[node] = Some(fleet.now - log_out.began);
            }
        }
        let stored = brought.stored.unwrap_or(0);
        while let Some((_, began)) = self.unanswered[node].front().copied().filter(|(version, _)| *version <= stored) {
            self.unanswered[node].pop_front();
            self.answers.push(fleet.now - began);
        }
    }

    pub fn begun(&self, from: u64, to: u64) -> usize {
        self.in_time(from, to).count()
    }

    /// How long it took until each node knew of the log-outs that began in this time, without those that it doesn't
    /// know yet.
    pub fn known(&self, from: u64, to: u64) -> Vec<u64> {
        self.in_time(from, to)
            .flat_map(|log_out| log_out.known.iter().flatten().filter(|time| **time > 0))
            .copied()
            .collect()
    }

    /// How long it took until all knew.
    pub fn known_by_all(&self, from: u64, to: u64) -> Vec<u64> {
        let last = |log_out: &LogOut| log_out.known.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().max();
        self.in_time(from, to).filter_map(last).collect()
    }

    /// When all knew of all of those.
    pub fn agreed_at(&self, from: u64, to: u64) -> Option<u64> {
        let last = |log_out: &LogOut| {
            Some(log_out.began + log_out.known.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().max()?)
        };
        self.in_time(from, to).map(last).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// For log-outs that began before `heals`: how long after it each node knew of each, in the same order of
    /// magnitude.
    pub fn known_after(&self, from: u64, heals: u64) -> Vec<u64> {
        let of = |log_out: &LogOut| {
            let began = log_out.began;
            log_out.known.iter().flatten().filter_map(move |time| (began + time).checked_sub(heals)).collect::<Vec<_>>()
        };
        self.in_time(from, heals).flat_map(of).collect()
    }

    fn in_time(&self, from: u64, to: u64) -> impl Iterator<Item = &LogOut> {
        self.all.iter().filter(move |log_out| (from..to).contains(&log_out.began))
    }
}

/// Bytes a second.
#[derive(Debug, Clone, Serialize, Default, PartialEq)]
pub struct Bytes {
    pub node_received_mean: u64,
    pub node_received_worst: u64,
    pub node_sent_worst: u64,
    pub store_received_mean: u64,
    pub store_received_worst: u64,
    pub store_sent_mean: u64,
    pub store_sent_worst: u64,
    /// The share of its time that the store worked.
    pub store_busy_mean: f64,
}

impl Bytes {
    pub fn of(fleet: &Fleet, from: u64, to: u64) -> Self {
        let seconds = (from / SECOND) as usize..(to / SECOND) as usize;
        let traffic = &fleet.network.traffic;
        let in_second =
            |nodes: &[Vec<u64>], second: usize| -> u64 { nodes.iter().filter_map(|of| of.get(second)).sum() };
        let sums =
            |nodes: &[Vec<u64>]| -> Vec<u64> { seconds.clone().map(|second| in_second(nodes, second)).collect() };
        let worst = |nodes: &[Vec<u64>]| {
            let each = nodes.iter().flat_map(|of| seconds.clone().filter_map(|second| of.get(second)));
            each.max().copied().unwrap_or(0)
        };
        let (sent, received) = (sums(&traffic.sent), sums(&traffic.received));
        let mean = |of: &[u64]| of.iter().sum::<u64>() / of.len().max(1) as u64;
        let work: u64 = seconds.clone().filter_map(|second| fleet.store.work.get(second)).sum();
        Self {
            node_received_mean: mean(&received) / fleet.nodes.len() as u64,
            node_received_worst: worst(&traffic.received),
            node_sent_worst: worst(&traffic.sent),
            store_received_mean: mean(&sent),
            store_received_worst: sent.iter().max().copied().unwrap_or(0),
            store_sent_mean: mean(&received),
            store_sent_worst: received.iter().max().copied().unwrap_or(0),
            store_busy_mean: work as f64 / (to - from) as f64,
        }
    }

    /// What a node receives and the store sends in each second.
    pub fn by_second(fleet: &Fleet, to: u64) -> Vec<u64> {
        let seconds = 0..(to / SECOND) as usize;
        let all = &fleet.network.traffic.received;
        seconds.map(|second| all.iter().filter_map(|of| of.get(second)).sum()).collect()
    }
}

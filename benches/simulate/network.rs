//! The network between each node and the store: delays, losses, partitions; and how many bytes went through it.

use super::dice::Dice;
use super::time::{MILLISECOND, SECOND};

/// How long TCP waits before it sends a lost packet again. The wait doubles each time.
const SENT_AGAIN_AFTER: u64 = 200 * MILLISECOND;

/// What one packet can carry, and its overhead.
const PACKET: u64 = 1448;
const HEADERS: u64 = 66;

#[derive(Clone, Copy)]
pub struct Conditions {
    /// The shortest time that a message takes, in one direction.
    pub delay: u64,
    /// The mean of what is added to it.
    pub jitter: u64,
    /// The share of packets that are lost.
    pub loss: f64,
}

/// The time in which the first so many nodes cannot reach the store.
#[derive(Clone, Copy)]
pub struct Partition {
    pub from: u64,
    pub to: u64,
    pub nodes: usize,
}

pub struct Network {
    conditions: Conditions,
    partition: Option<Partition>,
    dice: Dice,
    pub traffic: Traffic,
}

/// Bytes in each second, by node: what it sent, and what it received. The store has the sums, in the other direction.
pub struct Traffic {
    pub sent: Vec<Vec<u64>>,
    pub received: Vec<Vec<u64>>,
}

impl Network {
    pub fn new(conditions: Conditions, partition: Option<Partition>, nodes: usize, seed: u64) -> Self {
        let none = vec![Vec::new(); nodes];
        let traffic = Traffic { sent: none.clone(), received: none };
        Self { conditions, partition, dice: Dice::new(seed), traffic }
    }

    /// When a message to the store arrives; `None` if it never does.
    pub fn reaches_store(&mut self, node: usize, bytes: u64, now: u64) -> Option<u64> {
        let arrival = self.arrival(node, bytes, now);
        count(&mut self.traffic.sent[node], bytes, now);
        arrival
    }

    /// When a message from the store arrives.
    pub fn reaches_node(&mut self, node: usize, bytes: u64, now: u64) -> Option<u64> {
        let arrival = self.arrival(node, bytes, now)?;
        count(&mut self.traffic.received[node], bytes, arrival);
        Some(arrival)
    }

    fn arrival(&mut self, node: usize, bytes: u64, now: u64) -> Option<u64> {
        let Conditions { delay, jitter, loss } = self.conditions;
        let mut arrival = now + delay + self.dice.until_next(jitter as f64);
        let intact = (1.0 - loss).powi(i32::try_from(packets(bytes)).unwrap_or(i32::MAX));
        let mut again = SENT_AGAIN_AFTER;
        while self.dice.fraction() > intact && again < 10 * SECOND {
            arrival += again;
            again *= 2;
        }
        (!self.is_cut(node, now) && !self.is_cut(node, arrival)).then_some(arrival)
    }

    fn is_cut(&self, node: usize, at: u64) -> bool {
        self.partition.is_some_and(|cut| node < cut.nodes && (cut.from..cut.to).contains(&at))
    }
}

/// The bytes including the packets' overhead.
pub fn on_the_wire(bytes: u64) -> u64 {
    bytes + packets(bytes) * HEADERS
}

fn packets(bytes: u64) -> u64 {
    bytes.div_ceil(PACKET).max(1)
}

fn count(seconds: &mut Vec<u64>, bytes: u64, at: u64) {
    let second = (at / SECOND) as usize;
    if seconds.len() <= second {
        seconds.resize(second + 1, 0);
    }
    seconds[second] += on_the_wire(bytes);
}

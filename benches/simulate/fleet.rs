//! Nodes, network and store, and what happens next: a simulation of events.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write as _;
use std::rc::Rc;

use comfy_auth_rs::keys::KeyStore;

use super::dice::Dice;
use super::exchange::{CONNECT_TIMEOUT, LONGEST_WAIT, READ_TIMEOUT, Variation};
use super::network::{Conditions, Network, Partition};
use super::node::{Brought, EACH_RECORD, Next, Node, ROUND};
use super::store::{Answer, Line, Reply, Request, Store};
use super::time::{MILLISECOND, SECOND};

/// Users of the fleet. Each has one key, and a limit that nobody reaches.
pub const USERS: usize = 500;

/// Further users, each with a limit that is meant to be reached.
pub const LIMITED: usize = 128;

/// That limit, in an hour.
pub const LIMIT: usize = 60;

/// The clocks of nodes differ by up to this many milliseconds.
const SKEW: u64 = 500;

pub struct Plan {
    pub nodes: usize,
    pub seed: u64,
    pub conditions: Conditions,
    pub partition: Option<Partition>,
    pub variation: Variation,
}

pub struct Fleet {
    pub now: u64,
    pub nodes: Vec<Node>,
    pub network: Network,
    pub store: Store,
    pub keys: Rc<KeyStore>,
    pub dice: Dice,
    generations: Vec<[u32; 2]>,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    ticks_at: Option<u64>,
}

/// What a caller of [`Fleet::next`] sees.
pub enum Seen {
    /// Something that the caller had scheduled.
    Own(u64),
    /// A node has learned something, or the store has what the node told.
    Learned {
        node: usize,
        brought: Brought,
    },
    Else,
}

enum Event {
    AtStore(Line, Request),
    AtNode(Line, Reply),
    Connect { node: usize, is_writer: bool },
    Wake { node: usize, sleep: u64 },
    StoreTick,
    Own(u64),
}

struct Scheduled {
    at: u64,
    number: u64,
    event: Event,
}

impl Fleet {
    pub fn new(plan: &Plan) -> Self {
        let mut dice = Dice::new(plan.seed);
        let keys = Rc::new(keys(&mut dice));
        let node = |_| Node::new(Rc::clone(&keys), dice.below(2 * SKEW), plan.variation, dice.next());
        let nodes: Vec<_> = (0..plan.nodes).map(node).collect();
        let network = Network::new(plan.conditions, plan.partition, plan.nodes, dice.next());
        let mut fleet = Self {
            now: 0,
            generations: vec![[0; 2]; nodes.len()],
            nodes,
            network,
            store: Store::new(plan.variation.entries),
            keys,
            dice,
            events: BinaryHeap::new(),
            scheduled: 0,
            ticks_at: None,
        };
        for node in 0..plan.nodes {
            let at = fleet.nodes[node].begins();
            for is_writer in [false, true] {
                fleet.schedule(at, Event::Connect { node, is_writer });
            }
        }
        fleet
    }

    /// Makes [`Self::next`] return `what` at that time.
    pub fn remind(&mut self, at: u64, what: u64) {
        self.schedule(at, Event::Own(what));
    }

    /// The next event before `until`.
    pub fn next(&mut self, until: u64) -> Option<Seen> {
        if self.events.peek()?.0.at >= until {
            return None;
        }
        let Reverse(Scheduled { at, event, .. }) = self.events.pop()?;
        self.now = at;
        match event {
            Event::Own(what) => return Some(Seen::Own(what)),
            Event::AtStore(line, request) => {
                let answers = self.store.serve(line, request, at);
                self.send(answers);
            }
            Event::StoreTick => {
                self.ticks_at = None;
                let answers = self.store.patience_ends(at);
                self.send(answers);
            }
            Event::Connect { node, is_writer } => {
                self.generations[node][usize::from(is_writer)] += 1;
                self.ask(node, is_writer, Request::Connect, 0);
            }
            Event::Wake { node, sleep } => {
                let carry = &mut self.nodes[node].carry;
                if carry.is_asleep && carry.sleep == sleep {
                    carry.is_asleep = false;
                    return Some(self.step(node, true, Reply::Awake));
                }
            }
            Event::AtNode(line, reply) => {
                if self.generations[line.node][usize::from(line.is_writer)] == line.generation {
                    return Some(self.step(line.node, line.is_writer, reply));
                }
            }
        }
        Some(Seen::Else)
    }

    /// Something happened on a node: wakes its writer if others must be told.
    pub fn poke(&mut self, node: usize) {
        if self.nodes[node].state.changes.has_news() {
            self.wake(node);
        }
    }

    fn wake(&mut self, node: usize) {
        let carry = &mut self.nodes[node].carry;
        carry.has_news = true;
        if carry.is_asleep {
            let sleep = carry.sleep;
            self.schedule(self.now + ROUND, Event::Wake { node, sleep });
        }
    }

    fn step(&mut self, node: usize, is_writer: bool, reply: Reply) -> Seen {
        let (next, brought) = self.nodes[node].step(is_writer, reply, self.now);
        match next {
            Next::Ask(request) => self.ask(node, is_writer, request, 0),
            Next::AskIn(pause, request) => self.ask(node, is_writer, request, pause),
            Next::Connect(at) => self.schedule(at, Event::Connect { node, is_writer }),
            Next::Sleep(until) => {
                let carry = &mut self.nodes[node].carry;
                carry.is_asleep = true;
                carry.sleep += 1;
                let sleep = carry.sleep;
                self.schedule(until.max(self.now + ROUND), Event::Wake { node, sleep });
            }
        }
        if brought.is_news {
            self.wake(node);
        }
        Seen::Learned { node, brought }
    }

    fn ask(&mut self, node: usize, is_writer: bool, request: Request, pause: u64) {
        let patience = match request {
            Request::Connect => CONNECT_TIMEOUT,
            _ if is_writer => READ_TIMEOUT,
            _ => LONGEST_WAIT + READ_TIMEOUT,
        };
        let generation = self.generations[node][usize::from(is_writer)];
        let asks = self.now + pause;
        let line = Line { node, is_writer, generation, deadline: asks + patience };
        match self.network.reaches_store(node, request.bytes(), asks) {
            Some(arrival) => self.schedule(arrival, Event::AtStore(line, request)),
            None => self.schedule(line.deadline, Event::AtNode(line, Reply::Failed)),
        }
    }

    fn send(&mut self, answers: Vec<Answer>) {
        for Answer { to: line, reply, bytes, leaves } in answers {
            let arrival = self.network.reaches_node(line.node, bytes, leaves);
            match arrival.filter(|arrival| *arrival < line.deadline) {
                Some(arrival) => {
                    let looked_at = arrival + ROUND / 3 + EACH_RECORD * reply.records() as u64;
                    self.schedule(looked_at, Event::AtNode(line, reply));
                }
                None => self.schedule(line.deadline.max(self.now), Event::AtNode(line, Reply::Failed)),
            }
        }
        if self.ticks_at.is_none()
            && let Some(at) = self.store.next_patience()
        {
            self.ticks_at = Some(at);
            self.schedule(at, Event::StoreTick);
        }
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled { at, number: self.scheduled, event }));
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

/// The key file that all nodes have.
fn keys(dice: &mut Dice) -> KeyStore {
    let mut file = tempfile::NamedTempFile::new().expect("a folder for temporary files");
    for user in 0..USERS + LIMITED {
        let most = if user < USERS { 10_000 } else { LIMIT };
        let key = format!("{:016x}{:016x}{:016x}", dice.next(), dice.next(), dice.next());
        writeln!(file, "{key} user{user} prompts={most}/h").expect("room for a small file");
    }
    file.flush().expect("room for a small file");
    KeyStore::open(&[], &[file.path().to_owned()]).expect("a good key file")
}

/// Delays and losses within one building, and between distant places.
pub const NEAR: Conditions = Conditions { delay: 200_000, jitter: 100_000, loss: 0.0001 };
pub const FAR: Conditions = Conditions { delay: 40 * MILLISECOND, jitter: 5 * MILLISECOND, loss: 0.01 };

/// From this time on, all nodes are there.
pub const ALL_THERE: u64 = 12 * SECOND;

//! What happens to the fleet: an ordinary day, a flood of failing addresses, a partition, limits that are reached.

use std::net::{IpAddr, Ipv4Addr};

use comfy_auth_rs::keys::{KeyId, Quota};
use comfy_auth_rs::request::Now;
use comfy_auth_rs::secret::Digest;
use comfy_auth_rs::session::{BROWSER, Session, SessionId};
use comfy_auth_rs::state::throttle::{Budget, Client, MAX_FAILURES};
use serde::Serialize;

use super::exchange::{ANSWER_WAITS, Variation};
use super::fleet::{ALL_THERE, Fleet, LIMIT, LIMITED, Plan, Seen, USERS};
use super::measure::{Bytes, LogOuts, Spread};
use super::network::{Conditions, Partition};
use super::node::BEGINNING;
use super::time::SECOND;

/// People at work. Each has a session on the node that the proxy chose for the user.
pub const CLIENTS: u64 = 100_000;

/// What all of them do each second: each logs out every six hours, and queues a prompt every half hour.
const LOG_OUTS: f64 = CLIENTS as f64 / (6.0 * 3600.0);
const PROMPTS: f64 = CLIENTS as f64 / 1800.0;
const LOCKS: f64 = 0.1;

/// Failing addresses of a flood, and how long it lasts.
pub const ADDRESSES: u64 = 100_000;
const FLOOD: u64 = 10 * SECOND;

const LOG_OUT: u64 = 0;
const PROMPT: u64 = 1;
const LOCK: u64 = 2;
const FLOODING: u64 = 3;
const TRY: u64 = 16;

/// The fleet, and where it is.
#[derive(Clone, Copy)]
pub struct Setting {
    pub nodes: usize,
    pub seed: u64,
    pub conditions: Conditions,
    pub variation: Variation,
}

impl Setting {
    fn plan(self, partition: Option<Partition>) -> Plan {
        let Self { nodes, seed, conditions, variation } = self;
        Plan { nodes, seed, conditions, partition, variation }
    }
}

/// A user: key, subject, limits.
type User = (KeyId, String, Quota);

pub struct Run {
    pub fleet: Fleet,
    pub log_outs: LogOuts,
    users: Vec<User>,
    locked: Vec<IpAddr>,
    calm_until: u64,
    flood_until: u64,
    /// The only node that it hits.
    flooded: Option<usize>,
    tries: Vec<Tries>,
}

/// The attempts of one user who is meant to reach the limit.
#[derive(Clone)]
struct Tries {
    user: usize,
    /// The mean time between two, in nanoseconds.
    pause: f64,
    until: u64,
    admitted: usize,
}

impl Run {
    pub fn new(plan: &Plan) -> Self {
        let fleet = Fleet::new(plan);
        let mut users: Vec<Option<User>> = vec![None; USERS + LIMITED];
        for entry in fleet.keys.current().entries() {
            let number = entry.label().and_then(|label| label.strip_prefix("user")?.parse::<usize>().ok());
            let number = number.expect("a label that was made here");
            users[number] = Some((entry.id(), entry.subject(), entry.attributes().quota));
        }
        Self {
            log_outs: LogOuts::new(plan.nodes),
            fleet,
            users: users.into_iter().flatten().collect(),
            locked: Vec::new(),
            calm_until: 0,
            flood_until: 0,
            flooded: None,
            tries: Vec::new(),
        }
    }

    /// An ordinary day, from the time when all nodes are there.
    pub fn calm(&mut self, until: u64) {
        self.calm_until = until;
        for what in [LOG_OUT, PROMPT, LOCK] {
            self.fleet.remind(ALL_THERE, what);
        }
    }

    pub fn flood(&mut self, from: u64, flooded: Option<usize>) {
        self.flood_until = from + FLOOD;
        self.flooded = flooded;
        self.fleet.remind(from, FLOODING);
    }

    fn tries(&mut self, user: usize, each_second: f64, from: u64, until: u64) {
        let tries = Tries { user: USERS + user, pause: SECOND as f64 / each_second, until, admitted: 0 };
        self.fleet.remind(from, TRY + self.tries.len() as u64);
        self.tries.push(tries);
    }

    pub fn until(&mut self, end: u64) {
        while let Some(seen) = self.fleet.next(end) {
            match seen {
                Seen::Own(what) => self.happens(what),
                Seen::Learned { node, brought } => self.log_outs.learned(node, &brought, &self.fleet),
                Seen::Else => {}
            }
        }
    }

    fn happens(&mut self, what: u64) {
        let now = self.fleet.now;
        let (mean, until) = match what {
            LOG_OUT => (SECOND as f64 / LOG_OUTS, self.calm_until),
            PROMPT => (SECOND as f64 / PROMPTS, self.calm_until),
            LOCK => (SECOND as f64 / LOCKS, self.calm_until),
            FLOODING => (FLOOD as f64 / ADDRESSES as f64, self.flood_until),
            tries => {
                let of = &self.tries[(tries - TRY) as usize];
                (of.pause, of.until)
            }
        };
        if now >= until {
            return;
        }
        let node = match what {
            LOG_OUT => self.log_out(),
            PROMPT => {
                let client = self.fleet.dice.below(CLIENTS);
                self.prompt(client as usize % USERS, self.home(client));
                self.home(client)
            }
            LOCK | FLOODING => self.lock(if what == FLOODING { self.flooded } else { None }),
            tries => self.attempt((tries - TRY) as usize),
        };
        self.fleet.poke(node);
        let next = now + self.fleet.dice.until_next(mean).max(1);
        self.fleet.remind(next, what);
    }

    /// The node where the proxy sends a client's user.
    fn home(&self, client: u64) -> usize {
        client as usize % USERS % self.fleet.nodes.len()
    }

    fn log_out(&mut self) -> usize {
        let client = self.fleet.dice.below(CLIENTS);
        let node = if self.fleet.nodes.len() > USERS {
            self.fleet.dice.below(self.fleet.nodes.len() as u64) as usize
        } else {
            self.home(client)
        };
        let key = self.users[client as usize % USERS].0;
        let clock = self.fleet.nodes[node].clock(self.fleet.now);
        let issued = clock.unix - self.fleet.dice.below(20 * 3600);
        let id = SessionId(self.fleet.dice.bytes());
        let session = Session { key, id, issued, expires: issued + BROWSER.as_secs() };
        let keys = self.fleet.keys.current();
        let entry = keys.known(key).expect("all nodes have this key");
        self.fleet.nodes[node].state.log_outs.add(&session, entry, clock);
        drop(keys);
        self.log_outs.begin(session, node, &self.fleet);
        node
    }

    fn prompt(&mut self, user: usize, node: usize) -> bool {
        let (key, subject, quota) = &self.users[user];
        let node = &self.fleet.nodes[node];
        let now = node.clock(self.fleet.now).latest_millis();
        let Ok(mut ticket) = node.state.limits.reserve(*key, subject, *quota, now) else { return false };
        ticket.queued(now).is_some()
    }

    fn attempt(&mut self, tries: usize) -> usize {
        let node = self.fleet.dice.below(self.fleet.nodes.len() as u64) as usize;
        let is_admitted = self.prompt(self.tries[tries].user, node);
        self.tries[tries].admitted += usize::from(is_admitted);
        node
    }

    /// One address guesses until it is locked.
    fn lock(&mut self, node: Option<usize>) -> usize {
        let node = node.unwrap_or_else(|| self.fleet.dice.below(self.fleet.nodes.len() as u64) as usize);
        let address = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + self.locked.len() as u32));
        let client = Client { address, is_shared: true };
        let wrong: Vec<_> = (0..MAX_FAILURES).map(|_| Digest::from_bytes(self.fleet.dice.bytes())).collect();
        let clock = self.fleet.nodes[node].clock(self.fleet.now);
        let _ = self.fleet.nodes[node].state.throttle.failed(client, Budget::Client, &wrong, clock);
        self.locked.push(address);
        node
    }

    /// Which share of all locks a node knows.
    fn locks_known(&self) -> f64 {
        let (mut known, mut asked) = (0_usize, 0_usize);
        for node in self.fleet.nodes.iter().step_by(self.fleet.nodes.len().div_ceil(10)) {
            let clock = node.clock(self.fleet.now);
            for address in &self.locked {
                let client = Client { address: *address, is_shared: true };
                asked += 1;
                known +=
                    usize::from(node.state.throttle.permits(client, Budget::Client, None, clock.monotonic).is_err());
            }
        }
        known as f64 / asked.max(1) as f64
    }

    fn failures(&self) -> u64 {
        self.fleet.nodes.iter().map(|node| node.failures).sum()
    }

    fn whole_reads(&self) -> u64 {
        self.fleet.nodes.iter().map(|node| node.whole_reads).sum()
    }
}

/// What became of the log-outs of a period.
#[derive(Debug, Serialize, PartialEq)]
pub struct Told {
    pub log_outs: usize,
    /// Until one other node knew.
    pub one: Spread,
    /// Until all nodes knew.
    pub all: Spread,
    /// How many of them all nodes know by now.
    pub known_by_all: usize,
    /// Until the log-out was answered.
    pub answer: Spread,
    pub answers_late: usize,
    /// How many milliseconds it took until 0, 1, 2 … 100 percent of the others knew.
    pub curve: Vec<f64>,
}

impl Told {
    fn of(run: &Run, from: u64, to: u64) -> Self {
        let (one, all) = (run.log_outs.known(from, to), run.log_outs.known_by_all(from, to));
        Self {
            log_outs: run.log_outs.begun(from, to),
            one: Spread::of(&one),
            all: Spread::of(&all),
            known_by_all: all.len(),
            answer: Spread::of(&run.log_outs.answers),
            answers_late: run.log_outs.answers.iter().filter(|time| **time > ANSWER_WAITS).count(),
            curve: curve(one, run.log_outs.begun(from, to) * (run.fleet.nodes.len() - 1)),
        }
    }
}

/// When 0, 1, 2 … 100 percent of `all` were reached, as far as that happened.
fn curve(mut times: Vec<u64>, all: usize) -> Vec<f64> {
    times.sort_unstable();
    let last = all.saturating_sub(1);
    (0..=100).filter_map(|percent| times.get(last * percent / 100)).map(|time| *time as f64 / 1e6).collect()
}

#[derive(Debug, Serialize, PartialEq)]
pub struct Everyday {
    pub nodes: usize,
    pub told: Told,
    pub bytes: Bytes,
    pub failures: u64,
    pub whole_reads: u64,
}

/// Half a minute of an ordinary day.
pub fn everyday(setting: Setting) -> Everyday {
    let nodes = setting.nodes;
    let mut run = Run::new(&setting.plan(None));
    let (from, to) = (ALL_THERE + 3 * SECOND, ALL_THERE + 33 * SECOND);
    run.calm(to);
    run.until(to + 10 * SECOND);
    let (told, bytes) = (Told::of(&run, from, to), Bytes::of(&run.fleet, from, to));
    Everyday { nodes, told, bytes, failures: run.failures(), whole_reads: run.whole_reads() }
}

#[derive(Debug, Serialize, PartialEq)]
pub struct Flood {
    pub nodes: usize,
    pub told: Told,
    pub bytes: Bytes,
    pub by_second: Vec<u64>,
    /// The share of the locks that a node knew at the end, and how many a node made but did not tell.
    pub locks_known: f64,
    pub locks_dropped: u64,
    pub failures: u64,
    /// How often a node has read everything again since the flood began.
    pub whole_reads: u64,
}

/// A hundred thousand addresses lock within ten seconds, on all nodes or on one.
pub fn flood(setting: Setting, flooded: Option<usize>) -> Flood {
    let nodes = setting.nodes;
    let mut run = Run::new(&setting.plan(None));
    let (from, to) = (ALL_THERE + 3 * SECOND, ALL_THERE + 3 * SECOND + FLOOD);
    run.calm(to + 5 * SECOND);
    run.flood(from, flooded);
    run.until(from);
    let whole_reads = run.whole_reads();
    run.until(to + 15 * SECOND);
    Flood {
        nodes,
        told: Told::of(&run, from, to),
        bytes: Bytes::of(&run.fleet, from, to),
        by_second: Bytes::by_second(&run.fleet, to + 15 * SECOND),
        locks_known: run.locks_known(),
        locks_dropped: run.fleet.nodes.iter().map(|node| node.carry.outbox.dropped).sum(),
        failures: run.failures(),
        whole_reads: run.whole_reads() - whole_reads,
    }
}

#[derive(Debug, Serialize, PartialEq)]
pub struct Parted {
    pub nodes: usize,
    pub log_outs: usize,
    /// How long after the partition's end it took until all knew of all log-outs.
    pub agreed_ms: Option<f64>,
    /// Whether all nodes know exactly the same at the end, and how many facts that is.
    pub all_alike: bool,
    pub facts: usize,
    /// How long it took until 0, 1, 2 … 100 percent of what was missing was known.
    pub curve: Vec<f64>,
    pub bytes_after: Bytes,
}

/// Half of the nodes cannot reach the store for `seconds`. Both halves go on working.
pub fn parted(setting: Setting, seconds: u64) -> Parted {
    let nodes = setting.nodes;
    let from = ALL_THERE + 3 * SECOND;
    let to = from + seconds * SECOND;
    let partition = Some(Partition { from, to, nodes: nodes / 2 });
    let mut run = Run::new(&setting.plan(partition));
    run.calm(to);
    run.until(to + 15 * SECOND);
    // For all, by the clock that is furthest ahead.
    let clock = run.fleet.nodes.iter().map(|node| node.ahead).max().unwrap_or(0);
    let clock = Now::at((BEGINNING + clock) / 1000 + run.fleet.now / SECOND + 2);
    let known: Vec<_> = run.fleet.nodes.iter().map(|node| node.knows(clock)).collect();
    let agreed = run.log_outs.agreed_at(from, to);
    Parted {
        nodes,
        log_outs: run.log_outs.begun(from, to),
        agreed_ms: agreed.map(|at| at.saturating_sub(to) as f64 / 1e6),
        all_alike: known.iter().all(|of| *of == known[0]),
        facts: known[0].len(),
        curve: {
            let after = run.log_outs.known_after(from, to);
            let all = after.len();
            curve(after, all)
        },
        bytes_after: Bytes::of(&run.fleet, to, to + 5 * SECOND),
    }
}

#[derive(Debug, Serialize, PartialEq)]
pub struct Overshot {
    pub nodes: usize,
    /// For each rate: one user's tries a second, and how much was admitted beyond the limit, on average and at worst.
    pub by_rate: Vec<(f64, f64, usize)>,
    /// The same at 100 tries a second for a minute, while no node can reach the store.
    pub away: (f64, usize),
}

/// Tries a second.
const RATES: [f64; 3] = [10.0, 100.0, 1000.0];
const USERS_EACH: usize = 8;

/// Users try more than they may, each time on a random node.
pub fn overshot(setting: Setting) -> Overshot {
    let nodes = setting.nodes;
    let from = ALL_THERE + 3 * SECOND;
    let away = Partition { from: from + 20 * SECOND, to: u64::MAX, nodes };
    let mut run = Run::new(&setting.plan(Some(away)));
    for (place, rate) in RATES.into_iter().enumerate() {
        let lasts = ((LIMIT as f64 / rate).mul_add(1.5, 2.0) * SECOND as f64) as u64;
        for number in 0..USERS_EACH {
            let begins = from + number as u64 * SECOND + place as u64 * SECOND / 3;
            run.tries(place * USERS_EACH + number, rate, begins, begins + lasts);
        }
    }
    for number in 0..USERS_EACH {
        let begins = away.from + 5 * SECOND;
        run.tries(RATES.len() * USERS_EACH + number, 100.0, begins, begins + 60 * SECOND);
    }
    run.until(away.from + 70 * SECOND);
    let beyond = |group: usize| {
        let users = &run.tries[group * USERS_EACH..(group + 1) * USERS_EACH];
        let beyond = users.iter().map(|tries| tries.admitted.saturating_sub(LIMIT));
        (beyond.clone().sum::<usize>() as f64 / USERS_EACH as f64, beyond.max().unwrap_or(0))
    };
    let by_rate = RATES.iter().enumerate().map(|(group, rate)| {
        let (mean, worst) = beyond(group);
        (*rate, mean, worst)
    });
    Overshot { nodes, by_rate: by_rate.collect(), away: beyond(RATES.len()) }
}

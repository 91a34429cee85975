//! One node: its real state, and the two threads of `store/exchange.py` that carry and bring.

use std::collections::HashMap;
use std::rc::Rc;

use comfy_auth_rs::keys::KeyStore;
use comfy_auth_rs::request::Now;
use comfy_auth_rs::state::State;
use comfy_auth_rs::state::fact::Record;

use super::dice::Dice;
use super::exchange::{EVERYTHING_AFTER, FIRST_PAUSE, HEARTBEAT, LONGEST_PAUSE, NODES_AFTER, Variation};
use super::outbox::Outbox;
use super::store::{Reply, Request, Told};
use super::time::{MICROSECOND, MILLISECOND, SECOND};

/// When the simulation begins, in milliseconds since 1970.
pub const BEGINNING: u64 = 1_800_000_000_000;

/// How long a node's Python takes to get going, and to look at one record.
pub const ROUND: u64 = 300 * MICROSECOND;
pub const EACH_RECORD: u64 = 8 * MICROSECOND;

/// What one of the two threads does next.
pub enum Next {
    Ask(Request),
    /// The same, after this long.
    AskIn(u64, Request),
    /// The writer waits for news, but no longer than this.
    Sleep(u64),
    /// The connection failed. When to connect again.
    Connect(u64),
}

/// What a reply brought.
#[derive(Default)]
pub struct Brought {
    pub batches: Vec<Rc<[Told]>>,
    /// The version up to which the store has all facts.
    pub stored: Option<u64>,
    /// Whether the writer has something new to carry.
    pub is_news: bool,
}

pub struct Node {
    pub state: State,
    pub keys: Rc<KeyStore>,
    /// How far its clock is ahead, in milliseconds.
    pub ahead: u64,
    pub carry: Carry,
    pub bring: Bring,
    lacking: Vec<Vec<Told>>,
    doubts: bool,
    link: [bool; 2],
    dice: Dice,
    variation: Variation,
    pub failures: u64,
    pub whole_reads: u64,
}

/// The thread that carries what is new here to the store.
#[derive(Default)]
pub struct Carry {
    pub outbox: Outbox,
    /// The version up to which everything is in the outbox, or was.
    version: u64,
    next_beat: u64,
    is_again: bool,
    pause: Pause,
    writing: Option<Rc<[Told]>>,
    /// Since when it has been waiting for news.
    pub is_asleep: bool,
    pub has_news: bool,
    /// Goes up with each sleep.
    pub sleep: u64,
}

/// The thread that brings what others wrote.
#[derive(Default)]
pub struct Bring {
    version: Option<u64>,
    everything_at: u64,
    nodes_at: u64,
    missing: HashMap<Vec<u8>, Told>,
    pause: Pause,
}

/// How long to wait before the next try: longer each time.
#[derive(Default)]
struct Pause(u64);

impl Pause {
    fn next(&mut self, dice: &mut Dice) -> u64 {
        let longest = self.0.max(FIRST_PAUSE);
        self.0 = (2 * longest).min(LONGEST_PAUSE);
        (longest as f64 * (0.5 + dice.fraction() / 2.0)) as u64
    }
}

impl Node {
    pub fn new(keys: Rc<KeyStore>, ahead: u64, variation: Variation, seed: u64) -> Self {
        let carry = Carry { outbox: Outbox::new(variation), ..Carry::default() };
        Self {
            state: State::default(),
            keys,
            ahead,
            carry,
            variation,
            bring: Bring::default(),
            lacking: Vec::new(),
            doubts: false,
            link: [false; 2],
            dice: Dice::new(seed),
            failures: 0,
            whole_reads: 0,
        }
    }

    /// The time by its own clocks.
    pub fn clock(&self, now: u64) -> Now {
        let ahead = BEGINNING + self.ahead;
        let monotonic = std::time::Duration::from_nanos(now);
        Now { monotonic, unix: (ahead + now / MILLISECOND) / 1000, ahead }
    }

    /// The next step of a thread when a reply arrives.
    pub fn step(&mut self, is_writer: bool, reply: Reply, now: u64) -> (Next, Brought) {
        if matches!(reply, Reply::Failed) {
            return (self.failed(is_writer, now), Brought::default());
        }
        if is_writer { self.carry_on(&reply, now) } else { self.bring_on(reply, now) }
    }

    fn failed(&mut self, is_writer: bool, now: u64) -> Next {
        self.failures += 1;
        self.link_is(is_writer, false, now);
        let pause = if is_writer {
            self.carry.is_again = true;
            self.carry.writing = None;
            &mut self.carry.pause
        } else {
            self.bring.version = None;
            &mut self.bring.pause
        };
        Next::Connect(now + pause.next(&mut self.dice))
    }

    // --- carrying ---------------------------------------------------------------------------------------------------

    fn carry_on(&mut self, reply: &Reply, now: u64) -> (Next, Brought) {
        let mut brought = Brought::default();
        match reply {
            Reply::Connected => self.carry.next_beat = now,
            Reply::Written => {
                if let Some(batch) = self.carry.writing.take() {
                    self.carry.outbox.written(&batch);
                    if !self.carry.outbox.has_news() {
                        brought.stored = Some(self.carry.version);
                    }
                }
                self.collect(now);
            }
            _ => {}
        }
        (self.carry_next(matches!(reply, Reply::Awake), now, &mut brought), brought)
    }

    fn carry_next(&mut self, is_awake: bool, now: u64, brought: &mut Brought) -> Next {
        if now >= self.carry.next_beat {
            self.carry.has_news = false;
            self.carry.next_beat = now + HEARTBEAT;
            return Next::Ask(Request::Beat(told(self.state.heartbeat(&self.keys, self.clock(now)))));
        }
        if is_awake {
            self.carry.has_news = false;
            self.collect(now);
        }
        let batch = self.carry.outbox.take(now);
        if !batch.is_empty() {
            let batch: Rc<[Told]> = batch.into();
            self.carry.writing = Some(Rc::clone(&batch));
            return Next::Ask(Request::Write(batch));
        }
        if !self.carry.outbox.has_news() {
            brought.stored = Some(self.carry.version);
        }
        self.link_is(true, true, now);
        self.carry.pause = Pause::default();
        let until = self.carry.next_beat.min(now + self.carry.outbox.delay().unwrap_or(HEARTBEAT));
        Next::Sleep(if self.carry.has_news { now } else { until })
    }

    fn collect(&mut self, now: u64) {
        if std::mem::take(&mut self.carry.is_again) {
            self.doubts = true;
        }
        if !self.lacking.is_empty() {
            self.carry.outbox.add(self.lacking.remove(0), false);
        }
        if self.carry.outbox.has_news() {
            return;
        }
        let changes = self.state.changes_since(self.carry.version, &self.keys);
        let (version, records) = changes.unwrap_or_else(|| self.state.all(&self.keys, self.clock(now)));
        self.carry.version = version;
        self.carry.outbox.add(records.into_iter().map(told), true);
    }

    // --- bringing ---------------------------------------------------------------------------------------------------

    fn bring_on(&mut self, reply: Reply, now: u64) -> (Next, Brought) {
        let mut brought = Brought::default();
        let is_woken = matches!(reply, Reply::Awake);
        let next = match reply {
            Reply::Begun(version) => {
                self.bring.version = Some(version);
                self.whole_reads += 1;
                self.bring.missing = self.all(now);
                let after = EVERYTHING_AFTER as f64 * (0.5 + self.dice.fraction() / 2.0);
                self.bring.everything_at = now + after as u64;
                self.bring.nodes_at = now + NODES_AFTER;
                Request::Scan(0)
            }
            Reply::Scanned { records, next } => {
                brought.batches.push(records.into());
                self.merge(&brought.batches, now);
                let Some(next) = next else { return (Next::Ask(self.all_is_read(&mut brought, now)), brought) };
                Request::Scan(next)
            }
            Reply::News { entries, last } => {
                self.merge(&entries, now);
                brought.batches = entries;
                self.bring.version = Some(last);
                self.has_read(now)
            }
            Reply::Trimmed => Request::Begin,
            _ => self.read(now),
        };
        let breath = if is_woken { self.variation.breath } else { 0 };
        (Next::AskIn(breath, next), brought)
    }

    fn read(&mut self, now: u64) -> Request {
        if std::mem::take(&mut self.doubts) || now >= self.bring.everything_at {
            self.bring.version = None;
        }
        let Some(after) = self.bring.version else { return Request::Begin };
        let nodes = now >= self.bring.nodes_at;
        if nodes {
            self.bring.nodes_at = now + NODES_AFTER;
        }
        Request::Read { after, nodes }
    }

    fn all_is_read(&mut self, brought: &mut Brought, now: u64) -> Request {
        let mut missing: Vec<_> = std::mem::take(&mut self.bring.missing).into_values().collect();
        if !missing.is_empty() {
            // By kind, then by value, so that the order is the same each time.
            missing.sort_by(|one, other| one.value.cmp(&other.value));
            self.lacking.push(missing);
            brought.is_news = true;
        }
        self.has_read(now)
    }

    fn has_read(&mut self, now: u64) -> Request {
        self.link_is(false, true, now);
        self.bring.pause = Pause::default();
        Request::Wait(self.bring.version.unwrap_or(0))
    }

    fn merge(&mut self, batches: &[Rc<[Told]>], now: u64) {
        for batch in batches {
            self.state.merge(&self.keys, batch, self.clock(now));
            if !self.bring.missing.is_empty() {
                for record in &**batch {
                    self.bring.missing.remove(&*record.name);
                }
            }
        }
        // The next request, or the application's timer, checks what is in flight. From then on log-outs count.
        let look = self.state.log_outs.begin_look();
        self.state.log_outs.noted(look);
    }

    fn all(&self, now: u64) -> HashMap<Vec<u8>, Told> {
        let (_, records) = self.state.all(&self.keys, self.clock(now));
        records.into_iter().map(|record| (record.name.clone(), told(record))).collect()
    }

    /// Everything that it knows, except which nodes are there.
    pub fn knows(&self, now: Now) -> Vec<Vec<u8>> {
        let (_, records) = self.state.all(&self.keys, now);
        let mut names: Vec<_> = records.into_iter().map(|record| record.name).filter(|name| name[0] != b'n').collect();
        names.sort_unstable();
        names
    }

    fn link_is(&mut self, is_writer: bool, works: bool, now: u64) {
        let was_away = self.link != [true; 2];
        self.link[usize::from(is_writer)] = works;
        let is_away = self.link != [true; 2];
        if was_away != is_away {
            self.state.set_away(is_away, self.clock(now));
        }
    }

    /// When the threads begin: not all at the same time.
    pub fn begins(&mut self) -> u64 {
        self.dice.below(10 * SECOND)
    }
}

fn told(record: Record) -> Told {
    Record { name: record.name.into(), value: record.value.into(), until: record.until }
}

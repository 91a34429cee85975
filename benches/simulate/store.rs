//! The store: what Valkey does for `python/comfy_auth_rs/store/valkey.py`. A hash with all facts, a stream of the
//! latest, and readers that wait. It does one thing at a time, and each takes time.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use comfy_auth_rs::state::fact::Record;

use super::exchange::{IN_ONE_ENTRY, LARGEST_BATCH, LONGEST_NEWS, LONGEST_WAIT};
use super::network::on_the_wire;
use super::time::{MICROSECOND, SECOND};

/// A fact as it travels. All nodes share the bytes.
pub type Told = Record<Rc<[u8]>>;

/// What Redis 7.0 takes for each on one core, as measured: a request, a command in it, a record that it reads or
/// writes, and waking one reader.
const REQUEST: u64 = 10 * MICROSECOND;
const COMMAND: u64 = 2 * MICROSECOND;
const WRITING: u64 = 6 * MICROSECOND;
const RECORD: u64 = 400;
const RECORD_WRITTEN: u64 = 1_300;
const WAKING: u64 = 9 * MICROSECOND;

/// Its network: 10 Gbit/s.
const NANOSECONDS_A_BYTE: f64 = 0.8;

/// The protocol's overhead for a record, an entry and a command.
const AROUND_RECORD: u64 = 25;
const AROUND_ENTRY: u64 = 45;
const AROUND_COMMAND: u64 = 60;

/// One connection of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    pub node: usize,
    pub is_writer: bool,
    /// Goes up with each new connection.
    pub generation: u32,
    /// When it was asked, and until when an answer counts.
    pub deadline: u64,
}

pub enum Request {
    Connect,
    /// How far the stream is.
    Begin,
    /// Some of all the facts, from this one on.
    Scan(usize),
    /// What the stream has after this, and, if it is time for it, which nodes are there.
    Read {
        after: u64,
        nodes: bool,
    },
    /// Until the stream has more.
    Wait(u64),
    Write(Rc<[Told]>),
    /// A heartbeat, which nobody is told about.
    Beat(Told),
}

pub enum Reply {
    Connected,
    Begun(u64),
    Scanned {
        records: Vec<Told>,
        next: Option<usize>,
    },
    News {
        entries: Vec<Rc<[Told]>>,
        last: u64,
    },
    /// The stream doesn't go back that far.
    Trimmed,
    Awake,
    Written,
    Failed,
}

/// A reply that leaves at that time.
pub struct Answer {
    pub to: Line,
    pub reply: Reply,
    pub bytes: u64,
    pub leaves: u64,
}

pub struct Store {
    /// The most entries of the stream that one read brings.
    entries: usize,
    facts: Hash,
    nodes: Hash,
    stream: VecDeque<Rc<[Told]>>,
    /// The number of the latest entry of the stream.
    last: u64,
    waiting: VecDeque<(u64, Line)>,
    busy_until: u64,
    link_free: u64,
    /// Nanoseconds of work in each second.
    pub work: Vec<u64>,
}

/// Records by name.
#[derive(Default)]
struct Hash {
    records: Vec<Told>,
    places: HashMap<Rc<[u8]>, usize>,
}

impl Hash {
    fn set(&mut self, record: &Told) {
        let place = *self.places.entry(Rc::clone(&record.name)).or_insert(self.records.len());
        if place == self.records.len() {
            self.records.push(record.clone());
        } else {
            self.records[place] = record.clone();
        }
    }
}

impl Request {
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Connect => 3 * AROUND_COMMAND,
            Self::Begin => 2 * AROUND_COMMAND,
            Self::Read { nodes, .. } => (4 + u64::from(*nodes)) * AROUND_COMMAND,
            Self::Beat(record) => size(std::slice::from_ref(record)) + AROUND_COMMAND,
            Self::Scan(_) | Self::Wait(_) => AROUND_COMMAND,
            // Once for the hash, once for the stream.
            Self::Write(records) => {
                2 * (size(records) + AROUND_COMMAND * (records.len().div_ceil(IN_ONE_ENTRY) as u64))
            }
        }
    }

    fn work(&self) -> u64 {
        match self {
            Self::Connect => 3 * REQUEST,
            Self::Begin => REQUEST + 2 * COMMAND,
            Self::Read { nodes, .. } => REQUEST + (4 + u64::from(*nodes)) * COMMAND,
            Self::Beat(_) => REQUEST + COMMAND + WRITING + RECORD_WRITTEN / 2,
            Self::Scan(_) | Self::Wait(_) => REQUEST + COMMAND,
            Self::Write(records) => {
                let entries = records.len().div_ceil(IN_ONE_ENTRY) as u64;
                REQUEST + 2 * (COMMAND + WRITING) * entries + RECORD_WRITTEN * records.len() as u64
            }
        }
    }
}

impl Reply {
    /// How many records the node has to look at.
    pub fn records(&self) -> usize {
        match self {
            Self::Scanned { records, .. } => records.len(),
            Self::News { entries, .. } => entries.iter().map(|entry| entry.len()).sum(),
            _ => 0,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Scanned { records, .. } => AROUND_ENTRY + size(records),
            Self::News { entries, .. } => {
                3 * AROUND_ENTRY + entries.iter().map(|entry| AROUND_ENTRY + size(entry)).sum::<u64>()
            }
            _ => AROUND_ENTRY,
        }
    }
}

impl Store {
    pub fn new(entries: usize) -> Self {
        Self {
            entries,
            facts: Hash::default(),
            nodes: Hash::default(),
            stream: VecDeque::new(),
            last: 0,
            waiting: VecDeque::new(),
            busy_until: 0,
            link_free: 0,
            work: Vec::new(),
        }
    }

    /// Does what is asked. Returns the answers, to the one who asked and to those who waited.
    pub fn serve(&mut self, line: Line, request: Request, now: u64) -> Vec<Answer> {
        self.works(now, request.work());
        let reply = match request {
            Request::Connect => Reply::Connected,
            Request::Begin => Reply::Begun(self.last),
            Request::Beat(record) => {
                self.nodes.set(&record);
                Reply::Written
            }
            Request::Scan(from) => self.scan(from),
            Request::Read { after, nodes } => self.read(after, nodes),
            Request::Wait(after) if after < self.last => Reply::Awake,
            Request::Wait(_) => {
                self.waiting.push_back((now + LONGEST_WAIT, line));
                return Vec::new();
            }
            Request::Write(records) => {
                let mut answers = self.write(&records);
                answers.push(self.answer(line, Reply::Written));
                return answers;
            }
        };
        self.works(now, RECORD * reply.records() as u64);
        vec![self.answer(line, reply)]
    }

    /// Those who have waited long enough.
    pub fn patience_ends(&mut self, now: u64) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some((_, line)) = self.waiting.front().copied().filter(|(until, _)| *until <= now) {
            self.waiting.pop_front();
            self.works(now, COMMAND);
            answers.push(self.answer(line, Reply::Awake));
        }
        answers
    }

    pub fn next_patience(&self) -> Option<u64> {
        self.waiting.front().map(|(until, _)| *until)
    }

    fn scan(&self, from: usize) -> Reply {
        let (facts, nodes) = (&self.facts.records, &self.nodes.records);
        let records: Vec<_> = facts.iter().chain(nodes).skip(from).take(LARGEST_BATCH).cloned().collect();
        let to = from + records.len();
        Reply::Scanned { records, next: (to < facts.len() + nodes.len()).then_some(to) }
    }

    fn read(&self, after: u64, nodes: bool) -> Reply {
        let before_first = self.last - self.stream.len() as u64;
        if after <= before_first && !self.stream.is_empty() {
            return Reply::Trimmed;
        }
        let entries = self.stream.iter().skip((after - before_first) as usize).take(self.entries);
        let mut entries: Vec<_> = entries.cloned().collect();
        let last = after + entries.len() as u64;
        if nodes {
            entries.push(self.nodes.records.clone().into());
        }
        Reply::News { entries, last }
    }

    fn write(&mut self, records: &[Told]) -> Vec<Answer> {
        for record in records {
            self.facts.set(record);
        }
        for entry in records.chunks(IN_ONE_ENTRY) {
            self.stream.push_back(entry.into());
            self.last += 1;
        }
        let first = records.len().min(IN_ONE_ENTRY);
        let woken = size(&records[..first]) + 2 * AROUND_ENTRY;
        while self.stream.len() > LONGEST_NEWS {
            self.stream.pop_front();
        }
        let mut answers = Vec::with_capacity(self.waiting.len() + 1);
        while let Some((_, line)) = self.waiting.pop_front() {
            self.works(self.busy_until, WAKING + RECORD * first as u64);
            answers.push(self.answer_of(line, Reply::Awake, woken));
        }
        answers
    }

    fn answer(&mut self, to: Line, reply: Reply) -> Answer {
        let bytes = reply.bytes();
        self.answer_of(to, reply, bytes)
    }

    fn answer_of(&mut self, to: Line, reply: Reply, bytes: u64) -> Answer {
        let takes = (on_the_wire(bytes) as f64 * NANOSECONDS_A_BYTE) as u64;
        self.link_free = self.link_free.max(self.busy_until) + takes;
        Answer { to, reply, bytes, leaves: self.link_free }
    }

    fn works(&mut self, now: u64, nanoseconds: u64) {
        let begins = self.busy_until.max(now);
        self.busy_until = begins + nanoseconds;
        let second = (begins / SECOND) as usize;
        if self.work.len() <= second {
            self.work.resize(second + 1, 0);
        }
        self.work[second] += nanoseconds;
    }
}

fn size(records: &[Told]) -> u64 {
    let of = |record: &Told| record.name.len() as u64 + record.value.len() as u64 + AROUND_RECORD;
    records.iter().map(of).sum()
}

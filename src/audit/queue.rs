//! The bounded queue to the writing thread. Part of it is reserved for more important lines.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::line::{Event, Fields, Line};

/// The most lines in total.
pub const CAPACITY: usize = 8192;

/// The most lines that leave room for locks and changes of keys.
const SESSIONS: usize = 7168;

/// The most lines that leave room for those, and for log-ins and log-outs.
const ORDINARY: usize = 6144;

/// The most refused requests, which anyone can cause.
const REFUSED: usize = 2048;

/// This many are written without waiting for more.
const ENOUGH: usize = 1024;

/// Refused requests logged per second, plus a reserve, so that clients without a key can't fill the disk.
const REFUSED_A_SECOND: f64 = 10.0;

/// That reserve, in requests.
const RESERVE: f64 = 1000.0;

/// The queue, and the signals between its two ends.
#[derive(Default)]
pub struct Queue {
    inner: Mutex<Inner>,
    /// The writer has something to do.
    filled: Condvar,
    /// Something was written.
    written: Condvar,
}

#[derive(Default)]
struct Inner {
    lines: Vec<Line>,
    refused: usize,
    /// Where in `lines` a refusal like this one is.
    folded: HashMap<Fields, usize>,
    /// How many missing lines have not been reported yet.
    missing: BTreeMap<Event, u64>,
    dropped: u64,
    /// For refusals without a key, and for those with one.
    allowances: [Option<(f64, Instant)>; 2],
    /// Lines that were put in, and lines that were written or given up.
    told: u64,
    done: u64,
    wants_flush: bool,
    closed: bool,
    news: Option<String>,
}

/// What the writer has to do.
pub struct Work {
    /// New lines, in order.
    pub lines: Vec<Line>,
    /// How many lines are missing, by event.
    pub missing: BTreeMap<Event, u64>,
    /// Whether nothing else will come.
    pub closed: bool,
}

impl Queue {
    /// Adds a line, or counts it as missing. Refusals that are alike share a line.
    pub fn push(&self, line: Line) {
        let mut inner = self.lock();
        let is_refusal = matches!(line.event, Event::Refused | Event::RefusedForeign);
        if is_refusal && inner.fold(&line) {
            return;
        }
        let room = match line.event {
            Event::Refused | Event::RefusedForeign
                if inner.refused >= REFUSED || !inner.may_tell_of_a_refusal(&line) =>
            {
                0
            }
            Event::LogIn | Event::LogOut => SESSIONS,
            Event::Lock | Event::KeysRead | Event::KeyGone | Event::Started => CAPACITY,
            _ => ORDINARY,
        };
        if inner.lines.len() >= room || inner.closed {
            *inner.missing.entry(line.event).or_default() += 1;
            inner.dropped += 1;
            drop(inner);
            self.filled.notify_one();
            return;
        }
        if is_refusal {
            inner.refused += 1;
            let place = inner.lines.len();
            inner.folded.insert(likeness(&line), place);
        }
        inner.lines.push(line);
        inner.told += 1;
        let count = inner.lines.len();
        drop(inner);
        if count == 1 || count == ENOUGH {
            self.filled.notify_one(); // with any other count, nobody is waiting
        }
    }

    /// Waits until there is something to do, or `patience` is over.
    pub fn take(&self, patience: Duration) -> Work {
        let is_idle = |inner: &mut Inner| inner.lines.is_empty() && inner.missing.is_empty() && !inner.closed;
        let inner = self.lock();
        let waited = self.filled.wait_timeout_while(inner, patience, is_idle);
        let (mut inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.refused = 0;
        inner.folded.clear();
        Work { lines: mem::take(&mut inner.lines), missing: mem::take(&mut inner.missing), closed: inner.closed }
    }

    /// Waits so that lines can be written together, unless someone waits for them.
    pub fn gather(&self, time: Duration) {
        let is_patient = |inner: &mut Inner| !inner.closed && !inner.wants_flush && inner.lines.len() < ENOUGH;
        drop(self.filled.wait_timeout_while(self.lock(), time, is_patient));
    }

    /// Notes how many lines were written or given up.
    pub fn note(&self, lines: u64) {
        let mut inner = self.lock();
        inner.done += lines;
        if inner.done >= inner.told {
            inner.wants_flush = false;
        }
        drop(inner);
        self.written.notify_all();
    }

    /// Waits until everything in the queue is written, or `patience` is over. Returns whether it is.
    pub fn flush(&self, patience: Duration) -> bool {
        let mut inner = self.lock();
        let told = inner.told;
        inner.wants_flush = inner.done < told;
        self.filled.notify_all();
        let waited = self.written.wait_timeout_while(inner, patience, |inner| inner.done < told);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        inner.done >= told
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Accepts nothing more; what is in the queue is still written.
    pub fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// How many lines are missing since the start.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Leaves news for the server's log, replacing older news that nobody has read.
    pub fn say(&self, news: String) {
        self.lock().news = Some(news);
    }

    /// Takes the news.
    pub fn take_news(&self) -> Option<String> {
        self.lock().news.take()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether a refusal was added to the line of another that is not yet written.
    fn fold(&mut self, line: &Line) -> bool {
        let Some(&place) = self.folded.get(&likeness(line)) else { return false };
        if let Some(count) = &mut self.lines[place].fields.count {
            *count += line.fields.count.unwrap_or(1);
        }
        true
    }

    fn may_tell_of_a_refusal(&mut self, line: &Line) -> bool {
        let now = Instant::now();
        let allowance = &mut self.allowances[usize::from(line.fields.who.key.is_some())];
        let (left, since) = allowance.unwrap_or((RESERVE, now));
        let left = RESERVE.min(left + (now - since).as_secs_f64() * REFUSED_A_SECOND);
        *allowance = Some((if left < 1.0 { left } else { left - 1.0 }, now));
        left >= 1.0
    }
}

/// What refusals must have in common to share a line.
fn likeness(line: &Line) -> Fields {
    Fields { count: None, user_agent: None, traceparent: None, ..line.fields.clone() }
}

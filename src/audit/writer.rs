//! The writing thread.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use super::file::LogFile;
use super::line::{Event, Fields, Line};
use super::queue::{Queue, Work};
use super::unfinished;
use crate::request::millis;

/// How long to gather lines before writing them together.
const GATHERING: Duration = Duration::from_millis(100);

/// How long to wait after a failed write before the next try.
const RETRY: Duration = Duration::from_millis(500);

/// How long to wait for work. After that, the thread only checks whether it is still needed.
const IDLE: Duration = Duration::from_secs(3600);

/// The most bytes that wait here while the file can't be written to. More lines stay in the queue.
const MOST: usize = 4 * 1024 * 1024;

/// How much of an older log is read to find prompts that never ended, in bytes.
const LAST: u64 = 64 * 1024 * 1024;

pub struct Writer {
    queue: Arc<Queue>,
    file: LogFile,
    /// How many lines were taken, but not written yet.
    taken: u64,
    fails: bool,
}

impl Writer {
    pub fn new(queue: Arc<Queue>, file: LogFile) -> Self {
        Self { queue, file, taken: 0, fails: false }
    }

    pub fn run(mut self) {
        self.tell_what_is_unfinished();
        loop {
            let closed = if self.file.left() < MOST {
                let work = self.queue.take(if self.fails { RETRY } else { IDLE });
                let closed = work.closed;
                self.add(work);
                closed
            } else {
                thread::sleep(RETRY);
                self.queue.is_closed()
            };
            let outcome = self.file.write();
            if outcome.is_ok() {
                self.queue.note(std::mem::take(&mut self.taken));
            }
            let fails = outcome.is_err();
            self.say(outcome);
            if closed {
                self.queue.note(self.taken);
                return;
            }
            if !fails {
                self.queue.gather(GATHERING);
            } else if self.file.left() < MOST {
                thread::sleep(RETRY);
            }
        }
    }

    /// Not if other servers write to the same file: they may still run some of these prompts.
    fn tell_what_is_unfinished(&mut self) {
        if self.file.share()
            && let Ok(text) = self.file.last(LAST)
        {
            let mut lines = Vec::new();
            for line in unfinished::lines(&text, now()) {
                line.write(&mut lines);
            }
            self.file.add(&lines);
        }
    }

    fn add(&mut self, work: Work) {
        let mut text = Vec::new();
        self.taken += u64::try_from(work.lines.len()).unwrap_or(u64::MAX);
        for line in work.lines {
            line.write(&mut text);
        }
        for (kind, count) in work.missing {
            let fields = Fields { kind: Some(kind), count: Some(count), ..Fields::default() };
            Line::new(now(), Event::Dropped, fields).write(&mut text);
        }
        self.file.add(&text);
    }

    /// Reports a fault once when it begins, and once when it is over.
    fn say(&mut self, outcome: io::Result<()>) {
        let path = self.file.path().display();
        match outcome {
            Err(error) if !self.fails => {
                self.queue.say(format!(
                    "the audit log {path} cannot be written: {error}; lines are kept in memory while there is \
                     room, and lost lines are counted"
                ));
                self.fails = true;
            }
            Ok(()) if self.fails => {
                self.queue.say(format!("the audit log {path} is written again"));
                self.fails = false;
            }
            _ => {}
        }
    }
}

/// Milliseconds since 1970 (UTC).
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)
}

//! What people and programs did, one JSON object a line: `docs/audit.md`.
//!
//! Whoever has something to tell puts a [`Line`] into a bounded [queue] and goes on; a [thread](writer) of its own makes the
//! text and writes it. So a disk that is full or slow delays nothing.

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::error::ConfigError;

mod file;
mod line;
pub mod of_request;
mod queue;
mod unfinished;
mod writer;

pub use line::{Event, Fields, Line, Seconds, Who};
use queue::Queue;

/// An open audit log. Dropping it writes what is left.
pub struct Audit {
    queue: Arc<Queue>,
}

impl Audit {
    /// Opens the file, or makes it, and starts the thread.
    ///
    /// # Errors
    /// The file cannot be written to, or is no file.
    pub fn open(path: &Path) -> Result<Self, ConfigError> {
        let fault = |detail: String| ConfigError::new("audit", detail);
        let file = file::LogFile::open(path).map_err(fault)?;
        let queue = Arc::new(Queue::default());
        let writer = writer::Writer::new(Arc::clone(&queue), file);
        thread::Builder::new()
            .name("comfy-auth-audit".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| fault(format!("its thread cannot be started: {error}")))?;
        Ok(Self { queue })
    }

    /// Tells something. It never waits for the disk.
    pub fn tell(&self, line: Line) {
        self.queue.push(line);
    }

    /// What an operator should know of the file, if there is news: one line for the log.
    #[must_use]
    pub fn news(&self) -> Option<String> {
        self.queue.take_news()
    }

    /// How many lines are missing since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Has everything written that was told, for at most so long; whether that was done.
    #[must_use]
    pub fn flush(&self, patience: Duration) -> bool {
        self.queue.flush(patience)
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[cfg(test)]
#[path = "../../tests/units/audit.rs"]
mod tests;

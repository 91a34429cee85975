//! What people and programs did, one JSON object a line: `docs/audit.md`.
//!
//! Callers put a [`Line`] into a bounded [queue] and go on; a separate [thread](writer) formats and writes it. So a full
//! or slow disk delays nothing.

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
    /// The file can't be written to, or is not a regular file.
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

    /// Logs a line. Never waits for the disk.
    pub fn tell(&self, line: Line) {
        self.queue.push(line);
    }

    /// News about the file for the operator, as one line for the server's log.
    #[must_use]
    pub fn news(&self) -> Option<String> {
        self.queue.take_news()
    }

    /// How many lines are missing since the start.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    /// Waits until everything is written, or `patience` is over. Returns whether everything is written.
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

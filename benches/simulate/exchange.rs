//! What the exchange does, in numbers: those of `python/comfy_auth_rs/store/`. A test compares them.

use super::time::{MILLISECOND, SECOND};

pub const HEARTBEAT: u64 = 10 * SECOND;
pub const LONGEST_WAIT: u64 = SECOND;
pub const EVERYTHING_AFTER: u64 = 600 * SECOND;
pub const FIRST_PAUSE: u64 = 50 * MILLISECOND;
pub const LONGEST_PAUSE: u64 = SECOND;

/// How long one waits for a connection, and for an answer beyond a wait.
pub const CONNECT_TIMEOUT: u64 = SECOND;
pub const READ_TIMEOUT: u64 = SECOND;

pub const LARGEST_BATCH: usize = 1000;
pub const LONGEST_NEWS: usize = 2000;
pub const IN_ONE_ENTRY: usize = 32;

/// Bytes a second on the way to the store, bytes that may be saved up, and what a record costs besides its own.
pub const RATE: u64 = 700_000;
pub const MOST_SAVED: u64 = 250_000;
pub const AROUND: u64 = 200;

/// How long an answer to a log-out waits.
pub const ANSWER_WAITS: u64 = SECOND;

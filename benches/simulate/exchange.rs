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
pub const ENTRIES_AT_ONCE: usize = 250;
pub const NODES_AFTER: u64 = 10 * SECOND;

/// Bytes a second on the way to the store, bytes that may be saved up, and what a record costs besides its own.
pub const RATE: u64 = 700_000;
pub const MOST_SAVED: u64 = 250_000;
pub const AROUND: u64 = 200;

/// Most locks that leave in this time.
pub const MOST_LOCKS: u64 = 16_384;
pub const LOCKS_LAST: u64 = 900 * SECOND;

/// Between two batches of locks, and what a wait is longer than it has to be.
pub const GATHER: u64 = 200 * MILLISECOND;
pub const ROUNDED: u64 = MILLISECOND;

/// What might be otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Variation {
    /// How long a reader that was woken waits for more before it reads.
    pub breath: u64,
    /// How long a node gathers locks before it tells the next ones.
    pub gather: u64,
    /// How many locks a node tells at a time, at most.
    pub locks: usize,
    /// How many entries of the stream one read brings at most.
    pub entries: usize,
}

pub const AS_IS: Variation = Variation { breath: 0, gather: GATHER, locks: LARGEST_BATCH, entries: ENTRIES_AT_ONCE };

/// What more nodes would need.
pub const BREATHING: Variation = Variation { breath: 50 * MILLISECOND, ..AS_IS };

/// How long an answer to a log-out waits.
pub const ANSWER_WAITS: u64 = SECOND;

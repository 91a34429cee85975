//! The numbers that the exchange works with: those of `python/comfy_auth_rs/store/`. A test compares them.

use super::time::{MILLISECOND, SECOND};

pub const HEARTBEAT: u64 = 10 * SECOND;
pub const LONGEST_WAIT: u64 = SECOND;
pub const EVERYTHING_AFTER: u64 = 600 * SECOND;
pub const FIRST_PAUSE: u64 = 50 * MILLISECOND;
pub const LONGEST_PAUSE: u64 = SECOND;

/// How long to wait for a connection, and for an answer on top of the wait that was asked for.
pub const CONNECT_TIMEOUT: u64 = SECOND;
pub const READ_TIMEOUT: u64 = SECOND;

pub const LARGEST_BATCH: usize = 1000;
pub const LONGEST_NEWS: usize = 2000;
pub const IN_ONE_ENTRY: usize = 32;
pub const ENTRIES_AT_ONCE: usize = 250;
pub const NODES_AFTER: u64 = 10 * SECOND;

/// Bytes a second on the way to the store, how many bytes may be saved up, and the overhead of a record.
pub const RATE: u64 = 700_000;
pub const MOST_SAVED: u64 = 250_000;
pub const AROUND: u64 = 200;

/// The most locks that leave in this time.
pub const MOST_LOCKS: u64 = 16_384;
pub const LOCKS_LAST: u64 = 900 * SECOND;

/// The time between two batches of locks, and what each wait takes beyond the least possible.
pub const GATHER: u64 = 200 * MILLISECOND;
pub const ROUNDED: u64 = MILLISECOND;

/// What might be done differently.
#[derive(Debug, Clone, Copy)]
pub struct Variation {
    /// How long a reader that was woken waits for more before it reads.
    pub breath: u64,
    /// How long a node gathers locks before it tells the next ones.
    pub gather: u64,
    /// The most locks that a node tells at a time.
    pub locks: usize,
    /// The most entries of the stream that one read brings.
    pub entries: usize,
}

pub const AS_IS: Variation = Variation { breath: 0, gather: GATHER, locks: LARGEST_BATCH, entries: ENTRIES_AT_ONCE };

/// What a fleet of more nodes would need.
pub const BREATHING: Variation = Variation { breath: 50 * MILLISECOND, ..AS_IS };

/// How long an answer to a log-out waits.
pub const ANSWER_WAITS: u64 = SECOND;

//! What must hold whatever a client, an operator or a file says. One parser per file; `check` panics if it doesn't
//! hold.
//!
//! `fuzz_targets/` hands these to libFuzzer; `tests/fuzz_seeds.rs` runs them in `cargo test` on the seeds and on small
//! changes of them.

pub mod credentials;
pub mod exempt;
pub mod forwarded;
pub mod frames;
pub mod inject;
pub mod keys;
pub mod legible;
pub mod sessions;
pub mod state;

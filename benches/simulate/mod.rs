//! A fleet in one process: each node has the real state; the store and the network are simulated.

#![allow(
    dead_code,
    missing_docs,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::missing_panics_doc,
    clippy::must_use_candidate
)]

pub mod dice;
pub mod exchange;
pub mod fleet;
pub mod measure;
pub mod network;
pub mod node;
pub mod outbox;
pub mod report;
pub mod scenarios;
pub mod store;
pub mod time;

//! What is remembered from one request to the next.

mod generations;
pub mod limits;
pub mod log_outs;
mod network;
pub mod prompts;
pub mod sockets;
pub mod throttle;

/// All of it.
#[derive(Default)]
pub struct State {
    /// Sessions that were ended.
    pub log_outs: log_outs::LogOuts,
    /// Failed attempts.
    pub throttle: throttle::Throttle,
    /// How much each user has queued.
    pub limits: limits::Limits,
    /// Open WebSockets that need no credential.
    pub sockets: sockets::Sockets,
}

//! What is remembered from one request to the next.
//!
//! What other machines must know is shared as [facts](fact): see [`sharing`](State::merge).

pub mod changes;
pub mod fact;
mod generations;
pub mod limits;
pub mod log_outs;
pub mod network;
pub mod nodes;
pub mod prompts;
mod ranked;
pub mod revocations;
mod shared_locks;
mod sharing;
pub mod sockets;
pub mod store;
pub mod throttle;

use std::sync::Arc;

/// All of it, except revoked keys, which are in the [`KeyStore`](crate::keys::KeyStore).
pub struct State {
    /// Sessions that were ended.
    pub log_outs: log_outs::LogOuts,
    /// Failed attempts.
    pub throttle: throttle::Throttle,
    /// How much each user has queued.
    pub limits: limits::Limits,
    /// Open WebSockets that need no credential.
    pub sockets: sockets::Sockets,
    /// The machines that share the state.
    pub nodes: nodes::Nodes,
    /// Whether others can read it.
    pub store: store::Store,
    /// What must be shared with the other machines.
    pub changes: Arc<changes::Changes>,
}

impl Default for State {
    fn default() -> Self {
        let changes = Arc::<changes::Changes>::default();
        Self {
            log_outs: log_outs::LogOuts::new(Arc::clone(&changes)),
            throttle: throttle::Throttle::new(Arc::clone(&changes)),
            limits: limits::Limits::new(Arc::clone(&changes)),
            sockets: sockets::Sockets::default(),
            nodes: nodes::Nodes::default(),
            store: store::Store::default(),
            changes,
        }
    }
}

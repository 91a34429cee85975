//! Limits the open WebSockets without a credential, in total and per address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::network::Network;

/// The most of them in total.
pub const MAX: usize = 512;

/// The most from one address, except loopback, which may be a proxy of many clients.
pub const MAX_OF_ONE: usize = 32;

/// Counts them. Addresses count as one if they do in the throttle.
#[derive(Default)]
pub struct Sockets(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    all: usize,
    of: HashMap<Network, usize>,
}

/// Counts as an open socket until it is dropped.
pub struct Seat {
    counts: Arc<Mutex<Counts>>,
    network: Option<Network>,
}

impl Sockets {
    /// A seat for one more from `client`, which is `None` without an address. `None` if there is no room.
    #[must_use]
    pub fn enter(&self, client: Option<IpAddr>) -> Option<Seat> {
        let network = client.filter(|client| !client.to_canonical().is_loopback()).map(Network::from);
        let mut counts = lock(&self.0);
        let of_one = network.map_or(0, |network| counts.of.get(&network).copied().unwrap_or(0));
        if counts.all >= MAX || of_one >= MAX_OF_ONE {
            return None;
        }
        counts.all += 1;
        if let Some(network) = network {
            counts.of.insert(network, of_one + 1);
        }
        Some(Seat { counts: Arc::clone(&self.0), network })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        counts.all -= 1;
        if let Some(network) = self.network
            && let Some(count) = counts.of.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                counts.of.remove(&network);
            }
        }
    }
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "../../tests/units/state_sockets.rs"]
mod tests;

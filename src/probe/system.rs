//! RAM, which is also the GPU's memory on Apple silicon and on NVIDIA's unified-memory systems.

use std::sync::{LazyLock, Mutex, PoisonError};

use sysinfo::{MemoryRefreshKind, System};

/// Kept, because a new one also reads what the processors did since the start, which costs more than the memory.
static SYSTEM: LazyLock<Mutex<System>> = LazyLock::new(|| Mutex::new(System::new()));

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: u64,
    /// What can be allocated without swapping; includes caches that the kernel would drop.
    pub(super) free: u64,
}

/// RAM as this process may use it: in a container with a memory limit, only up to that limit. Zeros if the system
/// doesn't say.
pub(super) fn memory() -> Memory {
    let mut system = SYSTEM.lock().unwrap_or_else(PoisonError::into_inner);
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let machine = Memory { total: system.total_memory(), free: system.available_memory() };
    if machine.total == 0 {
        return machine; // sysinfo's cgroup_limits() would panic
    }
    match system.cgroup_limits() {
        Some(cgroup) => machine.within(cgroup.total_memory, cgroup.rss),
        None => machine,
    }
}

impl Memory {
    /// The part of it that a cgroup with this limit and this resident memory can still use.
    ///
    /// The cgroup's own "current" would be the wrong measure: it counts the page cache, which a server that has just read
    /// its models fills to the limit, and which the kernel gives back when asked.
    fn within(self, limit: u64, resident: u64) -> Self {
        let total = self.total.min(limit);
        Self { total, free: self.free.min(total.saturating_sub(resident)) }
    }
}

#[cfg(test)]
#[path = "../../tests/units/probe_system.rs"]
mod tests;

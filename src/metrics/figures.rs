//! Figures that are looked up when Prometheus asks.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::labels::{MOST, OTHER, cut};
use crate::keys::{FileStatus, Keys};
use crate::probe::Device;
use crate::request::Now;
use crate::state::throttle::Locks;

/// The state of a server at one moment.
#[derive(Debug, Default)]
pub struct Figures {
    /// Locks of addresses.
    pub locks: Locks,
    /// Keys that have not expired.
    pub keys_in_force: usize,
    /// When keys expire, by label, in seconds since 1970 (UTC). Of keys with the same label, the one that expires
    /// first.
    pub ends: Vec<(String, u64)>,
    /// Every key file.
    pub files: Arc<Vec<FileStatus>>,
    /// How many keys of each file were revoked elsewhere, but have not expired in it.
    pub revoked: Vec<usize>,
    /// Open WebSockets.
    pub sockets: Sockets,
    /// If the state has a store: whether it can be used, and how many servers share it.
    pub store: Option<(bool, usize)>,
    /// How many lines are missing in the audit log, if there is one.
    pub audit_lines_dropped: Option<u64>,
    /// How long prompts ran, by the labels of their keys.
    pub prompt_times: Vec<(String, Duration)>,
    /// Prompts, if the server has a queue.
    pub queue: Option<Queue>,
    /// The last known figures of each device.
    pub devices: Arc<[Device]>,
    /// How old they are.
    pub devices_age: Duration,
}

/// How many WebSockets are open.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sockets {
    /// Those opened with a credential.
    pub with_credential: usize,
    /// Those opened without one.
    pub without: usize,
}

/// How many prompts are in the queue.
#[derive(Debug, Clone, Copy)]
pub struct Queue {
    /// Those waiting.
    pub pending: u64,
    /// Those running.
    pub running: u64,
}

impl Figures {
    /// Looks at the keys. If there are more than [`MOST`] labels, those that expire first get a figure each.
    pub fn look_at(&mut self, keys: &Keys, now: Now) {
        self.keys_in_force = keys.in_force(now);
        let in_force = |file: &FileStatus| file.revoked.iter().filter(|end| **end > now.latest()).count();
        self.revoked = self.files.iter().map(in_force).collect();
        let mut first: HashMap<&str, u64> = HashMap::new();
        for (label, end) in keys.ends(now) {
            let known = first.entry(cut(label)).or_insert(end);
            *known = end.min(*known);
        }
        let mut first: Vec<_> = first.into_iter().collect();
        first.sort_unstable_by_key(|&(label, end)| (end, label));
        self.ends = first.iter().take(MOST).map(|&(label, end)| (label.to_owned(), end)).collect();
        if let Some(&(_, end)) = first.get(MOST)
            && self.ends.iter().all(|(label, _)| label != OTHER)
        {
            self.ends.push((OTHER.to_owned(), end));
        }
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_events(&mut encoder)?;
        self.encode_keys(&mut encoder)?;
        self.encode_files(&mut encoder)?;
        self.encode_connections(&mut encoder)?;
        self.encode_devices(&mut encoder)
    }
}

impl Figures {
    fn encode_events(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Times that an address was locked because of wrong keys.";
        let begun = encoder.encode_descriptor("locks", help, None, MetricType::Counter)?;
        ConstCounter::new(self.locks.begun).encode(begun)?;
        let help = "Addresses that are locked now.";
        gauge(self.locks.in_force, encoder.encode_descriptor("locked_addresses", help, None, MetricType::Gauge)?)?;
        self.encode_store(encoder)?;
        let Some(dropped) = self.audit_lines_dropped else { return Ok(()) };
        let help = "Lines that are missing in the audit log because the disk was full or slow, or requests were refused too fast.";
        let lines = encoder.encode_descriptor("audit_lines_dropped", help, None, MetricType::Counter)?;
        ConstCounter::new(dropped).encode(lines)
    }

    fn encode_store(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some((is_there, servers)) = self.store else { return Ok(()) };
        let help = "1 while the store of the state can be read and written; else 0.";
        gauge(u8::from(is_there), encoder.encode_descriptor("state_up", help, None, MetricType::Gauge)?)?;
        let help = "Servers that share the state, as far as this one knows; it is one of them.";
        gauge(servers, encoder.encode_descriptor("state_servers", help, None, MetricType::Gauge)?)
    }

    fn encode_keys(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Keys that are accepted now.";
        gauge(self.keys_in_force, encoder.encode_descriptor("keys_in_force", help, None, MetricType::Gauge)?)?;
        let help = "When a key ends, by its label, in seconds since 1970; the first of several keys of one label.";
        let mut ends =
            encoder.encode_descriptor("key_expires_timestamp", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        self.ends.iter().try_for_each(|(label, end)| of(&mut ends, &[("key_label", label)], *end))
    }

    fn encode_files(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help =
            "1 while a key file cannot be read or has a fault, so that the keys read before stay in force; else 0.";
        let mut failed = encoder.encode_descriptor("key_file_failed", help, None, MetricType::Gauge)?;
        for file in self.files.iter() {
            of(&mut failed, &[("file", &*file.path.to_string_lossy())], u8::from(file.failed))?;
        }
        let help = "Keys of a file that were revoked elsewhere. They are refused; remove their lines.";
        let mut revoked = encoder.encode_descriptor("key_file_revoked_keys", help, None, MetricType::Gauge)?;
        for (file, keys) in self.files.iter().zip(&self.revoked) {
            of(&mut revoked, &[("file", &*file.path.to_string_lossy())], *keys)?;
        }
        let help = "When the version of a key file that is in force was written, in seconds since 1970.";
        let mut modified =
            encoder.encode_descriptor("key_file_modified_timestamp", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for file in self.files.iter() {
            let since = file.modified.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
            if let Some(since) = since {
                of(&mut modified, &[("file", &*file.path.to_string_lossy())], since.as_secs())?;
            }
        }
        Ok(())
    }

    fn encode_connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Open WebSockets, by whether they were opened with a credential.";
        let mut sockets = encoder.encode_descriptor("open_websockets", help, None, MetricType::Gauge)?;
        of(&mut sockets, &[("credential", "yes")], self.sockets.with_credential)?;
        of(&mut sockets, &[("credential", "no")], self.sockets.without)?;
        self.encode_prompts(encoder)
    }

    fn encode_prompts(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if !self.prompt_times.is_empty() {
            let help = "Seconds that prompts ran, and run, by the label of the key that queued them.";
            let mut times = encoder.encode_descriptor("prompt", help, Some(&Unit::Seconds), MetricType::Counter)?;
            for (label, time) in &self.prompt_times {
                let labels = [("key_label", &**label)];
                ConstCounter::new(time.as_secs_f64()).encode(times.encode_family(&labels)?)?;
            }
        }
        let Some(queue) = self.queue else { return Ok(()) };
        let help = "Prompts that wait in the queue, and those that are executed.";
        let mut prompts = encoder.encode_descriptor("queue_prompts", help, None, MetricType::Gauge)?;
        of(&mut prompts, &[("state", "pending")], queue.pending)?;
        of(&mut prompts, &[("state", "running")], queue.running)
    }

    fn encode_devices(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Bytes = fn(&Device) -> u64;
        let both: [(&str, &str, Bytes); 2] = [
            ("device_memory", "Memory of a device.", |device| device.total),
            ("device_memory_free", "Memory of a device that could be allocated when it was asked last.", |device| {
                device.free
            }),
        ];
        for (name, help, bytes) in both {
            let mut memory = encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
            for device in &*self.devices {
                let index = device.index.map(|index| index.to_string()).unwrap_or_default();
                let labels = [("index", &*index), ("name", &*device.name), ("type", device.kind.as_str())];
                of(&mut memory, &labels, bytes(device))?;
            }
        }
        let help = "How long ago the devices told these figures: nobody waits for a driver.";
        let age = encoder.encode_descriptor("device_memory_age", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(self.devices_age.as_secs_f64()).encode(age)
    }
}

fn gauge(value: impl TryInto<i64>, encoder: MetricEncoder<'_>) -> fmt::Result {
    ConstGauge::new(value.try_into().unwrap_or(i64::MAX)).encode(encoder)
}

fn of<L>(family: &mut MetricEncoder<'_>, labels: &L, value: impl TryInto<i64>) -> fmt::Result
where
    L: EncodeLabelSet,
{
    gauge(value, family.encode_family(labels)?)
}

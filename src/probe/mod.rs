//! Devices and their memory, read from the drivers themselves: no torch, no CUDA context.
//!
//! | order | devices | source |
//! | --- | --- | --- |
//! | 1 | NVIDIA cards | NVML (`nvml.rs`) |
//! | 2 | AMD cards, where NVML knows of no card | the kernel's sysfs (`amd.rs`) |
//! | 3 | Apple's GPU | the memory it shares with the CPU (`system.rs`) |
//! | 4 | the CPU, always | RAM (`system.rs`) |
//!
//! AMD cards beside NVIDIA ones are left out, hidden or not: a build of torch serves one vendor, and the usual pair is an
//! RTX card with a Ryzen's built-in GPU.
//!
//! An `index` counts as CUDA and HIP count, if they count in PCI order. CUDA's default is fastest first
//! (`CUDA_DEVICE_ORDER`), which NVML doesn't know: if you know a card's UUID, look it up by that.

mod amd;
mod nvml;
mod sampler;
mod system;
mod visible;

use std::env;
use std::path::PathBuf;

pub use sampler::{CACHE_TIME, FLIGHT_TIME, NoSample, Sample, Sampler};

/// One device and its memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The driver's product name; `mps` and `cpu` for those two.
    pub name: String,
    /// Which backend of torch drives it.
    pub kind: DeviceKind,
    /// Its place among the visible cards, from 0; `None` for `mps` and `cpu`.
    pub index: Option<u32>,
    /// `GPU-…` or `MIG-…` as `nvidia-smi -L` prints it, `GPU-…` as `rocminfo` does, where the card has one.
    pub uuid: Option<String>,
    /// Bytes installed.
    pub total: u64,
    /// Bytes that could be allocated now, by any process.
    pub free: u64,
}

/// The backends of torch that the probe tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// NVIDIA.
    Cuda,
    /// AMD. Its torch device is called `cuda` too.
    Rocm,
    /// Apple's Metal Performance Shaders.
    Mps,
    /// No accelerator.
    Cpu,
}

impl DeviceKind {
    /// The name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::Rocm => "rocm",
            Self::Mps => "mps",
            Self::Cpu => "cpu",
        }
    }
}

/// What the probe reads from its environment.
///
/// Take it once, at start: CUDA and HIP too read these variables once, and reading the environment while another thread
/// writes to it is a data race in C.
#[derive(Debug, Clone)]
pub struct Environment {
    /// `CUDA_VISIBLE_DEVICES`, which HIP reads as well.
    pub cuda_visible_devices: Option<String>,
    /// `HIP_VISIBLE_DEVICES`.
    pub hip_visible_devices: Option<String>,
    /// `ROCR_VISIBLE_DEVICES`.
    pub rocr_visible_devices: Option<String>,
    /// Where sysfs is mounted.
    pub sys: PathBuf,
}

impl Environment {
    /// This process's own.
    #[must_use]
    pub fn from_process() -> Self {
        let variable = |name| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            cuda_visible_devices: variable("CUDA_VISIBLE_DEVICES"),
            hip_visible_devices: variable("HIP_VISIBLE_DEVICES"),
            rocr_visible_devices: variable("ROCR_VISIBLE_DEVICES"),
            sys: PathBuf::from("/sys"),
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In the order of the table above; the CPU is always there, and last.
    pub devices: Vec<Device>,
    /// What went wrong on the way, a line each: a card that fell off the bus, a driver that doesn't match its library.
    pub faults: Vec<String>,
}

/// Asks the drivers. Takes milliseconds, or seconds if a driver must first wake a card, or forever if one hangs:
/// on a server, go through a [`Sampler`].
#[must_use]
pub fn probe(environment: &Environment) -> Report {
    let mut faults = Vec::new();
    let cuda = environment.cuda_visible_devices.as_deref();
    let mut devices = nvml::devices(cuda, &mut faults).unwrap_or_else(|| amd::devices(environment));
    devices.extend(system_devices());
    Report { devices, faults }
}

/// [`probe`] in this process's own environment, without the faults.
#[must_use]
pub fn probe_devices() -> Vec<Device> {
    probe(&Environment::from_process()).devices
}

/// The devices that need no driver: Apple's GPU and the CPU. To show while a driver hangs that never answered before.
#[must_use]
pub fn system_devices() -> Vec<Device> {
    let memory = system::memory();
    let device = |kind: DeviceKind| Device {
        name: kind.as_str().to_owned(),
        kind,
        index: None,
        uuid: None,
        total: memory.total,
        free: memory.free,
    };
    let apple = cfg!(all(target_os = "macos", target_arch = "aarch64"));
    apple.then(|| device(DeviceKind::Mps)).into_iter().chain([device(DeviceKind::Cpu)]).collect()
}

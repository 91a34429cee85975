//! NVIDIA cards, from the driver's management library.
//!
//! NVML is initialised for each probe and shut down after it. That costs a few milliseconds, with a
//! [`Sampler`](super::Sampler) at most once a second, but no state can go stale: a driver can be replaced while the server
//! runs, a card that is plugged in or partitioned is seen, a forked worker has none of its parent's handles, and a probe
//! that hangs holds no lock that another one needs.
//!
//! [NVML API reference](https://docs.nvidia.com/deploy/nvml-api/index.html)

use std::ffi::OsStr;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device as Card, Nvml};

use super::system::{self, Memory};
use super::visible::{self, Pick};
use super::{Device, DeviceKind};

/// The library's names, the best first. The second is a developer's symlink, but the only name on some systems.
const LIBRARIES: &[&str] = if cfg!(windows) {
    &["nvml.dll"]
} else if cfg!(target_os = "macos") {
    &[]
} else {
    &["libnvidia-ml.so.1", "libnvidia-ml.so"]
};

/// The visible NVIDIA cards; `None` where NVML knows of no card at all.
///
/// A card that can't be reached isn't counted, because CUDA can't reach it either. One whose memory can't be read keeps its
/// number and is left out. `faults` reports both. A missing library is not a fault: most machines have no such cards.
pub(super) fn devices(list: Option<&str>, faults: &mut Vec<String>) -> Option<Vec<Device>> {
    let mut fault = |what: &str, error: NvmlError| faults.push(format!("NVML: {what}: {error}"));
    let nvml = open().map_err(|error| fault("start", error)).ok()??;
    let count = nvml.device_count().map_err(|error| fault("number of cards", error)).ok()?;
    if count == 0 {
        return None;
    }

    let mut cards = Vec::new();
    for number in 0..count {
        match nvml.device_by_index(number) {
            Ok(card) => cards.push(card),
            Err(error) => fault(&format!("card {number}"), error),
        }
    }
    let uuids: Vec<_> = cards.iter().map(|card| card.uuid().unwrap_or_default()).collect();

    let mut devices = Vec::new();
    for (index, card) in (0..).zip(shown(&nvml, cards, visible::cuda(list, &uuids))) {
        match memory(&card) {
            Ok(Memory { total, free }) => devices.push(Device {
                name: card.name().unwrap_or_else(|_| "NVIDIA GPU".to_owned()),
                kind: DeviceKind::Cuda,
                index: Some(index),
                uuid: card.uuid().ok(),
                total,
                free,
            }),
            Err(error) => {
                let name = card.uuid().unwrap_or_else(|_| format!("visible card {index}"));
                fault(&format!("memory of {name}"), error);
            }
        }
    }
    Some(devices)
}

/// NVML, initialised; `None` where it isn't installed.
fn open() -> Result<Option<Nvml>, NvmlError> {
    for name in LIBRARIES {
        match Nvml::builder().lib_path(OsStr::new(name)).init() {
            // Only the loader's message tells a missing file from a broken one, and Windows has no such message.
            Err(NvmlError::LibloadingError(error)) if cfg!(windows) || error.to_string().contains("No such file") => {}
            outcome => return outcome.map(Some),
        }
    }
    Ok(None)
}

/// What CUDA shows of the picked cards: all of them, or, as soon as one is partitioned, its first MIG instance and nothing
/// else ("[CUDA device enumeration][1]").
///
/// [1]: https://docs.nvidia.com/datacenter/tesla/mig-user-guide/mig-device-names.html
fn shown<'nvml>(nvml: &'nvml Nvml, cards: Vec<Card<'nvml>>, picks: Vec<Pick<'_>>) -> Vec<Card<'nvml>> {
    let mut cards: Vec<_> = cards.into_iter().map(Some).collect();
    let mut whole = Vec::new();
    for pick in picks {
        let card = match pick {
            Pick::Card(place) => cards[place].take(),
            Pick::Instance(id) => return nvml.device_by_uuid(id).into_iter().collect(),
        };
        if let Some(instance) = card.as_ref().and_then(first_instance) {
            return vec![instance];
        }
        whole.extend(card);
    }
    whole
}

/// The first MIG instance of a card that has any.
fn first_instance<'nvml>(card: &Card<'nvml>) -> Option<Card<'nvml>> {
    let most = card.mig_device_count().ok()?;
    (0..most).find_map(|place| card.mig_device_by_index(place).ok())
}

/// A card's memory. Total is all that is installed, so slightly more than CUDA's figure, which leaves out what the driver
/// reserves.
///
/// Cards that share the CPU's memory (GB10, Jetson) have none of their own to report: NVML answers "not supported", or
/// zeros, and RAM is the honest figure, as in [nvtop](https://github.com/Syllo/nvtop/pull/411).
fn memory(card: &Card<'_>) -> Result<Memory, NvmlError> {
    match card.memory_info() {
        Ok(info) if info.total > 0 => Ok(Memory { total: info.total, free: info.free }),
        Ok(_) | Err(NvmlError::NotSupported) => Ok(system::memory()),
        Err(error) => Err(error),
    }
}

//! AMD cards, from the files that the `amdgpu` kernel driver keeps in sysfs.
//!
//! `mem_info_vram_total`, `mem_info_vram_used` (bytes), `product_name` (certain server cards only) and `unique_id` (none on
//! older cards) are described in the [kernel's documentation][1]. For a built-in GPU these are the bytes that the firmware
//! set aside, not what it can borrow from RAM.
//!
//! HIP counts in the order of the kernel's compute nodes, which is that of the card numbers on every machine that we know
//! of; a UUID is the surer way.
//!
//! [1]: https://docs.kernel.org/gpu/amdgpu/driver-misc.html

use std::fs;
use std::path::{Path, PathBuf};

use super::{Device, DeviceKind, Environment, visible};

/// AMD's PCI vendor number.
const VENDOR: &str = "0x1002";

/// The visible AMD cards. Anything incomplete is skipped: on most machines sysfs shows other cards, or none.
pub(super) fn devices(environment: &Environment) -> Vec<Device> {
    let cards: Vec<_> = folders(&environment.sys).iter().filter_map(|folder| card(folder)).collect();
    let uuids: Vec<_> = cards.iter().map(|card| card.uuid.clone().unwrap_or_default()).collect();
    let shown = visible::hip(
        environment.rocr_visible_devices.as_deref(),
        environment.hip_visible_devices.as_deref(),
        environment.cuda_visible_devices.as_deref(),
        &uuids,
    );
    (0..).zip(shown).map(|(index, place)| Device { index: Some(index), ..cards[place].clone() }).collect()
}

/// The device folders of `card0`, `card1`, … in the order of their numbers, each device once. `card0-HDMI-A-1` is a
/// connector.
fn folders(sys: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(sys.join("class/drm")) else {
        return Vec::new();
    };
    let mut cards: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix("card")?.parse().ok()?;
            Some((number, fs::canonicalize(entry.path().join("device")).ok()?))
        })
        .collect();
    cards.sort();
    let mut folders: Vec<PathBuf> = Vec::new();
    for (_, folder) in cards {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// The card in this folder, if it is AMD's and its memory is known.
fn card(folder: &Path) -> Option<Device> {
    let read = |file: &str| {
        let text = fs::read_to_string(folder.join(file)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    if read("vendor")? != VENDOR {
        return None;
    }
    let total = read("mem_info_vram_total")?.parse().ok().filter(|&bytes: &u64| bytes > 0)?;
    let used: u64 = read("mem_info_vram_used")?.parse().ok()?;
    // ROCm's form: https://rocm.docs.amd.com/en/latest/conceptual/gpu-isolation.html
    let unique_id = read("unique_id").and_then(|id| u64::from_str_radix(&id, 16).ok()).filter(|&id| id != 0);
    let model = || format!("AMD GPU {}", read("device").unwrap_or_default()).trim_end().to_owned();
    Some(Device {
        name: read("product_name").unwrap_or_else(model),
        kind: DeviceKind::Rocm,
        index: None,
        uuid: unique_id.map(|id| format!("GPU-{id:016x}")),
        total,
        free: total.saturating_sub(used),
    })
}

//! Which cards the `…_VISIBLE_DEVICES` variables leave visible, and in which order.
//!
//! Three runtimes, three dialects. In all of them the list ends at its first invalid entry.
//!
//! | | CUDA | ROCR | HIP |
//! | --- | --- | --- | --- |
//! | unset | all | all | `CUDA_VISIBLE_DEVICES`, else all |
//! | empty | none | none | as if unset |
//! | `GPU-…` | a unique prefix | a unique prefix, any case | the first card whose UUID contains it |
//! | spaces around | ignored | ignored | invalid |
//! | text after a number | ignored | invalid | invalid |
//! | an entry twice | no cards at all | ends the list | skipped |
//!
//! Sources: [CUDA][1] (the last two rows aren't documented: they are as torch found them, `torch.cuda._parse_visible_devices`),
//! `BuildUsrDeviceList` in ROCR-Runtime's `amd_filter_device.cpp`, `Device::init` in `ROCm`'s clr (`rocdevice.cpp`).
//!
//! [1]: https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html

/// What an entry of `CUDA_VISIBLE_DEVICES` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pick<'a> {
    /// A card, by its place in NVML's order.
    Card(usize),
    /// A `MIG-…` identifier, which only NVML can look up.
    Instance(&'a str),
}

/// The cards with these UUIDs that `list`, the value of `CUDA_VISIBLE_DEVICES`, leaves visible.
///
/// A list holds numbers, or card UUIDs, or MIG identifiers: its first entry says which.
pub(super) fn cuda<'a>(list: Option<&'a str>, uuids: &[String]) -> Vec<Pick<'a>> {
    let Some(list) = list else {
        return (0..uuids.len()).map(Pick::Card).collect();
    };
    let list = list.trim_start();
    let picks: Vec<_> = list
        .split(',')
        .map(str::trim)
        .map_while(|entry| {
            if list.starts_with("MIG-") {
                entry.starts_with("MIG-").then_some(Pick::Instance(entry))
            } else if list.starts_with("GPU-") {
                by_prefix(entry, uuids).map(Pick::Card)
            } else {
                leading_number(entry).filter(|&card| card < uuids.len()).map(Pick::Card)
            }
        })
        .collect();
    let repeated = (1..picks.len()).any(|place| picks[..place].contains(&picks[place]));
    if repeated { Vec::new() } else { picks }
}

/// The cards with these UUIDs that HIP shows. ROCR's own list applies first.
pub(super) fn hip(
    rocr_list: Option<&str>,
    hip_list: Option<&str>,
    cuda_list: Option<&str>,
    uuids: &[String],
) -> Vec<usize> {
    let cards = match rocr_list {
        None => (0..uuids.len()).collect(),
        Some(list) => rocr(list, uuids),
    };
    let given = |list: &&str| !list.is_empty();
    let Some(list) = hip_list.filter(given).or(cuda_list.filter(given)) else {
        return cards;
    };
    let mut shown = Vec::new();
    for entry in list.split(',') {
        let place = if entry.contains("GPU-") {
            cards.iter().position(|&card| uuids[card].contains(entry))
        } else {
            entry.parse().ok().filter(|number: &usize| number.to_string() == entry)
        };
        match place.and_then(|place| cards.get(place)) {
            Some(card) if shown.contains(card) => {}
            Some(&card) => shown.push(card),
            None => break,
        }
    }
    shown
}

fn rocr(list: &str, uuids: &[String]) -> Vec<usize> {
    let uuids: Vec<_> = uuids.iter().map(|uuid| uuid.to_ascii_uppercase()).collect();
    let mut cards = Vec::new();
    for entry in list.split(',') {
        let entry = entry.trim().to_ascii_uppercase();
        let card = if entry.starts_with('G') {
            by_prefix(&entry, &uuids)
        } else {
            entry.parse().ok().filter(|&card| card < uuids.len())
        };
        match card {
            Some(card) if !cards.contains(&card) => cards.push(card),
            _ => break,
        }
    }
    cards
}

/// The one card whose UUID begins like this.
fn by_prefix(prefix: &str, uuids: &[String]) -> Option<usize> {
    let mut found = (0..uuids.len()).filter(|&card| uuids[card].starts_with(prefix));
    found.next().filter(|_| prefix.starts_with("GPU-") && found.next().is_none())
}

/// As C's `strtol` reads it: `1gpu` is 1, `+1` too, `-0` is 0.
fn leading_number(entry: &str) -> Option<usize> {
    let end = entry.char_indices().find(|&(at, c)| !(c.is_ascii_digit() || at == 0 && "+-".contains(c)));
    let number: i64 = entry[..end.map_or(entry.len(), |(at, _)| at)].parse().ok()?;
    usize::try_from(number).ok()
}

#[cfg(test)]
#[path = "../../tests/units/probe_visible.rs"]
mod tests;

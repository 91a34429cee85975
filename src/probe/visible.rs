//! Which cards the `…_VISIBLE_DEVICES` variables leave, and in which order.
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

/// The cards that `list`, the value of `CUDA_VISIBLE_DEVICES`, leaves of those with these UUIDs.
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

/// The cards that HIP shows of those with these UUIDs, ROCR's own list having gone first.
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
mod tests {
    use proptest::prelude::*;

    use super::Pick::{Card, Instance};
    use super::*;

    fn nvidia() -> Vec<String> {
        ["GPU-aa11", "GPU-aa22", "GPU-bb33", "GPU-cc44"].map(str::to_owned).to_vec()
    }

    /// The card without an identifier is one whose kernel driver reports none.
    fn amd() -> Vec<String> {
        ["GPU-00000000000000aa", "GPU-00000000000000ab", "", "GPU-00000000000000cc"].map(str::to_owned).to_vec()
    }

    #[test]
    fn cuda_visible_devices() {
        let all: &[_] = &[Card(0), Card(1), Card(2), Card(3)];
        let cases: &[(&str, Option<&str>, &[Pick<'_>])] = &[
            ("unset", None, all),
            ("empty", Some(""), &[]),
            ("blank", Some(" "), &[]),
            ("minus one", Some("-1"), &[]),
            ("one", Some("2"), &[Card(2)]),
            ("order kept", Some("2,0"), &[Card(2), Card(0)]),
            ("spaces", Some(" 2 , 0 "), &[Card(2), Card(0)]),
            ("ends at a negative index", Some("0,2,-1,1"), &[Card(0), Card(2)]),
            ("ends at an index out of range", Some("0,4,1"), &[Card(0)]),
            ("ends at a huge index", Some("0,99999999999999999999,1"), &[Card(0)]),
            ("ends at an empty entry", Some("0,,1"), &[Card(0)]),
            ("trailing comma", Some("0,1,"), &[Card(0), Card(1)]),
            ("leading comma", Some(",0"), &[]),
            ("word", Some("none"), &[]),
            ("NoDevFiles, as CUDA's own scripts set it", Some("NoDevFiles"), &[]),
            ("text after a number", Some("1gpu2,2ampere"), &[Card(1), Card(2)]),
            ("signs", Some("2,+3,-0"), &[Card(2), Card(3), Card(0)]),
            ("sign alone", Some("+"), &[]),
            ("twice", Some("0,1,0"), &[]),
            ("not ASCII", Some("1،2,²"), &[Card(1)]),
            ("UUID", Some("GPU-bb33"), &[Card(2)]),
            ("UUIDs, order kept", Some("GPU-cc44, GPU-aa11"), &[Card(3), Card(0)]),
            ("unique prefix", Some("GPU-b,GPU-aa2"), &[Card(2), Card(1)]),
            ("ambiguous prefix", Some("GPU-aa"), &[]),
            ("ends at an ambiguous prefix", Some("GPU-b,GPU-aa,GPU-c"), &[Card(2)]),
            ("UUID of another machine", Some("GPU-dd55"), &[]),
            ("longer than any UUID", Some("GPU-aa11-1"), &[]),
            ("wrong case", Some("gpu-bb33"), &[]),
            ("one card by two prefixes", Some("GPU-b,GPU-bb33"), &[]),
            ("UUIDs end at an index", Some("GPU-b,0"), &[Card(2)]),
            ("indexes end at a UUID", Some("0,GPU-b"), &[Card(0)]),
            ("MIG", Some("MIG-1,MIG-2"), &[Instance("MIG-1"), Instance("MIG-2")]),
            ("MIG, older form", Some("MIG-GPU-aa11/1/0"), &[Instance("MIG-GPU-aa11/1/0")]),
            ("MIGs end at anything else", Some("MIG-1,GPU-b"), &[Instance("MIG-1")]),
        ];
        for (name, list, expected) in cases {
            assert_eq!(cuda(*list, &nvidia()), *expected, "{name}");
        }
    }

    #[test]
    fn uuid_prefix_of_the_only_card() {
        assert_eq!(cuda(Some("GPU-"), &nvidia()[..1]), [Card(0)]);
        assert_eq!(cuda(Some("GPU-"), &[]), []);
        assert_eq!(cuda(Some("GPU-"), &[String::new()]), []);
    }

    #[test]
    fn rocr_visible_devices() {
        let cases: &[(&str, Option<&str>, &[usize])] = &[
            ("unset", None, &[0, 1, 2, 3]),
            ("empty", Some(""), &[]),
            ("order kept", Some("3, 0"), &[3, 0]),
            ("ends out of range", Some("1,4,0"), &[1]),
            ("ends at minus one", Some("1,-1,0"), &[1]),
            ("ends at text after a number", Some("1,0x"), &[1]),
            ("twice ends", Some("1,2,1,0"), &[1, 2]),
            ("UUID", Some("GPU-00000000000000cc,0"), &[3, 0]),
            ("UUID in capitals", Some("gpu-00000000000000AB"), &[1]),
            ("ambiguous prefix", Some("GPU-00000000000000a"), &[]),
        ];
        for (name, list, expected) in cases {
            assert_eq!(hip(*list, None, None, &amd()), *expected, "{name}");
        }
    }

    #[test]
    fn hip_visible_devices() {
        let cases: [(_, [Option<&str>; 3], &[usize]); 14] = [
            ("order kept", [None, Some("3,0"), None], &[3, 0]),
            ("empty is unset", [None, Some(""), None], &[0, 1, 2, 3]),
            ("minus one", [None, Some("-1"), None], &[]),
            ("ends at a space", [None, Some("3, 0"), None], &[3]),
            ("ends at another spelling", [None, Some("1,00"), None], &[1]),
            ("ends out of range", [None, Some("1,4,0"), None], &[1]),
            ("twice is skipped", [None, Some("1,1,0"), None], &[1, 0]),
            ("part of a UUID", [None, Some("GPU-00000000000000a"), None], &[0]),
            ("unknown UUID", [None, Some("GPU-ff"), None], &[]),
            ("CUDA's variable", [None, None, Some("2")], &[2]),
            ("HIP's before CUDA's", [None, Some("1"), Some("2")], &[1]),
            ("CUDA's where HIP's is empty", [None, Some(""), Some("2")], &[2]),
            ("counts in ROCR's list", [Some("3,1"), Some("1"), None], &[1]),
            ("can't see past ROCR's list", [Some("3"), Some("1"), None], &[]),
        ];
        for (name, [rocr, hip_list, cuda], expected) in cases {
            assert_eq!(hip(rocr, hip_list, cuda, &amd()), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_leaves_distinct_cards(
            list in prop_oneof![".*", r"([+\- ]?[0-9]{0,3}|GPU-[abc]{0,2}[1-4]{0,2}|MIG-.)(,([+\- ]?[0-9]|GPU-[abc]{0,2}|MIG-.)){0,6}"],
        ) {
            let picks = cuda(Some(&list), &nvidia());
            for (place, pick) in picks.iter().enumerate() {
                prop_assert!(!picks[..place].contains(pick));
                if let Card(card) = pick {
                    prop_assert!(*card < 4);
                }
            }
            for cards in [hip(Some(&list), None, None, &amd()), hip(None, Some(&list), None, &amd())] {
                prop_assert!(cards.iter().all(|&card| card < 4));
                prop_assert!((1..cards.len()).all(|place| !cards[..place].contains(&cards[place])));
            }
        }
    }
}

use proptest::prelude::*;

use super::Pick::{Card, Instance};
use super::*;

fn nvidia() -> Vec<String> {
    ["GPU-aa11", "GPU-aa22", "GPU-bb33", "GPU-cc44"].map(str::to_owned).to_vec()
}

/// The card without an identifier has a kernel driver that reports none.
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

//! The simulated fleet of `make simulate`, with few nodes; and whether it exchanges as the Python code does.

#![allow(clippy::cast_precision_loss)]

use std::fs;

#[path = "../benches/simulate/mod.rs"]
mod simulate;

use simulate::exchange::{self, AS_IS, BREATHING};
use simulate::fleet::{FAR, NEAR};
use simulate::scenarios::{Setting, everyday, flood, overshot, parted};
use simulate::time::SECOND;

const FEW: Setting = Setting { nodes: 4, seed: 1, conditions: NEAR, variation: AS_IS };

#[test]
fn all_nodes_know_each_log_out_within_a_second() {
    for setting in [FEW, Setting { conditions: FAR, ..FEW }, Setting { variation: BREATHING, ..FEW }] {
        let told = everyday(setting).told;
        assert!(told.log_outs > 50, "{told:?}");
        assert_eq!(told.known_by_all, told.log_outs);
        assert!(told.all.median < 1000.0, "{told:?}");
        assert_eq!(told.answers_late, 0);
    }
}

#[test]
fn two_halves_agree_after_a_partition() {
    let parted = parted(FEW, 20);
    assert!(parted.log_outs > 30 && parted.facts > parted.log_outs, "{parted:?}");
    assert!(parted.all_alike, "{parted:?}");
    assert!(parted.agreed_ms.expect("all are told") < 5000.0, "{parted:?}");
}

#[test]
fn a_flood_keeps_to_its_bytes_and_holds_no_log_out_up() {
    let flood = flood(FEW, Some(0));
    assert!(flood.bytes.node_sent_worst <= 1_000_000, "{flood:?}");
    assert!(flood.locks_dropped > 0, "{flood:?}");
    assert_eq!(flood.told.known_by_all, flood.told.log_outs);
}

#[test]
fn a_flood_at_all_nodes_holds_no_log_out_up() {
    let flood = flood(Setting { nodes: 20, ..FEW }, None);
    assert!(flood.told.log_outs > 30, "{flood:?}");
    assert_eq!(flood.told.known_by_all, flood.told.log_outs);
    assert!(flood.told.all.worst < 1000.0, "{flood:?}");
}

#[test]
fn limits_are_hardly_overshot() {
    let overshot = overshot(FEW);
    for (rate, mean, _) in &overshot.by_rate {
        assert!(*mean < rate / 50.0 + 1.0, "{overshot:?}");
    }
    assert_eq!(overshot.away.1, 0, "60 prompts are divided among 4");
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let one = everyday(FEW);
    assert_eq!(one, everyday(FEW));
    assert_ne!(one, everyday(Setting { seed: 2, ..FEW }));
}

#[test]
fn the_exchange_is_that_of_the_stores() {
    let constant = |file: &str, name: &str| {
        let text = fs::read_to_string(format!("python/comfy_auth_rs/store/{file}.py")).expect("a module of the stores");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        let value = line.unwrap_or_else(|| panic!("{file}.py says what {name} is"));
        let digits = value.split_whitespace().next().unwrap_or_default().replace('_', "");
        digits.parse::<f64>().unwrap_or_else(|_| panic!("{name} is {value}"))
    };
    let seconds = |time: u64| time as f64 / SECOND as f64;
    for (file, name, here) in [
        ("exchange", "_HEARTBEAT", seconds(exchange::HEARTBEAT)),
        ("exchange", "_LONGEST_WAIT", seconds(exchange::LONGEST_WAIT)),
        ("exchange", "_EVERYTHING_AFTER", seconds(exchange::EVERYTHING_AFTER)),
        ("exchange", "_FIRST_PAUSE", seconds(exchange::FIRST_PAUSE)),
        ("exchange", "_LONGEST_PAUSE", seconds(exchange::LONGEST_PAUSE)),
        ("connection", "CONNECT_TIMEOUT", seconds(exchange::CONNECT_TIMEOUT)),
        ("valkey", "_READ_TIMEOUT", seconds(exchange::READ_TIMEOUT)),
        ("valkey", "_LONGEST_NEWS", exchange::LONGEST_NEWS as f64),
        ("valkey", "_IN_ONE_ENTRY", exchange::IN_ONE_ENTRY as f64),
        ("valkey", "_ENTRIES_AT_ONCE", exchange::ENTRIES_AT_ONCE as f64),
        ("valkey", "_NODES_AFTER", seconds(exchange::NODES_AFTER)),
        ("protocol", "LARGEST_BATCH", exchange::LARGEST_BATCH as f64),
        ("outbox", "_RATE", exchange::RATE as f64),
        ("outbox", "_MOST_SAVED", exchange::MOST_SAVED as f64),
        ("outbox", "_AROUND", exchange::AROUND as f64),
        ("outbox", "_MOST_LOCKS", exchange::MOST_LOCKS as f64),
        ("outbox", "_LOCKS_LAST", seconds(exchange::LOCKS_LAST)),
        ("outbox", "_GATHER", seconds(exchange::GATHER)),
        ("outbox", "_ROUNDED", seconds(exchange::ROUNDED)),
    ] {
        assert!((constant(file, name) - here).abs() < 1e-9, "{name} of {file}.py is not {here}");
    }
}

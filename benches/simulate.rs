//! How a fleet of many nodes behaves: `make simulate`. See docs/simulation.md.
//!
//! Every run gives the same results: time is simulated, and chance comes from `--seed`.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr, clippy::cast_possible_truncation)]

use std::path::PathBuf;

#[path = "simulate/mod.rs"]
mod simulate;

use simulate::exchange::{AS_IS, BREATHING, Variation};
use simulate::fleet::{FAR, NEAR};
use simulate::report::Figures;
use simulate::scenarios::{Setting, everyday, flood, overshot, parted};
use simulate::time::MILLISECOND;

/// What is simulated without `--only`.
const SCENARIOS: [&str; 5] = ["everyday", "far", "flood", "parted", "overshot"];

struct Options {
    nodes: Vec<usize>,
    seed: u64,
    variation: Variation,
    only: Vec<String>,
    json: Option<PathBuf>,
}

fn main() {
    let options = options();
    let mut figures = Figures { seed: options.seed, ..Figures::default() };
    for scenario in &options.only {
        for &nodes in &options.nodes {
            eprintln!("{scenario}, {nodes} nodes");
            let (seed, variation) = (options.seed, options.variation);
            simulate(&mut figures, scenario, Setting { nodes, seed, conditions: NEAR, variation });
        }
    }
    print!("{}", figures.tables());
    if let Some(path) = options.json {
        let text = serde_json::to_string(&figures).expect("figures can be written as JSON");
        std::fs::write(path, text).expect("the file can be written");
    }
}

fn simulate(figures: &mut Figures, scenario: &str, setting: Setting) {
    let breathing = Setting { variation: Variation { breath: BREATHING.breath, ..setting.variation }, ..setting };
    match scenario {
        "everyday" => figures.everyday.push(everyday(setting)),
        "far" => figures.far.push(everyday(Setting { conditions: FAR, ..setting })),
        "breathing" => figures.breathing.push(everyday(breathing)),
        "flood" => figures.flood.push(flood(setting, None)),
        "flood_of_one" => figures.flood_of_one.push(flood(setting, Some(0))),
        "flood_breathing" => figures.flood_breathing.push(flood(breathing, None)),
        "parted" => figures.parted.push(parted(setting, 60)),
        "overshot" => figures.overshot.push(overshot(setting)),
        _ => panic!("there is no scenario {scenario}"),
    }
}

fn options() -> Options {
    let only = SCENARIOS.map(str::to_owned).to_vec();
    let mut options = Options { nodes: vec![10, 100, 1000], seed: 1, variation: AS_IS, json: None, only };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--nodes" => {
                options.nodes = value().split(',').map(|count| number(count) as usize).collect();
            }
            "--breath" => options.variation.breath = number(&value()) * MILLISECOND,
            "--gather" => options.variation.gather = number(&value()) * MILLISECOND,
            "--locks" => options.variation.locks = number(&value()) as usize,
            "--entries" => options.variation.entries = number(&value()) as usize,
            "--seed" => options.seed = number(&value()),
            "--only" => options.only = value().split(',').map(str::to_owned).collect(),
            "--json" => options.json = Some(value().into()),
            _ => {} // `cargo bench` adds --bench
        }
    }
    options
}

fn number(digits: &str) -> u64 {
    digits.parse().unwrap_or_else(|_| panic!("{digits} is no number"))
}

//! How a fleet of many nodes behaves: `make simulate`. See docs/simulation.md.

#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)]

use std::path::PathBuf;

use serde::Serialize;

#[path = "simulate/mod.rs"]
mod simulate;

use simulate::fleet::{FAR, NEAR};
use simulate::scenarios::{Everyday, Flood, Overshot, Parted, everyday, flood, overshot, parted};

#[derive(Serialize, Default)]
struct Figures {
    seed: u64,
    everyday: Vec<Everyday>,
    far: Vec<Everyday>,
    flood: Vec<Flood>,
    flood_of_one: Vec<Flood>,
    parted: Vec<Parted>,
    overshot: Vec<Overshot>,
}

struct Options {
    nodes: Vec<usize>,
    seed: u64,
    json: Option<PathBuf>,
    only: Option<String>,
}

fn main() {
    let options = options();
    let mut figures = Figures { seed: options.seed, ..Figures::default() };
    let wants = |name: &str| options.only.as_deref().is_none_or(|only| only.split(',').any(|one| one == name));
    for &nodes in &options.nodes {
        let seed = options.seed;
        if wants("everyday") {
            figures.everyday.push(everyday(nodes, seed, NEAR));
            println!("{:#?}", figures.everyday.last());
        }
        if wants("far") {
            figures.far.push(everyday(nodes, seed, FAR));
            println!("{:#?}", figures.far.last());
        }
        if wants("flood") {
            figures.flood.push(flood(nodes, seed, NEAR, None));
            println!("{:#?}", figures.flood.last());
        }
        if wants("flood_of_one") {
            figures.flood_of_one.push(flood(nodes, seed, NEAR, Some(0)));
            println!("{:#?}", figures.flood_of_one.last());
        }
        if wants("parted") {
            figures.parted.push(parted(nodes, seed, NEAR, 60));
            println!("{:#?}", figures.parted.last());
        }
        if wants("overshot") {
            figures.overshot.push(overshot(nodes, seed, NEAR));
            println!("{:#?}", figures.overshot.last());
        }
    }
    if let Some(path) = options.json {
        let text = serde_json::to_string_pretty(&figures).expect("figures can be written as JSON");
        std::fs::write(path, text).expect("the file can be written");
    }
}

fn options() -> Options {
    let mut options = Options { nodes: vec![10, 100, 1000], seed: 1, json: None, only: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--nodes" => {
                let read = |count: &str| count.parse().expect("--nodes takes numbers, with commas between them");
                options.nodes = value().split(',').map(read).collect();
            }
            "--seed" => options.seed = value().parse().expect("--seed takes a number"),
            "--only" => options.only = Some(value()),
            "--json" => options.json = Some(value().into()),
            _ => {} // `cargo bench` adds --bench
        }
    }
    options
}

//! The figures, as JSON and as tables for docs/simulation.md.

use std::fmt::Write as _;

use serde::Serialize;

use super::measure::Spread;
use super::scenarios::{Everyday, Flood, Overshot, Parted};

#[derive(Serialize, Default)]
pub struct Figures {
    pub seed: u64,
    pub everyday: Vec<Everyday>,
    pub far: Vec<Everyday>,
    pub breathing: Vec<Everyday>,
    pub flood: Vec<Flood>,
    pub flood_of_one: Vec<Flood>,
    pub flood_breathing: Vec<Flood>,
    pub parted: Vec<Parted>,
    pub overshot: Vec<Overshot>,
}

impl Figures {
    /// Markdown.
    pub fn tables(&self) -> String {
        let mut text = String::new();
        let everyday = [
            ("Everyday, one building", &self.everyday),
            ("Everyday, far apart", &self.far),
            ("Everyday, with a breath", &self.breathing),
        ];
        for (title, runs) in everyday.into_iter().filter(|(_, runs)| !runs.is_empty()) {
            table(&mut text, title, runs.iter().map(|run| (run.nodes, everyday_rows(run))));
        }
        let floods = [
            ("A flood at all nodes", &self.flood),
            ("A flood at one node", &self.flood_of_one),
            ("A flood at all nodes, with a breath", &self.flood_breathing),
        ];
        for (title, runs) in floods.into_iter().filter(|(_, runs)| !runs.is_empty()) {
            table(&mut text, title, runs.iter().map(|run| (run.nodes, flood_rows(run))));
        }
        if !self.parted.is_empty() {
            table(&mut text, "A partition of a minute", self.parted.iter().map(|run| (run.nodes, parted_rows(run))));
        }
        if !self.overshot.is_empty() {
            let rows = self.overshot.iter().map(|run| (run.nodes, overshot_rows(run)));
            table(&mut text, "Prompts beyond a limit of 60 an hour: mean, worst", rows);
        }
        text
    }
}

type Rows = Vec<(String, String)>;

fn everyday_rows(run: &Everyday) -> Rows {
    let (told, bytes) = (&run.told, &run.bytes);
    vec![
        row("a log-out is known to another node, ms", spread(told.one)),
        row("a log-out is known to all nodes, ms", spread(told.all)),
        row("a log-out is answered, ms", spread(told.answer)),
        row("log-outs known to all nodes", format!("{} of {}", told.known_by_all, told.log_outs)),
        row("a node receives, kB/s: mean, worst second", kilo([bytes.node_received_mean, bytes.node_received_worst])),
        row("a node sends, kB/s: worst second", kilo([bytes.node_sent_worst])),
        row(
            "the store receives, kB/s: mean, worst second",
            kilo([bytes.store_received_mean, bytes.store_received_worst]),
        ),
        row("the store sends, kB/s: mean, worst second", kilo([bytes.store_sent_mean, bytes.store_sent_worst])),
        row("the store's core is busy", format!("{:.0} %", 100.0 * bytes.store_busy_mean)),
    ]
}

fn flood_rows(run: &Flood) -> Rows {
    let (told, bytes) = (&run.told, &run.bytes);
    vec![
        row("a log-out meanwhile is known to all nodes, ms", spread(told.all)),
        row("a log-out meanwhile is answered, ms", spread(told.answer)),
        row("log-outs known to all nodes", format!("{} of {}", told.known_by_all, told.log_outs)),
        row("a node sends, kB/s: worst second", kilo([bytes.node_sent_worst])),
        row("a node receives, kB/s: mean, worst second", kilo([bytes.node_received_mean, bytes.node_received_worst])),
        row(
            "the store sends, MB/s: mean, worst second",
            kilo([bytes.store_sent_mean / 1000, bytes.store_sent_worst / 1000]),
        ),
        row("the store's core is busy", format!("{:.0} %", 100.0 * bytes.store_busy_mean)),
        row("times that a node read everything again", run.whole_reads.to_string()),
        row("locks not told", run.locks_dropped.to_string()),
        row("locks that a node knows at the end", format!("{:.0} %", 100.0 * run.locks_known)),
    ]
}

fn parted_rows(run: &Parted) -> Rows {
    vec![
        row("all nodes know all log-outs after", run.agreed_ms.map_or("never".to_owned(), |ms| format!("{ms:.0} ms"))),
        row("log-outs meanwhile", run.log_outs.to_string()),
        row("all nodes know the same at the end", if run.all_alike { "yes" } else { "no" }.to_owned()),
        row("facts that each knows", run.facts.to_string()),
        row("the store sends in the worst second after, kB/s", kilo([run.bytes_after.store_sent_worst])),
    ]
}

fn overshot_rows(run: &Overshot) -> Rows {
    let of =
        |(rate, mean, worst): &(f64, f64, usize)| row(&format!("{rate} tries a second"), format!("{mean:.1}, {worst}"));
    let away = row("100 tries a second, the store away", format!("{:.1}, {}", run.away.0, run.away.1));
    run.by_rate.iter().map(of).chain([away]).collect()
}

fn table(text: &mut String, title: &str, runs: impl Iterator<Item = (usize, Rows)>) {
    let runs: Vec<_> = runs.collect();
    let names: Vec<_> = runs[0].1.iter().map(|(name, _)| name.clone()).collect();
    let heads: Vec<_> = runs.iter().map(|(nodes, _)| format!("{} nodes", thousands(*nodes as u64))).collect();
    let _ = writeln!(text, "| {title} | {} |\n| --- |{}", heads.join(" | "), " ---: |".repeat(heads.len()));
    for (place, name) in names.iter().enumerate() {
        let cells: Vec<_> = runs.iter().map(|(_, rows)| rows[place].1.as_str()).collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
    text.push('\n');
}

fn row(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

/// Median, 99 of 100, worst.
fn spread(of: Spread) -> String {
    format!("{:.0}, {:.0}, {:.0}", of.median, of.p99, of.worst)
}

fn kilo<const N: usize>(bytes: [u64; N]) -> String {
    bytes.map(|bytes| thousands(bytes.div_ceil(1000))).join("; ")
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let (first, rest) = digits.split_at((digits.len() - 1) % 3 + 1);
    let rest = rest.as_bytes().chunks(3).map(|three| String::from_utf8_lossy(three).into_owned());
    std::iter::once(first.to_owned()).chain(rest).collect::<Vec<_>>().join(",")
}

//! What the parts of a decision cost, without Python.

use std::hint::black_box;
use std::time::{Duration, Instant};

use comfy_auth_rs::credential::{authorization, cookie};
use comfy_auth_rs::decision::Denial;
use comfy_auth_rs::keys::{KeyStore, Keys, parse_file};
use comfy_auth_rs::metrics::{Figures, Format, Metrics};
use comfy_auth_rs::request::{Now, Question};
use comfy_auth_rs::secret::{ApiKey, Digest};
use comfy_auth_rs::session;
use comfy_auth_rs::state::throttle::Throttle;
use criterion::{Criterion, criterion_group, criterion_main};

const KEY: &str = "RPdGJgbnSQpQyhvWNd6eGTIRaJDzWyMCzcdNfGNyLBk";
const NOW: u64 = 1_800_000_000;

fn parts(criterion: &mut Criterion) {
    let keys = Keys::new(&parse_file("keys", KEY.as_bytes()).expect("a good file"));
    let entry = keys.verify(KEY.as_bytes(), Now::at(NOW)).expect("the key");
    let session = session::issue(entry, session::BROWSER, NOW);
    let cookies = format!("theme=dark; comfyui_session_8188={session}");
    let throttle = Throttle::default();
    throttle.note(1, entry.id());
    let store = KeyStore::open(&[ApiKey::new(KEY.to_owned())], &[]).expect("a good key");

    let mut group = criterion.benchmark_group("part");
    group.bench_function("clock", |b| b.iter(Instant::now));
    group.bench_function("SHA-256 of a key", |b| b.iter(|| Digest::of(black_box(KEY.as_bytes()))));
    group.bench_function("key", |b| b.iter(|| keys.verify(black_box(KEY.as_bytes()), Now::at(NOW)).is_ok()));
    let bearer = format!("Bearer {KEY}");
    group.bench_function("Authorization", |b| b.iter(|| drop(black_box(authorization::parse(black_box(&bearer))))));
    group.bench_function("Cookie", |b| b.iter(|| cookie::parse(black_box(&cookies)).count()));
    group.bench_function("session", |b| b.iter(|| session::verify(black_box(&session), &keys, Now::at(NOW)).is_some()));
    let now = Duration::from_secs(1);
    group.bench_function("known client", |b| b.iter(|| throttle.knows(black_box(1), entry.id(), now)));
    group.bench_function("keys in force", |b| b.iter(|| store.current()));
    group.bench_function("look at files", |b| b.iter(|| store.is_due(black_box(Duration::ZERO))));
}

/// What a decision adds, and the cost of reading everything with a thousand keys, each with its own label and expiry.
fn metrics(criterion: &mut Criterion) {
    let line = |number| format!("key-{number:040} \"the label of key {number}\" expires=2199-01-31\n");
    let keys = Keys::new(&parse_file("keys", (0..1000).map(line).collect::<String>().as_bytes()).expect("a good file"));
    let metrics = Metrics::default();
    let mut group = criterion.benchmark_group("metrics");
    group.bench_function("admitted", |b| b.iter(|| black_box(&metrics).admitted()));
    group.bench_function("refused", |b| b.iter(|| metrics.refused(black_box(Denial::Invalid), Question::Access)));
    for number in 0..1000 {
        metrics.prompt_queued(Some(&format!("the label of key {number}")));
    }
    for (name, format) in [("OpenMetrics", Format::OpenMetrics), ("classic", Format::Classic)] {
        group.bench_function(format!("a scrape, 1,000 keys, {name}"), |b| {
            b.iter(|| {
                let mut figures = Figures::default();
                figures.look_at(&keys, Now::at(NOW));
                metrics.page(figures, Vec::new, format)
            });
        });
    }
}

criterion_group!(benches, parts, metrics);
criterion_main!(benches);

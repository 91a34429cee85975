//! Runs the checks of the fuzz targets on their seeds and on small changes of them: no fuzzer needed, in each `cargo
//! test`.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod checks;

/// Runs every seed of a target, every beginning of it, and it with each byte missing, doubled or changed.
fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let seed = std::fs::read(entry.unwrap().path()).unwrap();
        check(&seed);
        for at in 0..seed.len() {
            let (before, after) = (&seed[..at], &seed[at + 1..]);
            check(before);
            check(&[before, after].concat());
            check(&[before, &seed[at..=at], &seed[at..]].concat());
            for byte in [seed[at] ^ 1, seed[at] ^ 0x20, b'\n', 0xff] {
                check(&[before, &[byte], after].concat());
            }
        }
        seeds += 1;
    }
    assert!(seeds > 0, "{target} has no seeds");
}

#[test]
fn keys() {
    run("keys", checks::keys::check);
}

#[test]
fn credentials() {
    run("credentials", checks::credentials::check);
}

#[test]
fn sessions() {
    run("sessions", checks::sessions::check);
}

#[test]
fn inject() {
    run("inject", checks::inject::check);
}

#[test]
fn exempt() {
    run("exempt", checks::exempt::check);
}

#[test]
fn forwarded() {
    run("forwarded", checks::forwarded::check);
}

#[test]
fn frames() {
    run("frames", checks::frames::check);
}

#[test]
fn legible() {
    run("legible", checks::legible::check);
}

#[test]
fn state() {
    run("state", checks::state::check);
}

//! Does the time of a refusal reveal anything about a key? `make timing` tests it in the manner of dudect (Reparaz,
//! Balasch, Verbauwhede: "Dude, is my code constant time?", DATE 2017).
//!
//! Two classes of wrong candidates take turns in random order. Welch's t tells whether their mean times differ: of all
//! samples, and of those below each of a hundred percentiles, because the slowest ones were interrupted by something
//! else. Up to [`LIMIT`] in absolute value, noise can explain it; each experiment also prints the smallest difference
//! that would have exceeded it. A sample is a few calls, on different candidates, because clocks are coarse. What we
//! claim must stay below the limit. A deliberately naive comparison, in the same harness and on the same candidates,
//! must exceed it, to show that the harness detects leaks.
//!
//! Candidates of both classes have the same length: the time of hashing depends on it, and the sender of a candidate
//! knows how long it is.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::cast_precision_loss)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use comfy_auth_rs::decide::{Policy, decide};
use comfy_auth_rs::decision::Decision;
use comfy_auth_rs::exempt::{Application, Exemptions};
use comfy_auth_rs::keys::{Keys, parse_file};
use comfy_auth_rs::origin::OwnOrigins;
use comfy_auth_rs::request::{Field, Now, Question};
use comfy_auth_rs::scope::Table;
use comfy_auth_rs::secret::{Digest, random_bytes};
use comfy_auth_rs::state::State;

#[path = "../tests/requests/mod.rs"]
mod requests;

/// What dudect considers a leak.
const LIMIT: f64 = 10.0;

/// How often everything is made again: keys, stores and candidates. So their places in memory change, each of which
/// costs its own fraction of a nanosecond.
const ROUNDS: usize = 200;

/// Samples per round, in both classes together.
const SAMPLES: usize = 2000;

/// Samples per round before those. In the first round, they set the percentiles.
const WARM_UP: usize = 200;

/// Calls per sample.
const CALLS: usize = 16;

/// Candidates per class: enough that chance doesn't make one class special.
const POOL: usize = 512;

const PERCENTILES: usize = 100;

/// As long as generated keys.
const LENGTH: usize = 43;

/// Random numbers for what is not secret: xorshift64*.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        Self(u64::from_le_bytes(random_bytes()) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 32).unwrap() % end
    }

    fn text(&mut self, length: usize) -> Vec<u8> {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..length).map(|_| DIGITS[self.below(64)]).collect()
    }
}

/// Running mean and variance (Welford).
#[derive(Default, Clone)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let off = value - self.mean;
        self.mean += off / self.count;
        self.squares += off * (value - self.mean);
    }

    /// The variance of the mean.
    fn error(&self) -> f64 {
        self.squares / (self.count - 1.0) / self.count
    }
}

/// Both classes, with the samples below one bound.
#[derive(Clone)]
struct Test {
    bound: f64,
    classes: [Moments; 2],
}

impl Test {
    fn difference(&self) -> f64 {
        self.classes[1].mean - self.classes[0].mean
    }

    fn deviation(&self) -> f64 {
        (self.classes[0].error() + self.classes[1].error()).sqrt()
    }

    fn t(&self) -> f64 {
        self.difference() / self.deviation()
    }
}

/// Wrong candidates of one class.
type Pool = Vec<[u8; LENGTH]>;

/// What is timed, with a class and a candidate.
type Call = dyn FnMut(usize, &[u8]);

/// Candidates of both classes, and what is done with one of them.
struct Round {
    pools: [Pool; 2],
    call: Box<Call>,
}

impl Round {
    fn new(pools: [Pool; 2], call: impl FnMut(usize, &[u8]) + 'static) -> Self {
        Self { pools, call: Box::new(call) }
    }

    /// A class, and the time of one call. Before the clock starts, candidates are copied to the same place, whatever
    /// their class.
    fn sample(&mut self, dice: &mut Dice) -> (usize, f64) {
        let class = dice.below(2);
        let candidates: [_; CALLS] = std::array::from_fn(|_| self.pools[class][dice.below(POOL)]);
        let start = Instant::now();
        for candidate in black_box(&candidates) {
            (self.call)(class, candidate);
        }
        (class, start.elapsed().as_nanos() as f64 / CALLS as f64)
    }
}

/// The test with the largest t.
fn measure(dice: &mut Dice, make: impl Fn(&mut Dice) -> Round) -> Test {
    let mut tests = Vec::new();
    for _ in 0..ROUNDS {
        let mut round = make(dice);
        let mut first: Vec<_> = (0..WARM_UP).map(|_| round.sample(dice).1).collect();
        if tests.is_empty() {
            first.sort_by(f64::total_cmp);
            let bounds = (1..=PERCENTILES).map(|percent| first[(WARM_UP - 1) * percent / PERCENTILES]);
            tests.extend(bounds.chain([f64::INFINITY]).map(|bound| Test { bound, classes: Default::default() }));
        }
        for _ in 0..SAMPLES {
            let (class, time) = round.sample(dice);
            for test in tests.iter_mut().rev() {
                if time > test.bound {
                    break;
                }
                test.classes[class].add(time);
            }
        }
    }
    // With too few samples below a bound, a test means nothing.
    tests.retain(|test| test.classes.iter().all(|class| class.count >= 5_000.0) && test.deviation() > 0.0);
    tests.into_iter().max_by(|one, other| one.t().abs().total_cmp(&other.t().abs())).unwrap()
}

/// What an experiment must show.
#[derive(PartialEq)]
enum Expect {
    Nothing,
    Leak,
}

/// Measures, and measures again if there seems to be a leak: chance and a busy machine don't give the same result
/// twice.
fn experiment(dice: &mut Dice, name: &str, expect: &Expect, make: impl Fn(&mut Dice) -> Round) -> bool {
    let mut test = measure(dice, &make);
    if *expect == Expect::Nothing && test.t().abs() > LIMIT {
        let again = measure(dice, &make);
        if again.t().abs() < test.t().abs() {
            test = again;
        }
    }
    report(name, expect, &test)
}

fn report(name: &str, expect: &Expect, test: &Test) -> bool {
    let holds = (test.t().abs() > LIMIT) == (*expect == Expect::Leak);
    let verdict = match (expect, holds) {
        (Expect::Nothing, true) => "no dependence",
        (Expect::Nothing, false) => "**depends**",
        (Expect::Leak, true) => "seen, as it must be",
        (Expect::Leak, false) => "**not seen**",
    };
    println!(
        "| {name} | {:.1} ns | {:+.2} ns | {:.2} ns | {:+.1} | {verdict} |",
        test.classes[0].mean,
        test.difference(),
        LIMIT * test.deviation(),
        test.t(),
    );
    holds
}

fn store(keys: &[Vec<u8>]) -> Keys {
    Keys::new(&parse_file("keys", &keys.join(&b'\n')).unwrap())
}

fn pool(mut candidate: impl FnMut() -> Vec<u8>) -> Pool {
    (0..POOL).map(|_| candidate().try_into().unwrap()).collect()
}

/// Wrong keys that differ from `key` only in the last three characters.
fn nearly(dice: &mut Dice, key: &[u8]) -> Pool {
    pool(|| {
        let candidate = [&key[..LENGTH - 3], &dice.text(3)].concat();
        if candidate == key { dice.text(LENGTH) } else { candidate }
    })
}

fn others(dice: &mut Dice) -> Pool {
    pool(|| dice.text(LENGTH))
}

/// Wrong keys whose digests share with the key's the seven bits by which a hash table tells entries apart, or don't.
fn by_digest(dice: &mut Dice, key: &[u8], in_common: bool) -> Pool {
    let bits = |text: &[u8]| Digest::of(text).expose_secret()[15] >> 1;
    pool(|| {
        loop {
            let candidate = dice.text(LENGTH);
            if (bits(&candidate) == bits(key)) == in_common {
                return candidate;
            }
        }
    })
}

/// How not to do it.
fn naive(key: &[u8], candidate: &[u8]) -> bool {
    key.len() == candidate.len() && key.iter().zip(candidate).all(|(one, other)| black_box(one) == black_box(other))
}

/// A key, and candidates that share nothing with it, or nearly everything.
fn right_or_not(dice: &mut Dice) -> (Vec<u8>, [Pool; 2]) {
    let key = dice.text(LENGTH);
    let pools = [others(dice), nearly(dice, &key)];
    (key, pools)
}

/// Keys, and candidates that nearly equal the first key, or nearly the last.
fn near_one_of_many(dice: &mut Dice) -> (Vec<Vec<u8>>, [Pool; 2]) {
    let keys: Vec<_> = (0..1000).map(|_| dice.text(LENGTH)).collect();
    let pools = [&keys[0], &keys[999]].map(|key| nearly(dice, key));
    (keys, pools)
}

/// Everything that a decision is based on.
struct Server {
    keys: Keys,
    state: State,
    exemptions: Exemptions,
    own_origins: OwnOrigins,
}

impl Server {
    fn new(keys: Keys) -> Self {
        let exemptions = Exemptions::new::<&str>(Application::Own, &[]).unwrap();
        Self { keys, state: State::default(), exemptions, own_origins: OwnOrigins::default() }
    }

    fn refuse(&self, candidate: &[u8]) {
        let Self { keys, state, exemptions, own_origins } = self;
        let scopes = &Table::ComfyUi;
        let policy = Policy { keys, state, exemptions, scopes, own_origins, trace: None };
        let now = Now { monotonic: Duration::from_secs(1), ..Now::at(1_800_000_000) };
        // Without an address, so that nothing is counted.
        let request = requests::get().from(None).with(Field::XApiKey, std::str::from_utf8(candidate).unwrap());
        assert!(matches!(black_box(decide(&policy, &request, Question::Access, now)), Decision::Denied(_)));
    }
}

fn verify(keys: &Keys, candidate: &[u8]) {
    assert!(black_box(keys.verify(candidate, Now::at(1_800_000_000))).is_err());
}

fn main() -> ExitCode {
    use Expect::{Leak, Nothing};
    let mut dice = Dice::new();
    let mut holds = true;
    println!("| two classes of wrong candidates | mean | difference | would be seen | t | |");
    println!("| --- | ---: | ---: | ---: | ---: | --- |");

    let make = |dice: &mut Dice| {
        let (key, pools) = right_or_not(dice);
        let keys = store(&[key]);
        Round::new(pools, move |_, candidate| verify(&keys, candidate))
    };
    holds &= experiment(&mut dice, "nothing of the key right, or 40 of 43 characters", &Nothing, make);
    let make = |dice: &mut Dice| {
        let (key, pools) = right_or_not(dice);
        Round::new(pools, move |_, candidate| assert!(!black_box(naive(&key, candidate))))
    };
    holds &= experiment(&mut dice, "the same, compared naively", &Leak, make);
    let make = |dice: &mut Dice| {
        let (key, pools) = right_or_not(dice);
        let server = Server::new(store(&[key]));
        Round::new(pools, move |_, candidate| server.refuse(candidate))
    };
    holds &= experiment(&mut dice, "the same, the whole decision", &Nothing, make);
    let make = |dice: &mut Dice| {
        let key = dice.text(LENGTH);
        let pools = [false, true].map(|in_common| by_digest(dice, &key, in_common));
        let keys = store(&[key]);
        Round::new(pools, move |_, candidate| verify(&keys, candidate))
    };
    holds &= experiment(&mut dice, "nothing of the key's digest right, or seven bits", &Nothing, make);

    for (name, length) in [
        ("the key has as many characters as the candidate, or 8", 8),
        ("the key has as many characters as the candidate, or 1,024", 1024),
    ] {
        let make = |dice: &mut Dice| {
            let stores = [LENGTH, length].map(|length| store(&[dice.text(length)]));
            Round::new([others(dice), others(dice)], move |class, candidate| verify(&stores[class], candidate))
        };
        holds &= experiment(&mut dice, name, &Nothing, make);
    }
    let make = |dice: &mut Dice| {
        let keys = [LENGTH, 8].map(|length| dice.text(length));
        let compare = move |class: usize, candidate: &[u8]| assert!(!black_box(naive(&keys[class], candidate)));
        Round::new([others(dice), others(dice)], compare)
    };
    holds &= experiment(&mut dice, "as many, or 8, compared naively", &Leak, make);

    let make = |dice: &mut Dice| {
        let (keys, pools) = near_one_of_many(dice);
        let keys = store(&keys);
        Round::new(pools, move |_, candidate| verify(&keys, candidate))
    };
    holds &= experiment(&mut dice, "nearly the first of 1,000 keys, or nearly the last", &Nothing, make);
    let make = |dice: &mut Dice| {
        let (keys, pools) = near_one_of_many(dice);
        Round::new(pools, move |_, candidate| {
            // As with keys that begin with a public name: found by the name, then compared as a whole.
            let named = keys.iter().find(|key| key[..20] == candidate[..20]);
            assert!(!black_box(named.is_some_and(|key| naive(key, candidate))));
        })
    };
    holds &= experiment(&mut dice, "the same, looked up naively", &Leak, make);

    println!("\nt beyond ±{LIMIT} is no noise. `make timing` fails where one is not as it must be.");
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

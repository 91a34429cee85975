//! The sampler with a probe that waits for this test: no result depends on a clock, except where time is the subject.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use comfy_auth_rs::probe::{
    CACHE_TIME, Device, DeviceKind, FLIGHT_TIME, NoSample, Sample, Sampler, probe_devices, system_devices,
};

/// Long enough for anything that is expected to happen.
const PATIENT: Duration = Duration::from_secs(30);
/// Too short to matter, for what is not expected to happen.
const IMPATIENT: Duration = Duration::from_millis(20);

/// Waits until a sample is no longer fresh.
fn outlive(sample: &Sample) {
    thread::sleep((sample.taken + CACHE_TIME).saturating_duration_since(Instant::now()));
}

/// A sampler whose probe reports when it starts, and returns as many free bytes as it is told, or panics on `None`.
struct Rig {
    sampler: Sampler,
    started: Receiver<()>,
    land: Sender<Option<u64>>,
    flights: Arc<AtomicUsize>,
}

fn rig() -> Rig {
    let (start, started) = channel();
    let (land, landing) = channel();
    let (start, landing) = (Mutex::new(start), Mutex::new(landing));
    let flights = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&flights);
    let sampler = Sampler::new(move || {
        count.fetch_add(1, SeqCst);
        start.lock().unwrap().send(()).unwrap();
        // Taken before the panic, so that the panic poisons none of the rig's locks.
        let told: Option<u64> = landing.lock().unwrap().recv().unwrap();
        vec![card(told.expect("told to panic"))]
    });
    Rig { sampler, started, land, flights }
}

fn card(free: u64) -> Device {
    Device { name: "card".into(), kind: DeviceKind::Cuda, index: Some(0), uuid: None, total: 100, free }
}

fn free(sample: &Sample) -> u64 {
    sample.devices[0].free
}

impl Rig {
    /// A probe that returns at once.
    fn fly(&self, free: u64) -> Sample {
        self.land.send(Some(free)).unwrap();
        let sample = self.sampler.sample(PATIENT).unwrap();
        self.started.recv().unwrap();
        sample
    }

    fn wait_for_landing(&self) -> Sample {
        let end = Instant::now() + PATIENT;
        loop {
            match self.sampler.fresh(Instant::now()) {
                Some(sample) => return sample,
                None => assert!(Instant::now() < end, "no landing"),
            }
            thread::yield_now();
        }
    }
}

#[test]
fn nothing_flies_before_it_is_asked() {
    let rig = rig();
    assert_eq!(rig.sampler.fresh(Instant::now()), None);
    assert_eq!(rig.flights.load(SeqCst), 0);
}

#[test]
fn figures_are_fresh_for_a_second() {
    let rig = rig();
    let sample = rig.fly(1);
    assert_eq!((free(&sample), sample.stale), (1, false));
    assert_eq!(rig.sampler.fresh(sample.taken), Some(sample.clone()));
    assert_eq!(rig.sampler.fresh(sample.taken + CACHE_TIME.mul_f64(0.999)), Some(sample.clone()));
    assert_eq!(rig.sampler.fresh(sample.taken + CACHE_TIME), None);
    assert_eq!(rig.sampler.sample(Duration::ZERO), Ok(sample.clone()), "from the cache");
    assert_eq!(rig.flights.load(SeqCst), 1);

    outlive(&sample);
    assert_eq!(free(&rig.fly(2)), 2);
    assert_eq!(rig.flights.load(SeqCst), 2);
}

#[test]
fn the_last_figures_are_told_at_once_and_new_ones_fetched() {
    let rig = rig();
    assert_eq!(rig.sampler.last(), None);
    rig.started.recv().unwrap();
    assert_eq!(rig.sampler.last(), None, "the flight is in the air");
    rig.land.send(Some(1)).unwrap();
    let first = rig.wait_for_landing();
    assert_eq!(rig.sampler.last(), Some(first.clone()));
    assert_eq!(rig.flights.load(SeqCst), 1, "they are fresh");

    outlive(&first);
    assert_eq!(rig.sampler.last(), Some(first.clone()), "however old");
    rig.started.recv().unwrap();
    assert_eq!(rig.sampler.last(), Some(first));
    rig.land.send(Some(2)).unwrap();
    assert_eq!(free(&rig.wait_for_landing()), 2);
    assert_eq!(rig.flights.load(SeqCst), 2);
}

#[test]
fn all_callers_share_one_flight() {
    const CALLERS: usize = 16;
    let rig = rig();
    let ready = Barrier::new(CALLERS + 1);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                scope.spawn(|| {
                    ready.wait();
                    rig.sampler.sample(PATIENT).unwrap()
                })
            })
            .collect();
        ready.wait();
        rig.started.recv().unwrap();
        rig.land.send(Some(7)).unwrap();
        for caller in callers {
            assert_eq!(free(&caller.join().unwrap()), 7);
        }
    });
    assert_eq!(rig.flights.load(SeqCst), 1);
}

#[test]
fn hanging_flight_gives_the_last_known_figures() {
    let rig = rig();
    let first = rig.fly(1);
    outlive(&first);

    let start = Instant::now();
    let late = rig.sampler.sample(IMPATIENT).unwrap();
    assert!(start.elapsed() >= IMPATIENT);
    rig.started.recv().unwrap();
    assert_eq!(late, Sample { stale: true, ..first });

    let start = Instant::now();
    for _ in 0..100 {
        assert!(rig.sampler.sample(IMPATIENT).unwrap().stale);
    }
    assert!(start.elapsed() < 100 * IMPATIENT / 2, "nobody waits for an overdue flight again");
    assert_eq!(rig.sampler.fresh(Instant::now()), None);
    assert_eq!(rig.flights.load(SeqCst), 2, "and no second one starts");

    rig.land.send(Some(2)).unwrap();
    let landed = rig.wait_for_landing();
    assert_eq!((free(&landed), landed.stale), (2, false), "it counts when it comes back");
}

#[test]
fn hanging_first_flight_is_an_error() {
    let rig = rig();
    assert_eq!(rig.sampler.sample(IMPATIENT), Err(NoSample));
    rig.started.recv().unwrap();
    assert_eq!(rig.sampler.sample(IMPATIENT), Err(NoSample));
    assert_eq!(rig.flights.load(SeqCst), 1);
    rig.land.send(Some(3)).unwrap();
    assert_eq!(free(&rig.wait_for_landing()), 3);
}

#[test]
fn panicking_probe_poisons_nothing() {
    let rig = rig();
    rig.land.send(None).unwrap();
    assert_eq!(rig.sampler.sample(PATIENT), Err(NoSample), "at once, not after the timeout");
    rig.started.recv().unwrap();

    let first = rig.fly(1);
    outlive(&first);
    rig.land.send(None).unwrap();
    assert_eq!(rig.sampler.sample(PATIENT), Ok(Sample { stale: true, ..first }));
    rig.started.recv().unwrap();

    assert_eq!(free(&rig.fly(2)), 2);
    assert_eq!(rig.flights.load(SeqCst), 4);
}

#[test]
fn sampler_may_go_while_its_flight_hangs() {
    let rig = rig();
    assert_eq!(rig.sampler.sample(IMPATIENT), Err(NoSample));
    drop(rig.sampler);
    rig.land.send(Some(1)).unwrap();
}

#[test]
fn samples_this_machine() {
    let sampler = Sampler::new(probe_devices);
    let sample = sampler.sample(PATIENT).unwrap();
    let cpu = sample.devices.last().unwrap();
    assert_eq!((cpu.kind, cpu.name.as_str(), cpu.index, cpu.uuid.as_deref()), (DeviceKind::Cpu, "cpu", None, None));
    assert!(cpu.total > 0);
    assert_eq!(system_devices().last().unwrap().total, cpu.total);
    assert!(FLIGHT_TIME > CACHE_TIME);
}

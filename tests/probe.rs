//! The device probe with a stand-in for NVIDIA's library, which the real `nvml-wrapper` loads, and with AMD's sysfs
//! trees.
//!
//! The loader finds a library through `LD_LIBRARY_PATH`, which it reads once, when a process starts, and `CUDA_…`
//! variables belong to the whole process. So each case runs in its own process: this test program again, with only the
//! test [`in_a_process_of_its_own`], which reports through a file.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use comfy_auth_rs::probe::{self, Device, DeviceKind, Environment, Sampler};

/// Four cards as NVML lists them. Their sizes differ, so that a mix-up shows.
const CARDS: &str = "\
card GPU-aa11 24000 20000 0 0 NVIDIA GeForce RTX 4090
card GPU-aa22 16000 15000 0 0 NVIDIA RTX A4000
card GPU-bb33 80000 70000 0 0 NVIDIA H100 80GB HBM3
";

const NONE: [&str; 0] = [];

/// Compiles the stand-in; returns the folder that holds it.
fn compile(name: &str, flags: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    // Built under its own name, then renamed: another run may be loading the old one.
    let (fresh, library) = (folder.join(format!("{}.so", std::process::id())), folder.join("libnvidia-ml.so.1"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nvml/fake_nvml.c");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([&fresh, &source])
        .args(flags)
        .status()
        .expect("a C compiler, which Rust needs too");
    assert!(status.success());
    fs::rename(fresh, library).unwrap();
    folder
}

static FAKE: LazyLock<PathBuf> = LazyLock::new(|| compile("nvml", &[]));

/// A process to probe in.
struct Case {
    folder: tempfile::TempDir,
    command: Command,
}

impl Case {
    fn new(nvml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("nvml"), nvml).unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "in_a_process_of_its_own"])
            .env("LD_LIBRARY_PATH", &*FAKE)
            .env("FAKE_NVML", folder.path().join("nvml"))
            .env("PROBE_TEST", folder.path())
            .env("PROBE_SYS", folder.path().join("nothing"))
            .env_remove("CUDA_VISIBLE_DEVICES")
            .env_remove("HIP_VISIBLE_DEVICES")
            .env_remove("ROCR_VISIBLE_DEVICES");
        Self { folder, command }
    }

    fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    fn sys(self, tree: &str) -> Self {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/amd").join(tree);
        self.env("PROBE_SYS", tree)
    }

    /// The report's lines, the faults first. The CPU is always last: it is checked here and left out.
    fn report(mut self) -> Vec<String> {
        let output = self.command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let report = fs::read_to_string(self.folder.path().join("report")).unwrap();
        let mut lines: Vec<_> = report.lines().map(str::to_owned).collect();
        assert_eq!(lines.pop().as_deref(), Some("cpu - - RAM cpu"));
        lines
    }
}

fn line(device: &Device) -> String {
    let Device { name, kind, index, uuid, total, free } = device;
    let index = index.map_or("-".to_owned(), |index| index.to_string());
    let uuid = uuid.as_deref().unwrap_or("-");
    // Our fake NVIDIA cards have a few bytes. More than that is RAM, which differs from machine to machine.
    let ram = *kind != DeviceKind::Rocm && *total > 1 << 20 && (1..=*total).contains(free);
    let memory = if ram { "RAM".to_owned() } else { format!("{free}/{total}") };
    format!("{} {index} {uuid} {memory} {name}", kind.as_str())
}

#[test]
fn in_a_process_of_its_own() {
    let Some(folder) = env::var_os("PROBE_TEST").map(PathBuf::from) else {
        return; // the ordinary run of all tests
    };
    let environment = Environment { sys: env::var_os("PROBE_SYS").unwrap().into(), ..Environment::from_process() };
    if env::var_os("PROBE_SAMPLER").is_some() {
        return sample_a_hanging_driver(&folder, environment);
    }
    let report = probe::probe(&environment);
    let mut text = String::new();
    for fault in report.faults {
        writeln!(text, "fault {fault}").unwrap();
    }
    for device in report.devices {
        writeln!(text, "{}", line(&device)).unwrap();
    }
    fs::write(folder.join("report"), text).unwrap();
}

#[test]
fn lists_all_cards_in_nvml_order() {
    assert_eq!(
        Case::new(CARDS).report(),
        [
            "cuda 0 GPU-aa11 20000/24000 NVIDIA GeForce RTX 4090",
            "cuda 1 GPU-aa22 15000/16000 NVIDIA RTX A4000",
            "cuda 2 GPU-bb33 70000/80000 NVIDIA H100 80GB HBM3",
        ]
    );
}

#[test]
fn cuda_visible_devices_selects_and_orders() {
    let cases: &[(&str, &[&str])] = &[
        ("2,0", &["0 GPU-bb33", "1 GPU-aa11"]),
        ("GPU-b,GPU-aa2", &["0 GPU-bb33", "1 GPU-aa22"]),
        ("1,7,0", &["0 GPU-aa22"]),
        ("MIG-none", &[]),
        ("-1", &[]),
        ("", &[]),
    ];
    for (list, expected) in cases {
        let report = Case::new(CARDS).env("CUDA_VISIBLE_DEVICES", list).report();
        let cards: Vec<_> =
            report.iter().map(|line| line.split(' ').skip(1).take(2).collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(cards, *expected, "{list:?}");
    }
}

#[test]
fn cards_that_answer_with_an_error_are_left_out_and_told() {
    let nvml = "\
card GPU-aa11 24000 20000 15 0 fell off the bus
card GPU-aa22 16000 15000 0 0 A
card GPU-bb33 80000 70000 0 15 falls off the bus now
card GPU-cc44 48000 40000 0 4242 an error newer than we are
card GPU-dd55 12000 10000 0 0 B
";
    let expected = [
        "fault NVML: card 0: device fell off the bus",
        "fault NVML: memory of GPU-bb33: device fell off the bus",
        "fault NVML: memory of GPU-cc44: unexpected enum variant value: 4242",
        "cuda 0 GPU-aa22 15000/16000 A",
        "cuda 3 GPU-dd55 10000/12000 B",
    ];
    let report = Case::new(nvml).report();
    assert_eq!(report.len(), expected.len(), "{report:?}");
    for (line, expected) in report.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn unified_memory_is_the_systems() {
    for memory in ["0 0 0 3", "0 0 0 0"] {
        let report = Case::new(&format!("card GPU-aa11 {memory} NVIDIA GB10\n")).report();
        assert_eq!(report, ["cuda 0 GPU-aa11 RAM NVIDIA GB10"], "{memory}");
    }
}

#[test]
fn partitioned_card_shows_one_instance() {
    let nvml = "\
card GPU-aa11 24000 20000 0 0 NVIDIA RTX A4000
card GPU-bb33 80000 70000 0 4 NVIDIA H100
mig MIG-1 10000 9000 0 0 NVIDIA H100 MIG 1g.10gb
mig MIG-2 20000 8000 0 0 NVIDIA H100 MIG 2g.20gb
";
    let (first, second) =
        ("cuda 0 MIG-1 9000/10000 NVIDIA H100 MIG 1g.10gb", "cuda 0 MIG-2 8000/20000 NVIDIA H100 MIG 2g.20gb");
    assert_eq!(Case::new(nvml).report(), [first]);
    let cases = [("MIG-2", second), ("MIG-2,MIG-1", second), ("1", first), ("GPU-b", first)];
    for (list, expected) in cases {
        assert_eq!(Case::new(nvml).env("CUDA_VISIBLE_DEVICES", list).report(), [expected], "{list}");
    }
    let whole = Case::new(nvml).env("CUDA_VISIBLE_DEVICES", "0").report();
    assert_eq!(whole, ["cuda 0 GPU-aa11 20000/24000 NVIDIA RTX A4000"]);
}

#[test]
fn library_without_a_driver_is_told() {
    let cases = [
        ("init 9", "fault NVML: start: NVIDIA driver is not loaded"),
        ("init 18", "fault NVML: start: RM detects a driver/library version mismatch"),
        ("init 999", "fault NVML: start: an internal driver error occurred"),
        ("count 999", "fault NVML: number of cards: an internal driver error occurred"),
    ];
    for (nvml, fault) in cases {
        assert_eq!(Case::new(nvml).report(), [fault]);
    }
}

#[test]
fn missing_library_is_no_fault() {
    let report = Case::new(CARDS).env("LD_LIBRARY_PATH", "").report();
    assert!(!report.iter().any(|line| line.starts_with("fault")), "{report:?}");
    // Otherwise these are the real cards of this machine.
    if !Path::new("/proc/driver/nvidia").exists() {
        assert_eq!(report, NONE);
    }
}

#[test]
fn library_under_its_developers_name_is_found() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(FAKE.join("libnvidia-ml.so.1"), folder.path().join("libnvidia-ml.so")).unwrap();
    let report = Case::new("card GPU-aa11 24000 20000 0 0 A\n").env("LD_LIBRARY_PATH", folder.path()).report();
    if !Path::new("/proc/driver/nvidia").exists() {
        assert_eq!(report, ["cuda 0 GPU-aa11 20000/24000 A"]);
    }
}

#[test]
fn broken_library_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("libnvidia-ml.so.1"), "not a library").unwrap();
    let report = Case::new(CARDS).env("LD_LIBRARY_PATH", folder.path()).report();
    assert_eq!(report.len(), 1);
    assert!(report[0].starts_with("fault NVML: start: "), "{report:?}");
}

#[test]
fn driver_too_old_for_memory_v2_is_told() {
    let folder = compile("nvml-old", &["-DOLD_DRIVER"]);
    let report = Case::new(CARDS).env("LD_LIBRARY_PATH", folder).report();
    assert_eq!(report.len(), 3, "{report:?}");
    assert!(report.iter().all(|line| line.contains("nvmlDeviceGetMemoryInfo_v2")), "{report:?}");
}

#[test]
fn amd_cards_come_from_sysfs() {
    assert_eq!(
        Case::new("").sys("workstation").report(),
        [
            "rocm 0 - 17000000000/17163091968 AMD GPU 0x744c",
            "rocm 1 GPU-2b8f3c1d4e5f6071 24679284736/25753026560 AMD GPU 0x744c",
        ]
    );
    assert_eq!(
        Case::new("").sys("server").report(),
        [
            "rocm 0 GPU-00a1b2c3d4e5f607 68702699520/68702699520 AMD Instinct MI210",
            "rocm 1 GPU-f00dfacecafe0002 0/68702699520 AMD Instinct MI210",
        ]
    );
}

#[test]
fn incomplete_amd_cards_are_none() {
    let complete = [("vendor", "0x1002\n"), ("mem_info_vram_total", "1000\n"), ("mem_info_vram_used", "100\n")];
    let cases: &[(&str, Option<&str>, &[&str])] = &[
        ("product_name", None, &["rocm 0 - 900/1000 AMD GPU"]),
        ("product_name", Some("\n"), &["rocm 0 - 900/1000 AMD GPU"]),
        ("unique_id", Some("0000000000000000\n"), &["rocm 0 - 900/1000 AMD GPU"]),
        ("unique_id", Some("none\n"), &["rocm 0 - 900/1000 AMD GPU"]),
        ("mem_info_vram_used", Some("2000\n"), &["rocm 0 - 0/1000 AMD GPU"]),
        ("mem_info_vram_used", Some("-1\n"), &[]),
        ("mem_info_vram_used", None, &[]),
        ("mem_info_vram_total", Some("plenty\n"), &[]),
        ("mem_info_vram_total", Some("0\n"), &[]),
        ("mem_info_vram_total", Some(""), &[]),
        ("mem_info_vram_total", None, &[]),
        ("vendor", Some("0x8086\n"), &[]),
        ("vendor", None, &[]),
    ];
    for (file, content, expected) in cases {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("class/drm/card0/device");
        fs::create_dir_all(&folder).unwrap();
        for (name, content) in complete {
            fs::write(folder.join(name), content).unwrap();
        }
        match content {
            Some(content) => fs::write(folder.join(file), content).unwrap(),
            None => drop(fs::remove_file(folder.join(file))),
        }
        assert_eq!(Case::new("").env("PROBE_SYS", tree.path()).report(), *expected, "{file}: {content:?}");
    }
}

#[test]
fn amd_visibility() {
    let (first, second) = ("GPU-00a1b2c3d4e5f607", "GPU-f00dfacecafe0002");
    let cases: &[(&str, &str, &[&str])] = &[
        ("HIP_VISIBLE_DEVICES", "1,0", &[second, first]),
        ("HIP_VISIBLE_DEVICES", "-1", &[]),
        ("CUDA_VISIBLE_DEVICES", "1", &[second]),
        ("ROCR_VISIBLE_DEVICES", "GPU-F00D", &[second]),
        ("ROCR_VISIBLE_DEVICES", "", &[]),
    ];
    for (variable, list, expected) in cases {
        let report = Case::new("").sys("server").env(variable, list).report();
        let uuids: Vec<_> = report.iter().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(uuids, *expected, "{variable}={list}");
    }
}

#[test]
fn one_amd_card_under_two_numbers_counts_once() {
    let tree = tempfile::tempdir().unwrap();
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/amd/server/class/drm/card1/device");
    for card in ["card3", "card4"] {
        let folder = tree.path().join("class/drm").join(card);
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(&server, folder.join("device")).unwrap();
    }
    let report = Case::new("").env("PROBE_SYS", tree.path()).report();
    assert_eq!(report, ["rocm 0 GPU-00a1b2c3d4e5f607 68702699520/68702699520 AMD Instinct MI210"]);
}

#[test]
fn amd_cards_beside_nvidia_ones_are_left_out() {
    let report = Case::new("card GPU-aa11 24000 20000 0 0 A\n").sys("server").report();
    assert_eq!(report, ["cuda 0 GPU-aa11 20000/24000 A"]);
    let hidden = Case::new(CARDS).sys("server").env("CUDA_VISIBLE_DEVICES", "").report();
    assert_eq!(hidden, NONE);
}

/// Runs in the process of the test below. The driver hangs, comes back, then hangs again, and the process ends
/// meanwhile.
fn sample_a_hanging_driver(folder: &Path, environment: Environment) {
    let nvml = folder.join("nvml");
    let sampler = Sampler::new(move || probe::probe(&environment).devices);
    let short = Duration::from_millis(200);
    assert!(sampler.sample(short).is_err(), "it hangs, and has never answered");
    let start = Instant::now();
    assert!(sampler.sample(short).is_err());
    assert!(start.elapsed() < short, "the first flight's time is up: nobody waits for it again");

    fs::write(&nvml, CARDS).unwrap();
    let sample = loop {
        if let Some(sample) = sampler.fresh(Instant::now()) {
            break sample;
        }
        thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(line(&sample.devices[0]), "cuda 0 GPU-aa11 20000/24000 NVIDIA GeForce RTX 4090");
    assert!(!sample.stale);

    fs::write(&nvml, "hang\ncard GPU-aa11 24000 1 0 0 A\n").unwrap();
    while sampler.fresh(Instant::now()).is_some() {
        thread::sleep(Duration::from_millis(10));
    }
    let last = sampler.sample(short).unwrap();
    assert!(last.stale);
    assert_eq!((last.devices, last.taken), (sample.devices, sample.taken));
    fs::write(folder.join("report"), "done").unwrap();
}

#[test]
fn hanging_driver_delays_neither_answers_nor_the_exit() {
    let mut case = Case::new(&format!("hang\n{CARDS}")).env("PROBE_SAMPLER", "1");
    let mut child = case.command.stdout(Stdio::null()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if Instant::now() < end => thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill().unwrap();
                break child.wait().unwrap();
            }
        }
    };
    assert!(status.success(), "{status}");
    assert_eq!(fs::read_to_string(case.folder.path().join("report")).unwrap(), "done");
}

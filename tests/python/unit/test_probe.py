"""The device probe, called from Python in new processes, and the device that we say ComfyUI uses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from comfy_auth_rs import probe_device, probe_devices
from comfy_auth_rs.comfyui.device import chosen_device
from comfy_auth_rs.devices import Device
from support.nvml import CARDS, FakeNvml, needs_linux, show_all_devices

RTX = {"name": "NVIDIA GeForce RTX 4090", "type": "cuda", "index": 0, "uuid": "GPU-aa11", "total": 24000, "free": 20000}
H100 = {"name": "NVIDIA H100 80GB HBM3", "type": "cuda", "index": 1, "uuid": "GPU-bb22", "total": 80000, "free": 70000}
COMMAND = [sys.executable, "-m", "comfy_auth_rs", "probe"]
has_real_cards = Path("/proc/driver/nvidia").exists() or Path("/sys/class/kfd").exists()


@pytest.fixture
def nvml(tmp_path, monkeypatch):
    """A fake driver, which the processes that a test starts will find."""
    show_all_devices(monkeypatch)
    nvml = FakeNvml(tmp_path)
    for name, value in nvml.environment.items():
        monkeypatch.setenv(name, value)
    nvml.answer(CARDS)
    return nvml


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, **more)


def probed():
    """The accelerators that `comfy-auth-rs probe --json` lists; the CPU is always last."""
    *cards, cpu = json.loads(run(*COMMAND, "--json").stdout)
    assert (cpu["name"], cpu["type"], cpu["index"], cpu["uuid"]) == ("cpu", "cpu", None, None)
    return cards


def test_this_machine():
    devices = probe_devices()
    assert devices[-1]["type"] == "cpu"
    for device in devices:
        assert device.keys() == Device.__annotations__.keys()
        assert device["type"] in ("cuda", "rocm", "mps", "cpu")
        assert type(device["total"]) is type(device["free"]) is int
        assert 0 <= device["free"] <= device["total"] != 0
    first = probe_device()
    assert {**first, "free": 0} == {**devices[0], "free": 0}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/meminfo")
def test_memory_is_in_bytes():
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    memory = 1024 * int(total.split()[1])
    assert memory / 100 < probe_devices()[-1]["total"] <= memory


@needs_linux
def test_several_cards(nvml):
    assert probed() == [RTX, H100]


@needs_linux
@pytest.mark.parametrize(("list", "names"), [
    ("1", ["GPU-bb22"]),
    ("1,0", ["GPU-bb22", "GPU-aa11"]),
    ("0,7,1", ["GPU-aa11"]),
    ("GPU-bb22", ["GPU-bb22"]),
    ("GPU-b", ["GPU-bb22"]),
    ("GPU-bb22,GPU-aa11", ["GPU-bb22", "GPU-aa11"]),
    ("-1", []),
    ("", []),
])  # fmt: skip
def test_cuda_visible_devices(nvml, monkeypatch, list, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", list)
    cards = probed()
    assert [card["uuid"] for card in cards] == names
    assert [card["index"] for card in cards] == [*range(len(names))]


@needs_linux
@pytest.mark.parametrize(
    "answer", ["init 9", "init 18", "init 999", "count 999", "card GPU-aa11 24000 20000 15 0 lost"]
)
def test_a_driver_that_answers_with_an_error(nvml, answer):
    nvml.answer(answer)
    assert probed() == []


@needs_linux
def test_a_card_that_falls_off_the_bus(nvml):
    nvml.answer("card GPU-aa11 24000 20000 0 15 lost\n" + CARDS.splitlines()[1])
    assert probed() == [H100]


@pytest.mark.skipif(has_real_cards, reason="this machine has cards of its own")
def test_without_any_library(monkeypatch):
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    result = run(*COMMAND, "--json")
    assert ([device["type"] for device in json.loads(result.stdout)], result.stderr) == (["cpu"], "")


@needs_linux
def test_the_table(nvml):
    nvml.answer(f"card GPU-aa11 {24 * 2**30} {20 * 2**30} 0 0 NVIDIA GeForce RTX 4090")
    card, cpu = run(*COMMAND).stdout.splitlines()
    assert card.split() == ["cuda:0", "20.0", "of", "24.0", "GiB", "free", "NVIDIA", "GeForce", "RTX", "4090"]
    assert cpu.startswith("cpu ")


def test_imports_no_torch():
    code = "import sys, comfy_auth_rs; comfy_auth_rs.probe_devices(); print(sorted(sys.modules))"
    assert not {"torch", "numpy", "pynvml"} & set(eval(run(sys.executable, "-c", code).stdout))


HANGING = """
import os, sys, threading, time
from comfy_auth_rs._core import DeviceSampler, probe_devices

def answer(text):
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(text)
    os.replace(sys.argv[1] + ".new", sys.argv[1])

def sample(within):
    start = time.perf_counter()
    devices = sampler.sample()
    assert time.perf_counter() - start < within, time.perf_counter() - start
    return devices

sampler, cards = DeviceSampler(), sys.argv[2]
assert sampler.fresh() is None
assert [device["type"] for device in sample(within=4)] == ["cpu"]
assert [device["type"] for device in sample(within=0.5)] == ["cpu"]  # nobody waits for the same flight again

# The interpreter is free while the driver is asked.
threading.Thread(target=probe_devices, daemon=True).start()
ticks, end = 0, time.perf_counter() + 0.2
while time.perf_counter() < end:
    ticks += 1
assert ticks > 1000

answer(cards)
while sampler.fresh() is None:
    time.sleep(0.01)
assert sampler.fresh()[0]["free"] == 20000
answer("hang\\n" + cards.replace("20000", "1"))
time.sleep(1.1)
assert sampler.fresh() is None
assert sample(within=4)[0]["free"] == 20000  # the last known
print("done", flush=True)
"""


@needs_linux
@pytest.mark.slow
def test_a_hanging_driver_delays_neither_the_answer_nor_the_end(nvml):
    nvml.answer(f"hang\n{CARDS}")
    with subprocess.Popen(
        [sys.executable, "-c", HANGING, nvml.environment["FAKE_NVML"], CARDS], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        start = time.perf_counter()
        assert process.wait(10) == 0
        assert time.perf_counter() - start < 2


# ---------------------------------------------------------------------------------------------------------------------
# The device that ComfyUI chose
#
# `comfy.model_management` tells which device ComfyUI uses. It needs torch, and torch needs a real card. So these tests
# use objects of the same shape instead.

CPU = Device(name="cpu", type="cpu", index=None, uuid=None, total=64000, free=32000)
MPS = Device(name="mps", type="mps", index=None, uuid=None, total=64000, free=32000)
ROCM = Device(name="AMD Instinct MI210", type="rocm", index=0, uuid="GPU-00aa", total=68000, free=60000)
OWN_FIGURES = {"name": "as torch calls it", "uuid": None, "total": 1111, "free": 111}


@pytest.fixture
def comfyui(monkeypatch):
    """Makes this process look like a ComfyUI that chose a device; `uuids` are those that torch reports."""

    def choose(type, index=None, uuids=None):
        device = SimpleNamespace(type=type, index=index)
        management = SimpleNamespace(
            get_torch_device=lambda: device,
            get_torch_device_name=lambda device: OWN_FIGURES["name"],
            get_total_memory=lambda device: OWN_FIGURES["total"],
            get_free_memory=lambda device: OWN_FIGURES["free"],
        )
        monkeypatch.setitem(sys.modules, "comfy.model_management", management)
        properties = (lambda device: SimpleNamespace(uuid=uuids[device.index])) if uuids else None
        cuda = SimpleNamespace(**({"get_device_properties": properties} if properties else {}))
        monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))

    return choose


def test_outside_comfyui_it_is_the_first():
    assert chosen_device([RTX, H100, CPU]) is RTX
    assert chosen_device([CPU]) is CPU


@pytest.mark.parametrize(("chosen", "devices", "expected"), [
    (("cpu",), [RTX, H100, CPU], CPU),
    (("mps",), [MPS, CPU], MPS),
    (("cuda", 0, ["aa11", "bb22"]), [RTX, H100, CPU], RTX),
    (("cuda", 1, ["aa11", "bb22"]), [RTX, H100, CPU], H100),
    # CUDA numbers the fastest card first; the driver goes by PCI order.
    (("cuda", 0, ["bb22", "aa11"]), [RTX, H100, CPU], H100),
    # Older versions of torch know no UUIDs. With a single card, that doesn't matter.
    (("cuda", 0), [RTX, CPU], RTX),
    (("cuda", None), [RTX, CPU], RTX),
    (("cuda", 0), [ROCM, CPU], {**ROCM, "type": "cuda"}),
])  # fmt: skip
def test_it_is_the_one_that_comfyui_chose(comfyui, chosen, devices, expected):
    comfyui(*chosen)
    assert chosen_device(devices) == expected


@pytest.mark.parametrize(("chosen", "devices"), [
    (("cuda", 0), [RTX, H100, CPU]),
    (("cuda", 1), [RTX, CPU]),
    (("cuda", 0, ["cc33"]), [RTX, H100, CPU]),
    (("cuda", 0, ["aa11"]), [CPU]),
    (("xpu", 0), [CPU]),
    (("privateuseone", 0), [CPU]),
    (("mps", None), [CPU]),
])  # fmt: skip
def test_where_the_probe_cannot_see_it_the_figures_are_comfyuis_own(comfyui, chosen, devices):
    comfyui(*chosen)
    assert chosen_device(devices) == {**OWN_FIGURES, "type": chosen[0], "index": chosen[1]}

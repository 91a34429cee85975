"""A stand-in for NVIDIA's library, for processes that probe: see tests/fixtures/nvml/fake_nvml.c."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "fixtures" / "nvml" / "fake_nvml.c"

#: As NVML lists them: sizes apart, so that a mix-up shows.
CARDS = """\
card GPU-aa11 24000 20000 0 0 NVIDIA GeForce RTX 4090
card GPU-bb22 80000 70000 0 0 NVIDIA H100 80GB HBM3
"""

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="the stand-in is found through LD_LIBRARY_PATH")


class FakeNvml:
    """The library, compiled into `folder`, and the file that says what it answers."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "nvml"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", SOURCE], check=True)
        #: With this, a process finds the library. The loader reads it once, when the process starts.
        self.environment = {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML": str(self._file)}

    def answer(self, text: str) -> None:
        """What it answers from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(text)
        new.replace(self._file)


def show_all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine hides of its own devices."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
